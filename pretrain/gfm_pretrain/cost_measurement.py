"""Timing of a few passes of the run's own data, from which the cost of a step is fitted."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from gfm_models.derivatives import predict
from gfm_models.graph import AtomicGraph
from gfm_models.loss import Labels, LossConfig, label_counts, loss_sums, weighted_loss
from gfm_models.potential import MultiHeadPotential
from jaxtyping import Float

from gfm_pretrain.cost import StepCost, fit_cost
from gfm_pretrain.data.batch import build_batch
from gfm_pretrain.data.structure_set import Places, StructureSet
from gfm_pretrain.process import World, broadcast_object, gather_objects

MOST_HEADS = 4
"""Heads that one rank times passes of: those with fewest and most edges per atom, and between."""
PARTS_OF_PASS = (0.0, 1 / 16, 1 / 4, 1.0)
"""Sizes of the passes in `micro_batch_edges`; the first has one structure."""
REPETITIONS = 3
"""Of which the shortest counts."""
LONGEST = 0.25
"""Seconds; of a head no pass is timed that would take longer than about this."""
SAMPLE = 4096
"""Structures of a head that passes are chosen from."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A head that passes can be timed of."""

    name: str
    """Of the head; the potential has it."""
    structures: StructureSet
    """Of its training set."""
    unit: float
    """Its force scale in eV/Å."""


def measure_cost(
    potential: MultiHeadPotential,
    candidates: Sequence[Candidate],
    *,
    loss: LossConfig,
    micro_batch_edges: int,
    world: World,
) -> StepCost | None:
    """Time passes on every rank that has data, and fit one cost to all of them.

    Call on every rank; all get the same. Passes of all heads take part whichever rank has them, for
    those of one head alone often have as many edges per atom in every structure. Gradients of the
    potential are overwritten.

    Args:
        potential: With the heads of the candidates.
        candidates: On this rank; there may be none.
        loss: Weights of its terms.
        micro_batch_edges: Most edges of a pass.
        world: All ranks.

    Returns:
        None where no rank has a structure with edges.
    """
    mine = time_passes(potential, candidates, loss=loss, micro_batch_edges=micro_batch_edges)
    timings = np.concatenate(gather_objects(world, mine))
    timings = timings[timings[:, 1] > 0]
    fitted = fit_cost(timings) if world.rank == 0 and len(timings) else None
    return broadcast_object(world, fitted)


def time_passes(
    potential: MultiHeadPotential,
    candidates: Sequence[Candidate],
    *,
    loss: LossConfig,
    micro_batch_edges: int,
) -> Float[np.ndarray, "passes 3"]:
    """Atoms, edges and shortest seconds of passes of different size and composition."""
    device = next(potential.parameters()).device
    timings: list[tuple[int, int, float]] = []
    for candidate in _spread(candidates, potential.cutoff):
        for places in _growing(candidate.structures, potential.cutoff, micro_batch_edges):
            columns = candidate.structures.read(places)
            graph, labels = build_batch(columns, cutoff=potential.cutoff, device=device)
            if timings and _expected(timings, graph) > LONGEST:
                break
            run = _pass(potential, candidate, graph, labels, loss)
            if not timings:
                run()  # a first pass takes what later ones find done
            seconds = min(_seconds_of(run, device) for _ in range(REPETITIONS))
            timings.append((graph.n_nodes, graph.n_edges, seconds))
    return np.array(timings, dtype=np.float64).reshape(-1, 3)


def _spread(candidates: Sequence[Candidate], cutoff: float) -> list[Candidate]:
    """At most `MOST_HEADS`, evenly from fewest to most edges per atom."""
    ordered = sorted(candidates, key=lambda c: (_edges_per_atom(c.structures, cutoff), c.name))
    chosen = np.linspace(0, len(ordered) - 1, min(MOST_HEADS, len(ordered)))
    return [ordered[i] for i in np.rint(chosen).astype(int)]


def _edges_per_atom(structures: StructureSet, cutoff: float) -> float:
    index, places = structures.index(cutoff), _sample(structures)
    return float(index.edges(places).sum() / index.n_atoms(places).sum())


def _sample(structures: StructureSet) -> Places:
    """Evenly spaced structures, in an order that does not follow the file's."""
    places = np.arange(0, len(structures), max(1, len(structures) // SAMPLE))
    return np.random.default_rng(0).permutation(places)


def _growing(structures: StructureSet, cutoff: float, micro_batch_edges: int) -> Iterator[Places]:
    """Structures of passes of ever more edges, at least one structure each."""
    places = _sample(structures)
    ends = np.cumsum(structures.index(cutoff).edges(places))
    n_before = 0
    for part in PARTS_OF_PASS:
        n = max(1, int(np.searchsorted(ends, part * micro_batch_edges, side="right")))
        if n > n_before:
            yield places[:n]
        n_before = n


def _expected(timings: Sequence[tuple[int, int, float]], graph: AtomicGraph) -> float:
    """Seconds of a pass, in proportion to the atoms and edges of the largest so far."""
    n_atoms, n_edges, seconds = max(timings, key=lambda t: t[1])
    return seconds * (graph.n_nodes + graph.n_edges) / (n_atoms + n_edges)


def _pass(
    potential: MultiHeadPotential,
    candidate: Candidate,
    graph: AtomicGraph,
    labels: Labels,
    loss: LossConfig,
) -> Callable[[], None]:
    """The forward and backward pass of a batch, as the engine does them."""
    counts = label_counts(labels)

    def run() -> None:
        potential.zero_grad(set_to_none=True)
        prediction = predict(potential, graph, candidate.name, create_graph=True)
        sums = loss_sums(prediction, labels, graph, unit=candidate.unit, delta=loss.delta)
        weighted_loss(sums, counts, loss).backward()

    return run


def _seconds_of(run: Callable[[], None], device: torch.device) -> float:
    """Wall time; of one thread on a CPU its own time, that others on its core do not disturb."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    start = clock()
    run()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return clock() - start
