"""How many structures of each head a step has, and how many steps an epoch: exact fractions."""

import math
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.mixture_options import MixtureOptions
from gfm_pretrain.training_options import TrainingOptions

DEFAULT_BATCH_SIZE = 16
"""Structures of a head in a step where nothing is said."""
ARITHMETIC = Context(prec=50, rounding=ROUND_HALF_EVEN)
"""For roots of sizes: in decimal numbers, that every machine has the same."""
GOLDEN, PERIOD = 610, 987
"""Neighbours in Fibonacci's sequence: their ratio is the golden section to six digits."""
PARTS = 10**6
"""Of one, which these roots are rounded to, so that shares are fractions of whole numbers."""


def batch_sizes(
    mixture: MixtureOptions, heads: Mapping[str, HeadOptions], sizes: Mapping[str, int]
) -> dict[str, Fraction]:
    """Structures of each head in a step, on average.

    By size or temperature a head has batch_size · n^(1/T) / Σ n^(1/T) of them, n being its
    structures and T = 1 by size. What a step really has is a whole number, see `Deal`.
    Source: Devlin, multilingual BERT (2018), sampling by exponent; in this form Xue et al., mT5,
    NAACL 2021, section 3.1.

    Args:
        mixture: Who says how many.
        heads: Options of all heads.
        sizes: Training structures of each head, at least one.
    """
    if mixture.batch_size is None:
        return {
            name: Fraction(head.batch_size or DEFAULT_BATCH_SIZE) for name, head in heads.items()
        }
    weights = {name: _weight(sizes[name], mixture.temperature) for name in heads}
    total = sum(weights.values())
    return {name: Fraction(mixture.batch_size * w, total) for name, w in weights.items()}


def steps_per_epoch(
    epoch: str, batches: Mapping[str, Fraction], sizes: Mapping[str, int]
) -> Fraction:
    """Steps of one epoch, not rounded.

    Args:
        epoch: See `MixtureOptions`.
        batches: As `batch_sizes` gives them.
        sizes: Training structures of each head.
    """
    passes = {name: sizes[name] / batch for name, batch in batches.items()}
    if epoch == "all":
        return sum(sizes[name] for name in batches) / sum(batches.values(), Fraction(0))
    if epoch == "largest":
        return max(passes.values())
    return min(passes.values()) if epoch == "smallest" else passes[epoch]


def total_steps(training: TrainingOptions, epoch_steps: Fraction) -> int:
    """Steps of the run: those asked for, or as many as the epochs asked for take, rounded up."""
    if training.steps is not None:
        return training.steps
    # Through the digits that were written: 0.1 as a binary number is a little more than a tenth.
    return math.ceil(Fraction(repr(training.epochs)) * epoch_steps)


def n_dealt(step: int, batch_size: Fraction | int, phase: Fraction | int = 0) -> int:
    """How many structures of a head all steps before `step` have taken."""
    return math.floor(step * batch_size + phase)


def phases(heads: Iterable[str]) -> dict[str, Fraction]:
    """When in its first steps each head has the odd structure, as a part of one.

    Heads with equal fractions of structures would all have one in the same steps, and none in
    others. Multiples of the golden section, modulo one, lie as evenly in [0, 1) as can be, however
    many there are.
    Source: Knuth, The Art of Computer Programming 3, section 6.4 (1973).
    """
    return {name: Fraction(GOLDEN * n % PERIOD, PERIOD) for n, name in enumerate(heads)}


def _weight(size: int, temperature: float) -> int:
    """size^(1/temperature) in `PARTS`."""
    exponent = ARITHMETIC.divide(Decimal(1), Decimal(repr(temperature)))
    root = ARITHMETIC.power(Decimal(size), exponent)
    return round(ARITHMETIC.multiply(root, Decimal(PARTS)))
