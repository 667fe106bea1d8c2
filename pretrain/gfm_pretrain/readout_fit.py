"""The last layer of every readout, solved for by least squares when training is over.

Gradients of small batches leave energies further from their best than anything else: a structure
has one energy and hundreds of forces. The weights of the last layer, some dozens in which
predictions are linear, can be had without gradients, from sums over many structures at once. Only
averaged weights change, which are what is published; training could go on from where it was.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from gfm_models.derivatives import predict, predict_unit_energies, predict_units
from gfm_models.graph import AtomicGraph, n_atoms_of
from gfm_models.loss import LABEL_KINDS, Labels, labelled, residuals
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gfm_pretrain.data.batch import build_batch
from gfm_pretrain.data.sampler import dealt_places
from gfm_pretrain.data.structure_set import Index, Places
from gfm_pretrain.packing.passes import split_by_size
from gfm_pretrain.preemption import LeftEarlyError
from gfm_pretrain.process import all_reduce_sum, broadcast_object
from gfm_pretrain.readout_solution import FOLDS, Solution, solve
from gfm_pretrain.table import text_table
from gfm_pretrain.trainer import Trainer

FEWEST_STRUCTURES = 50
"""Of a training set; fewer say too little about some dozens of weights."""
MOST_STRUCTURES = 5000
"""That are looked at; more would change the weights by less than they are known."""
ATOMS_WITH_FORCES = 4000
"""Of these, whose forces and stresses are looked at as well: 12 000 components for some dozens of
weights, a second or so for every thousand atoms on a core."""

KINDS = len(LABEL_KINDS)
IMPORTANCE = np.array([1.0, 2.0, 0.5])
"""Of relative errors of energies, forces and stresses. On nickel, after six minutes, this took a
third off energies and added a twentieth to forces (benchmarks/RESULTS.md, "Elements of Zuo")."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Share:
    """Structures of one head's training set that this rank looks at."""

    head: str
    places: Places
    folds: Int[np.ndarray, " places"]
    """In which part each is."""
    with_forces: Bool[np.ndarray, " places"]
    """Whether forces and stresses are looked at."""


def fit_readouts(trainer: Trainer) -> dict[str, Solution | None]:
    """Solve for the last layer of each head with enough structures. Call on every rank.

    A head is left as it is where cross-validation says that it would not get better: None.

    Raises:
        LeftEarlyError: some rank was asked to stop meanwhile; the same on every rank.
    """
    summaries, potential = trainer.setup.summaries, trainer.potential
    widths = {
        name: summary.config.width
        for name, summary in summaries.items()
        if len(summary.indices["train"]) >= FEWEST_STRUCTURES
    }
    shares = {name: _share(trainer, name) for name in widths if name in trainer.setup.data}
    with trainer.weights.average.average_parameters(), trainer.reduction.gathered():
        errors = {name: _absolute_errors(trainer, share) for name, share in shares.items()}
        shapes = dict.fromkeys(widths, (2, KINDS))
        scales = {
            name: (of_head[0] / of_head[1].clamp(min=1)).to(trainer.world.device)
            for name, of_head in _summed(trainer, errors, shapes).items()
        }
        sums = {name: _squares(trainer, share, scales[name]) for name, share in shares.items()}
        shapes = {name: (FOLDS, KINDS, (width + 1) ** 2 + 1) for name, width in widths.items()}
        totals = _summed(trainer, sums, shapes)
    found = broadcast_object(trainer.world, _solutions(trainer, totals))
    for name, solution in found.items():
        if solution is not None and name in trainer.setup.data:
            layer = potential.head(name).last_layer
            trainer.weights.add_to_average(layer, torch.from_numpy(solution.change)[None])
    return found


def fit_table(found: Mapping[str, Solution | None]) -> str:
    """What was found, a line for each head."""
    return text_table(
        ("head", "ridge", *LABEL_KINDS),
        [
            (name, "as it was", *["-"] * KINDS)
            if fit is None
            else (name, f"{fit.ridge:g}", *(_percent(ratio) for ratio in fit.held_out))
            for name, fit in found.items()
        ],
    )


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * (ratio - 1):+.0f} %"


def _share(trainer: Trainer, name: str) -> _Share:
    """The structures are a random sample, the same for any number of ranks."""
    index, owners = trainer.setup.summaries[name].indices["train"], trainer.setup.owners[name]
    places, with_forces = _sample(index, seed=trainer.config.seed, name=name)
    mine = np.arange(owners.index(trainer.world.rank), len(places), len(owners))
    return _Share(head=name, places=places[mine], folds=mine % FOLDS, with_forces=with_forces[mine])


def _sample(index: Index, *, seed: int, name: str) -> tuple[Places, Bool[np.ndarray, " places"]]:
    n_structures = len(index)
    dealt = range(min(n_structures, MOST_STRUCTURES))
    places = dealt_places(dealt, seed=seed, key=f"readout/{name}", n_structures=n_structures)
    n_atoms = index.n_atoms(places)
    before = np.cumsum(n_atoms) - n_atoms
    return places, (before < ATOMS_WITH_FORCES) | (np.arange(len(places)) < 2 * FOLDS)


def _batches(
    trainer: Trainer, share: _Share, *, what: str, chosen: Bool[np.ndarray, " places"]
) -> Iterable[tuple[AtomicGraph, Labels, Int[Tensor, " graphs"]]]:
    """Batches of those chosen, with their folds; none after this rank was asked to stop."""
    potential, device = trainer.potential, trainer.world.device
    structures = trainer.setup.data[share.head]["train"]
    places, folds = share.places[chosen], torch.from_numpy(share.folds[chosen]).to(device)
    n_edges = structures.index(potential.cutoff).edges(places)
    for part in split_by_size(n_edges, trainer.config.training.micro_batch_edges):
        if not trainer.goes_on_with(f"{what} of {share.head}"):
            return
        columns = structures.read(places[part])
        yield (*build_batch(columns, cutoff=potential.cutoff, device=device), folds[part])


