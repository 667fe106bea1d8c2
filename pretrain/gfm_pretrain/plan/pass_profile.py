"""What one pass through the network takes besides time, measured on a made-up crystal here.

Memory and the order of events are the same on every device: the most that tensors take, the part
of a pass that the backward pass is, and when in it each gradient is complete.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import predict
from gfm_models.graph import AtomicGraph, build_graph
from gfm_models.heads import HeadConfig
from gfm_models.potential import MultiHeadPotential, build_potential
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor, nn

from gfm_pretrain.plan.parameters import NOBODY
from gfm_pretrain.plan.peak_memory import PeakMemory
from gfm_pretrain.reduction.buckets import fill_buckets

HEAD = "head"
CRYSTALS = ((3, 0.70), (3, 0.44), (4, 0.56), (5, 0.60))
"""Atoms along each edge of a cube of a simple cubic crystal, and its lattice constant in cutoffs.
They have 13 to 51 neighbours."""
LARGER_CRYSTALS = ((5, 0.60), (6, 0.56), (5, 0.44), (6, 0.46))
"""The same where edges are computed again in blocks: of several blocks each."""
N_TIMED = 3
"""Passes of which the fastest counts."""


@dataclass(frozen=True, kw_only=True)
class PassProfile:
    """A pass: energy, forces and the gradient of a loss."""

    bytes_per_atom: float
    """Memory of a pass."""
    bytes_per_edge: float
    """The same for a directed edge."""
    bytes_of_pass: float = 0.0
    """Memory of a pass whatever its size: coefficients of radial functions, and the edges that are
    computed again at once."""
    backward_part: float
    """Part of its time in which the gradient of the loss is computed, the rest being the energy
    and the forces."""
    ready_backbone: tuple[float, ...]
    """For each bucket of the backbone, after which part of the backward pass it is complete."""
    ready_head: tuple[float, ...]
    """The same for the head."""

    def activation_bytes(
        self, sizes: Float[np.ndarray, "passes 2"]
    ) -> Float[np.ndarray, " passes"]:
        """Memory of passes with so many atoms and edges."""
        n_bytes = sizes @ np.array([self.bytes_per_atom, self.bytes_per_edge])
        return n_bytes + self.bytes_of_pass * (n_bytes > 0)


def measure_pass(
    config: BackboneConfig,
    *,
    width: int,
    dtype: torch.dtype,
    bytes_per_bucket: int,
    block_edges: int | None = None,
) -> PassProfile:
    """Run a few passes of an untrained potential on this machine's CPU.

    Args:
        config: Architecture of the backbone.
        width: Of the head.
        dtype: Precision of the weights.
        bytes_per_bucket: As for the engine's reduction.
        block_edges: Edges that are computed again at once, None where all is kept.
    """
    described = HeadConfig(
        level_of_theory="", reference_energies={"Si": 0.0}, scales={"Si": 1.0}, width=width
    )
    potential = build_potential(config, {HEAD: described}, dtype=dtype)
    potential.backbone.recompute_in_blocks(block_edges)
    with one_thread():  # more would wait for one another where cores are busy
        return _measure(potential, bytes_per_bucket)


def _measure(potential: MultiHeadPotential, bytes_per_bucket: int) -> PassProfile:
    cutoff = potential.cutoff
    crystals = CRYSTALS if potential.backbone.block_edges is None else LARGER_CRYSTALS
    graphs = [_crystal(n, constant, cutoff) for n, constant in crystals]
    n_bytes = np.array([_peak_bytes(potential, graph) for graph in graphs])
    per_atom, per_edge, of_pass = _fit_bytes(graphs, n_bytes)
    complete = _record_gradients(potential)
    timed = [_time_pass(potential, graphs[-1], complete) for _ in range(N_TIMED)]
    part, when = min(timed, key=lambda found: found[0])[1:]

    def ready(module: nn.Module) -> tuple[float, ...]:
        buckets = fill_buckets(module.parameters(), NOBODY, bytes_per_bucket=bytes_per_bucket)
        return tuple(max(when[p] for p in bucket.parameters) for bucket in buckets)

    return PassProfile(
        bytes_per_atom=per_atom,
        bytes_per_edge=per_edge,
        bytes_of_pass=of_pass,
        backward_part=part,
        ready_backbone=ready(potential.backbone),
        ready_head=ready(potential.head(HEAD)),
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread meanwhile."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _crystal(n: int, constant: float, cutoff: float) -> AtomicGraph:
    """A cube of silicon atoms on a simple cubic lattice, each moved a little."""
    spacing = constant * cutoff
    cube = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(-1, 3)
    moved = spacing * (cube + np.random.default_rng(0).normal(0, 0.05, cube.shape))
    return build_graph(
        np.full(len(cube), 14),
        moved,
        cell=n * spacing * np.eye(3),
        pbc=np.ones(3, dtype=bool),
        cutoff=cutoff,
    )


def _loss(potential: MultiHeadPotential, graph: AtomicGraph) -> Tensor:
    prediction = predict(potential, graph, HEAD, create_graph=True)
    return prediction.energy.square().sum() + prediction.forces.square().sum()


def _peak_bytes(potential: MultiHeadPotential, graph: AtomicGraph) -> int:
    """Most memory of the tensors of a pass; those that stay, gradients of weights, included."""
    potential.zero_grad(set_to_none=True)
    with PeakMemory() as memory:
        _loss(potential, graph).backward()
    return memory.peak


def _fit_bytes(
    graphs: Sequence[AtomicGraph], n_bytes: Float[np.ndarray, " graphs"]
) -> tuple[float, float, float]:
    """Bytes of an atom, of an edge, and of any pass, by least squares of relative residuals."""
    sizes = np.array([[g.n_nodes, g.n_edges, 1.0] for g in graphs])
    relative = sizes / n_bytes[:, None]
    found, _ = nnls(relative, np.ones(len(graphs)))
    return float(found[0]), float(found[1]), float(found[2])


def _record_gradients(potential: MultiHeadPotential) -> dict[nn.Parameter, float]:
    """Where the time at which the gradient of each weight is complete will be written."""
    complete: dict[nn.Parameter, float] = {}
    for parameter in potential.parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda tensor: complete.__setitem__(tensor, time.perf_counter())
        )
    return complete


def _time_pass(
    potential: MultiHeadPotential, graph: AtomicGraph, complete: dict[nn.Parameter, float]
) -> tuple[float, float, dict[nn.Parameter, float]]:
    """Seconds of a pass, the part of the backward pass, and when in it each gradient is there."""
    potential.zero_grad(set_to_none=True)
    start = time.perf_counter()
    loss = _loss(potential, graph)
    middle = time.perf_counter()
    loss.backward()
    end = time.perf_counter()
    when = {p: (t - middle) / (end - middle) for p, t in complete.items()}
    return end - start, (end - middle) / (end - start), when
