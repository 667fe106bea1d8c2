"""A head: what turns the shared node features into the energy of one fidelity."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isfinite

import torch
from ase.data import atomic_numbers as number_of
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor, nn

from gfm_models.graph import MAX_ATOMIC_NUMBER
from gfm_models.layers.mixing import linear

HEAD_WIDTH = 64

FIRST_GAIN = 0.1
"""Size of an untrained head's answers: small, so that training starts from "nothing happens"."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """One fidelity: what it is, which elements it knows, and its units of energy."""

    level_of_theory: str
    """Such as `PBE/def2-SVP`."""

    reference_energies: Mapping[str, float]
    """E0 of each element the head knows, by chemical symbol, in eV."""

    scales: Mapping[str, float]
    """Per element, the size of force components in eV/Å: the unit of what the network learns."""

    reference_origin: str = ""
    """Where the reference energies came from, in one sentence."""

    description: str = ""
    """What the head is good for, in one sentence."""

    source: str = ""
    """The data set as published."""

    licence: str = ""
    """Licence of the data."""

    citation: str = ""
    """How the data wants to be cited."""

    labels: tuple[str, ...] = ()
    """Which of energy, forces, stress the training data had."""

    width: int = HEAD_WIDTH
    """Hidden width of the readout."""

    stale: bool = False
    """Whether the backbone was trained on without this head: its errors have grown."""

    def __post_init__(self) -> None:
        """Check that every element is one, and has a scale.

        Raises:
            ValueError: naming the element.
        """
        for symbol in self.reference_energies:
            if number_of.get(symbol, 0) < 1:
                raise ValueError(f"'{symbol}' is no chemical symbol (in reference_energies)")
        if set(self.scales) != set(self.reference_energies):
            different = sorted(set(self.scales) ^ set(self.reference_energies))
            raise ValueError(
                f"scales and reference_energies must name the same elements, differ in {different}"
            )
        for symbol, energy in self.reference_energies.items():
            if not isfinite(energy):
                raise ValueError(f"reference energy of {symbol} must be finite, got {energy}")
            if not 0 <= self.scales[symbol] < inf:
                raise ValueError(
                    f"scale of {symbol} must be finite and not negative, got {self.scales[symbol]}"
                )
        if not 1 <= self.width <= 4096:
            raise ValueError(f"width of a head must lie in 1 to 4096, got {self.width}")

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols the head knows, by atomic number."""
        return tuple(sorted(self.reference_energies, key=number_of.__getitem__))


class Head(nn.Module):
    """E_i = E0(Z_i) + scale(Z_i) · readout(features_i).

    The readout has no bias: an atom without neighbours, whose features are zero, has exactly E0.
    """

    def __init__(
        self, config: HeadConfig, *, n_features: int, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.config = config
        self.readout = nn.Sequential(
            linear(n_features, config.width, bias=False, dtype=dtype),
            nn.SiLU(),
            linear(config.width, 1, bias=False, gain=FIRST_GAIN, dtype=dtype),
        )
        for name, table in (
            ("reference_energies", config.reference_energies),
            ("scales", config.scales),
        ):
            self.register_buffer(name, _by_atomic_number(table), persistent=False)

    def forward(
        self, features: Float[Tensor, "nodes features"], atomic_numbers: Int[Tensor, " nodes"]
    ) -> Float[Tensor, " nodes"]:
        """Energy of every atom in eV, float64."""
        learned = self.readout(features)[:, 0].double()
        reference = self.get_buffer("reference_energies")[atomic_numbers]
        return reference + self.get_buffer("scales")[atomic_numbers] * learned

    def units(
        self, features: Float[Tensor, "nodes features"], atomic_numbers: Int[Tensor, " nodes"]
    ) -> Float[Tensor, "nodes width"]:
        """What the last layer sums: energies in eV of its inputs for weights of one, float64."""
        scales = self.get_buffer("scales")[atomic_numbers]
        return scales[:, None] * self.readout[:-1](features).double()

    @property
    def last_layer(self) -> nn.Parameter:
        """Weights that `units` are summed with, [1, width]."""
        return self.readout.get_parameter("2.weight")

    def with_gradient(
        self, features: Float[Tensor, "nodes features"], atomic_numbers: Int[Tensor, " nodes"]
    ) -> tuple[Float[Tensor, " nodes"], Float[Tensor, "nodes features"]]:
        """The same, and the gradient of the sum of the energies by the features."""
        first, last = self.readout.get_parameter("0.weight"), self.last_layer
        scales = self.get_buffer("scales")[atomic_numbers]
        hidden = features @ first.T
        learned = (nn.functional.silu(hidden) @ last[0]).double()
        reference = self.get_buffer("reference_energies")[atomic_numbers]
        to_active = torch.outer(scales.to(features.dtype), last[0])
        to_hidden = torch.ops.aten.silu_backward(to_active, hidden)
        return reference + scales * learned, to_hidden @ first


def check_elements(config: HeadConfig, atomic_numbers: Iterable[int], *, head: str) -> None:
    """Refuse species that a head never saw.

    Raises:
        ValueError: naming the unknown elements and the known ones.
    """
    present = {chemical_symbols[int(z)] for z in atomic_numbers}
    unknown = present - set(config.reference_energies)
    if unknown:
        raise ValueError(
            f"head '{head}' does not know {', '.join(sorted(unknown))}; "
            f"it knows {', '.join(config.elements)}"
        )


def _by_atomic_number(table: Mapping[str, float]) -> Float[Tensor, " elements"]:
    values = torch.zeros(MAX_ATOMIC_NUMBER + 1, dtype=torch.float64)
    for symbol, value in table.items():
        values[number_of[symbol]] = value
    return values
