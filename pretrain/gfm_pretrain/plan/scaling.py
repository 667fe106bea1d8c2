"""Strong and weak scaling: the same prediction for growing numbers of ranks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

from gfm_pretrain.plan.machine import CASES, Case
from gfm_pretrain.plan.prediction import Prediction, Question, predict_all
from gfm_pretrain.plan.strategy import STRATEGIES
from gfm_pretrain.plan.workload import Workload
from gfm_pretrain.table import text_table

BASELINE = "ddp"
"""The strategy that efficiency is relative to: it needs fewest passes, and where there is one rank
it sends nothing and is perfectly balanced."""
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How a run scales on a machine."""

    kind: Literal["strong", "weak"]
    """Strong: the same global batch on more ranks. Weak: the same batch on each rank."""
    question: Question
    """What was asked."""
    predictions: Mapping[str, tuple[Prediction, ...]]
    """By strategy, for growing numbers of ranks."""

    def efficiency(self, strategy: str, case: Case) -> list[float]:
        """Structures per second and rank, over those of DDP on the fewest ranks.

        One reference for all: relative to its own, a strategy that begins slowly would look best.
        """
        reference = self.predictions[BASELINE][0].rate(case)
        return [prediction.rate(case) / reference for prediction in self.predictions[strategy]]


def scale(
    workload: Workload,
    question: Question,
    numbers: Sequence[int],
    *,
    kind: Literal["strong", "weak"],
    batch_size: Fraction,
) -> Scaling:
    """Predict for every number of ranks.

    Args:
        workload: The run; its mixture is kept, its batch is not.
        question: What is asked.
        numbers: Ranks, ascending.
        kind: What stays the same.
        batch_size: Structures in a step: over all ranks, or for weak scaling on each.
    """
    found: dict[str, list[Prediction]] = {name: [] for name in STRATEGIES}
    for n_ranks in numbers:
        batch = batch_size * n_ranks if kind == "weak" else batch_size
        scaled = workload.scaled(batch / workload.batch_size)
        for prediction in predict_all(scaled, question, n_ranks):
            found[prediction.strategy].append(prediction)
    predictions = {name: tuple(of_strategy) for name, of_strategy in found.items()}
    return Scaling(kind=kind, question=question, predictions=predictions)


def parse_numbers(text: str, *, ranks_per_node: int) -> list[int]:
    """`8-40000`, as `rank_numbers` spreads them, or a list such as `8,64,1280`.

    Raises:
        ValueError: neither, or numbers that are not positive and ascending.
    """
    try:
        first, dash, last = text.partition("-")
        if dash:
            ends = [int(first), int(last)]
            numbers = ends if ends[0] < 1 else rank_numbers(*ends, ranks_per_node=ranks_per_node)
        else:
            numbers = ends = [int(number) for number in text.split(",")]
    except ValueError:
        numbers = ends = [0]
    if min(ends) < 1 or sorted(set(ends)) != ends:
        raise ValueError(
            f"--devices must be a range such as 8-40000 or a list such as 8,64,1280, got '{text}'"
        )
    return numbers


def rank_numbers(first: int, last: int, *, ranks_per_node: int) -> list[int]:
    """Powers of two below a node, then nodes by powers of two, and the last number itself."""
    numbers, n_ranks = set(), 1
    while n_ranks < ranks_per_node:
        numbers.add(n_ranks)
        n_ranks *= 2
    n_ranks = ranks_per_node
    while n_ranks < last:
        numbers.add(n_ranks)
        n_ranks *= 2
    return sorted(n for n in numbers | {first, last} if first <= n <= last)


def scaling_table(scaling: Scaling) -> str:
    """A row for each strategy and number of ranks; likely values, and bands in brackets."""
    rows = []
    for name, predictions in scaling.predictions.items():
        bands = [scaling.efficiency(name, case) for case in CASES]
        for row, p in enumerate(predictions):
            efficiency = with_band([band[row] for band in bands], ".2f")
            rows.append((name, p.n_ranks, f"{p.batch_size:.6g}", efficiency, *prediction_cells(p)))
    return text_table(("strategy", "ranks", "batch", "efficiency", *CELLS), rows)


CELLS = (
    *("step ms", "balance", "wait ms", "sums ms", "exposed ms"),
    *("MB sent", "parameters", "state MiB", "pass MiB", "steps"),
)
"""Titles of what `prediction_cells` shows."""


def prediction_cells(p: Prediction) -> tuple[object, ...]:
    """Likely values of a prediction, with bands where they matter most."""
    return (
        with_band([1e3 * p.mean(case, "seconds") for case in CASES], ".3g"),
        f"{p.mean('likely', 'balance'):.2f}",
        f"{1e3 * p.mean('likely', 'wait'):.2g}",
        f"{1e3 * p.mean('likely', 'communication'):.2g}",
        with_band([1e3 * p.mean(case, "exposed") for case in CASES], ".2g"),
        f"{p.bytes_sent / 1e6:,.2f}",
        f"{p.parameters_per_rank:,}",
        f"{p.state_bytes / MIB:,.1f}",
        f"{p.activation_bytes / MIB:,.0f}",
        len(p.steps["likely"]),
    )


def with_band(values: Sequence[float], form: str) -> str:
    """`likely (least–greatest)`, or one number where all are the same."""
    texts = [format(value, form) for value in (values[1], min(values), max(values))]
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} ({texts[1]}–{texts[2]})"


def scaling_facts(scaling: Scaling) -> dict[str, Any]:
    """Everything in plain types, for JSON."""
    question = scaling.question
    return {
        "kind": scaling.kind,
        "machine": asdict(question.machine),
        "cost": asdict(question.cost),
        "pass": asdict(question.profile),
        "jitter": asdict(question.jitter),
        "predictions": [
            facts
            for name, predictions in scaling.predictions.items()
            for facts in _prediction_facts(scaling, name, predictions)
        ],
    }


def _prediction_facts(
    scaling: Scaling, name: str, predictions: Sequence[Prediction]
) -> Iterator[dict[str, Any]]:
    efficiency = {case: scaling.efficiency(name, case) for case in CASES}
    for row, prediction in enumerate(predictions):
        yield {
            "strategy": name,
            "n_ranks": prediction.n_ranks,
            "batch_size": prediction.batch_size,
            "efficiency": {case: efficiency[case][row] for case in CASES},
            "parameters_per_rank": prediction.parameters_per_rank,
            "state_bytes": prediction.state_bytes,
            "activation_bytes": prediction.activation_bytes,
            "bytes_sent": prediction.bytes_sent,
            "steps": {case: [asdict(t) for t in prediction.steps[case]] for case in CASES},
        }
