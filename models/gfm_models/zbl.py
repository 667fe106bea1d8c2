"""Screened nuclear repulsion: keeps atoms apart where there was no data."""

import torch
from ase.data import covalent_radii
from jaxtyping import Float
from torch import Tensor, nn

from gfm_models.graph import MAX_ATOMIC_NUMBER, AtomicGraph
from gfm_models.kernels.from_vectors import Surroundings
from gfm_models.kernels.structure import PairRepulsion, add_repulsion
from gfm_models.layers.radial import cutoff_envelope

COULOMB = 14.399645478425668
"""e² / (4 π ε0) in eV Å (CODATA 2018)."""

SCREENING_LENGTH = 0.8854 * 0.529177210903
"""Å; divided by Z_i^0.23 + Z_j^0.23."""

SCREENING_POWER = 0.23

AMPLITUDES = (0.18175, 0.50986, 0.28022, 0.02817)
EXPONENTS = (3.19980, 0.94229, 0.40290, 0.20162)


class ZBL(nn.Module):
    """Half a pair energy for each atom of a pair, smoothly zero where atoms are mere neighbours.

        E_ij = k Z_i Z_j / r φ(r / a) envelope(r / min(x (c_i + c_j), cutoff)),
        φ(x) = Σ_k A_k exp(-B_k x)

    symbol → variable: x → reach, a → screening, c → covalent radius (ASE's table), A → AMPLITUDES,
    B → EXPONENTS. With x = 1 bonds are compressed by eV/Å that a network has to learn to cancel,
    for every pair of elements; below 0.7 no structure of the usual data sets has a pair to speak
    of (benchmarks/RESULTS.md).

    Source: Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter (1985), eqs.
    2-59 to 2-61.
    """

    def __init__(self, *, cutoff: float, reach: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        radii = reach * torch.tensor(covalent_radii[: MAX_ATOMIC_NUMBER + 1], dtype=torch.float64)
        self.register_buffer("radii", radii, persistent=False)

    def forward(
        self, graph: AtomicGraph, edge_vectors: Float[Tensor, "edges 3"]
    ) -> Float[Tensor, " nodes"]:
        """Repulsion energy of every atom in eV, float64."""
        distances = torch.linalg.vector_norm(edge_vectors, dim=-1).double()
        z, receivers = graph.atomic_numbers[graph.edge_index], graph.receivers
        reach = self.get_buffer("radii")[z].sum(0).clamp(max=self.cutoff)
        # Most structures have no pair that is so close. To know it one would wait for a device, and
        # neither its graphs nor those of torch.compile can hold what depends on it.
        if distances.is_cpu and not torch.compiler.is_compiling():
            close = (distances < reach).nonzero()[:, 0]
            distances, z, receivers = distances[close], z[:, close], receivers[close]
            reach = reach[close]
        charge = z.double()
        screening = SCREENING_LENGTH / (charge**SCREENING_POWER).sum(0)
        x = distances / screening
        phi = sum(a * torch.exp(-b * x) for a, b in zip(AMPLITUDES, EXPONENTS, strict=True))
        pair = COULOMB * charge.prod(0) / distances * phi * cutoff_envelope(distances, reach)
        return pair.new_zeros(graph.n_nodes).index_add(0, receivers, pair / 2)

    def with_gradient(
        self,
        graph: AtomicGraph,
        around: Surroundings,
        *,
        to_vectors: Float[Tensor, "edges 3"],
    ) -> Float[Tensor, " nodes"]:
        """The same for inference; adds the gradient of the sum to `to_vectors`."""
        numbers = PairRepulsion(
            cutoff=self.cutoff,
            coulomb=COULOMB,
            screening_length=SCREENING_LENGTH,
            screening_power=SCREENING_POWER,
            amplitudes=AMPLITUDES,
            exponents=EXPONENTS,
            radii=self.get_buffer("radii"),
        )
        return add_repulsion(numbers, graph, around, to_vectors=to_vectors)