def _absolute_errors(trainer: Trainer, share: _Share) -> Float[Tensor, "2 kinds"]:
    """Sums of absolute errors, as the loss knows them, and numbers of components."""
    sums = torch.zeros(2, KINDS, dtype=torch.float64, device=trainer.world.device)
    everything = np.ones(len(share.places), dtype=bool)
    for graph, labels, _ in _batches(trainer, share, what="errors", chosen=everything):
        prediction = predict(trainer.potential, graph, share.head)
        found = zip(residuals(prediction, labels, graph), labelled(labels, graph), strict=True)
        for kind, (errors, known) in enumerate(found):
            sums[0, kind] += errors.abs().sum()
            sums[1, kind] += known.sum() * errors[0].numel()
    return sums


def _squares(
    trainer: Trainer, share: _Share, scales: Float[Tensor, " kinds"]
) -> Float[Tensor, "folds kinds sums"]:
    """What `readout_solution.solve` wants: squares, and after them the sum of weights."""
    width = trainer.potential.head(share.head).config.width
    sums = torch.zeros(
        FOLDS, KINDS, (width + 1) ** 2 + 1, dtype=torch.float64, device=trainer.world.device
    )
    for rows_of, chosen in ((_all_rows, share.with_forces), (_energy_rows, ~share.with_forces)):
        for graph, labels, folds in _batches(trainer, share, what="readout", chosen=chosen):
            for kind, (rows, structure) in enumerate(rows_of(trainer, share.head, graph, labels)):
                weights = 1 / rows[:, -1].abs().clamp(min=scales[kind].clamp(min=1e-12))
                for fold in range(FOLDS):
                    here = folds[structure] == fold
                    weighted = rows[here] * weights[here, None]
                    sums[fold, kind, :-1] += (weighted.T @ rows[here]).flatten()
                    sums[fold, kind, -1] += weights[here].sum()
    return sums


Rows = tuple[Float[Tensor, "rows width_and_1"], Int[Tensor, " rows"]]
"""What each weight adds, and the error last; the structure of each row."""


def _all_rows(trainer: Trainer, head: str, graph: AtomicGraph, labels: Labels) -> list[Rows]:
    prediction = predict(trainer.potential, graph, head)
    units = predict_units(trainer.potential, graph, head)
    n_atoms = n_atoms_of(graph).clamp(min=1)
    of_units = (
        units.energy / n_atoms[:, None],
        units.forces,
        units.virial / n_atoms[:, None, None, None],
    )
    each = torch.arange(graph.n_graphs, device=n_atoms.device)
    return [
        _rows(*of_kind)
        for of_kind in zip(
            of_units,
            residuals(prediction, labels, graph),
            labelled(labels, graph),
            (each, graph.graph_index, each),
            strict=True,
        )
    ]


def _energy_rows(trainer: Trainer, head: str, graph: AtomicGraph, labels: Labels) -> list[Rows]:
    prediction = predict(trainer.potential, graph, head)
    units = predict_unit_energies(trainer.potential, graph, head)
    n_atoms = n_atoms_of(graph).clamp(min=1)
    each = torch.arange(graph.n_graphs, device=n_atoms.device)
    errors, *_ = residuals(prediction, labels, graph)
    known, *_ = labelled(labels, graph)
    return [_rows(units / n_atoms[:, None], errors, known, each)]


def _rows(
    of_units: Float[Tensor, "items ... width"],
    errors: Float[Tensor, "items ..."],
    known: Bool[Tensor, " items"],
    structure: Int[Tensor, " items"],
) -> Rows:
    """Of the labelled items, one row for each component."""
    of_errors = -errors[known]  # residuals are predictions minus labels
    rows = torch.cat([of_units[known], of_errors[..., None]], dim=-1).flatten(0, -2)
    return rows, structure[known].repeat_interleave(len(rows) // max(1, len(of_errors)))


def _summed(
    trainer: Trainer, of_heads: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]
) -> dict[str, Tensor]:
    """The sums of all ranks, of all heads, on every rank.

    Raises:
        LeftEarlyError: see `fit_readouts`.
    """
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    world = trainer.world
    numbers = torch.zeros(sum(sizes) + 1, dtype=torch.float64, device=world.device)
    *views, stop = numbers.split([*sizes, 1])
    for name, view in zip(shapes, views, strict=True):
        if name in of_heads:
            view.copy_(of_heads[name].flatten())
    stop.fill_(float(bool(world.stop)))
    all_reduce_sum(world, numbers)
    if stop > 0:
        raise LeftEarlyError
    return {
        name: view.view(*shape) for (name, shape), view in zip(shapes.items(), views, strict=True)
    }


def _solutions(trainer: Trainer, totals: Mapping[str, Tensor]) -> dict[str, Solution | None]:
    loss = trainer.config.loss
    trained_on = np.array([loss.energy_weight, loss.force_weight, loss.stress_weight]) > 0
    solutions: dict[str, Solution | None] = {}
    for name, of_head in totals.items():
        sums = of_head.cpu().numpy()
        n_rows = trainer.setup.summaries[name].config.width + 1
        squares = sums[..., :-1].reshape(*sums.shape[:2], n_rows, n_rows)
        solutions[name] = solve(squares, sums[..., -1], np.where(trained_on, IMPORTANCE, 0.0))
    return solutions
