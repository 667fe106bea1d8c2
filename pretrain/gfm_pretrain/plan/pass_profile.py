"""What one pass through the network takes besides time, measured on a made-up crystal here.

Memory and the order of events are the same on every device: the tensors that autograd saves, the
part of a pass that the backward pass is, and when in it each gradient is complete.
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
from torch import Tensor, nn

from gfm_pretrain.plan.parameters import NOBODY
from gfm_pretrain.reduction.buckets import fill_buckets

HEAD = "head"
TEMPORARIES = 1.06
"""Largest memory of a pass over what autograd saves: 1.05 to 1.07 by torch's profiler, for 64 to
216 atoms of 13 to 50 neighbours."""
CRYSTALS = ((3, 0.70), (3, 0.44), (4, 0.56))
"""Atoms along each edge of a cube of a simple cubic crystal, and its lattice constant in cutoffs.
They have 13 to 51 neighbours."""
N_TIMED = 3
"""Passes of which the fastest counts."""


@dataclass(frozen=True, kw_only=True)
class PassProfile:
    """A pass: energy, forces and the gradient of a loss."""

    bytes_per_atom: float
    """Memory of a pass."""
    bytes_per_edge: float
    """The same for a directed edge."""
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
        return sizes @ np.array([self.bytes_per_atom, self.bytes_per_edge])


def measure_pass(
    config: BackboneConfig, *, width: int, dtype: torch.dtype, bytes_per_bucket: int
) -> PassProfile:
    """Run a few passes of an untrained potential on this machine's CPU.

    Args:
        config: Architecture of the backbone.
        width: Of the head.
        dtype: Precision of the weights.
        bytes_per_bucket: As for the engine's reduction.
    """
    described = HeadConfig(
        level_of_theory="", reference_energies={"Si": 0.0}, scales={"Si": 1.0}, width=width
    )
    with one_thread():  # more would wait for one another where cores are busy
        return _measure(build_potential(config, {HEAD: described}, dtype=dtype), bytes_per_bucket)


def _measure(potential: MultiHeadPotential, bytes_per_bucket: int) -> PassProfile:
    cutoff = potential.cutoff
    graphs = [_crystal(n, constant, cutoff) for n, constant in CRYSTALS]
    per_atom, per_edge = _fit_bytes(graphs, [_saved_bytes(potential, g) for g in graphs])
    complete = _record_gradients(potential)
    timed = [_time_pass(potential, graphs[-1], complete) for _ in range(N_TIMED)]
    part, when = min(timed, key=lambda found: found[0])[1:]

    def ready(module: nn.Module) -> tuple[float, ...]:
        buckets = fill_buckets(module.parameters(), NOBODY, bytes_per_bucket=bytes_per_bucket)
        return tuple(max(when[p] for p in bucket.parameters) for bucket in buckets)

    return PassProfile(
        bytes_per_atom=TEMPORARIES * per_atom,
        bytes_per_edge=TEMPORARIES * per_edge,
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


def _saved_bytes(potential: MultiHeadPotential, graph: AtomicGraph) -> int:
    """Bytes of the tensors that autograd keeps until the gradient of the loss is computed."""
    kept: dict[int, Tensor] = {}  # by address, which stays taken as long as the tensor is here

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _loss(potential, graph)
    weights = {p.untyped_storage().data_ptr() for p in potential.parameters()}
    return sum(t.untyped_storage().nbytes() for a, t in kept.items() if a not in weights)


def _fit_bytes(graphs: Sequence[AtomicGraph], n_bytes: Sequence[int]) -> tuple[float, float]:
    """Bytes of an atom and of an edge, by least squares of the relative residuals."""
    sizes = np.array([[graph.n_nodes, graph.edge_index.shape[1]] for graph in graphs], dtype=float)
    relative = sizes / np.array(n_bytes)[:, None]
    per_atom, per_edge = np.linalg.lstsq(relative, np.ones(len(graphs)), rcond=None)[0]
    return float(per_atom), float(per_edge)


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
