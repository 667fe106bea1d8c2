"""The contract can fail: potentials broken on purpose, each caught by the check that is meant."""

from collections.abc import Callable, Mapping

import pytest
import torch
from gfm_models.backbone import Backbone, BackboneConfig
from gfm_models.graph import AtomicGraph, n_atoms_of, volumes
from gfm_models.heads import HeadConfig
from gfm_models.potential import MultiHeadPotential, build_potential
from gfm_models.testing import CHECKS
from torch import Tensor

HEAD = "organic"
Break = Callable[[AtomicGraph, Tensor, Tensor], Tensor]


class Broken(MultiHeadPotential):
    """Atomic energies of a sound potential, changed by a function of graph, vectors, energies."""

    def __init__(self, sound: MultiHeadPotential, change: Break) -> None:
        super().__init__(sound.backbone, {HEAD: sound.head(HEAD)})
        self.change = change

    def forward(self, graph: AtomicGraph, edge_vectors: Tensor, head: str) -> Tensor:
        energies = super().forward(graph, edge_vectors, head)
        return self.change(graph, edge_vectors, energies)


def per_node(graph: AtomicGraph, values: Tensor) -> Tensor:
    return values.new_zeros(graph.n_nodes, *values.shape[1:]).index_add(0, graph.receivers, values)


def depends_on_absolute_position(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e + 1e-3 * graph.positions[:, 0]


def prefers_a_direction(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e + 1e-3 * per_node(graph, torch.exp(-d.square().sum(1)) * d[:, 0].square())


def tells_left_from_right(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    """The volume of three vectors: any rotation leaves it, a reflection turns its sign."""
    r2 = d.square().sum(1, keepdim=True)
    a, b, c = (per_node(graph, torch.exp(-r2 / width) * d) for width in (0.5, 2.0, 8.0))
    return e + (torch.linalg.cross(a, b) * c).sum(1)


def knows_the_order_of_atoms(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e * (1 + 1e-6 * torch.arange(graph.n_nodes))


def depends_on_the_handedness_of_the_cell(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e + 1e-3 * torch.linalg.det(graph.cell).sign()[graph.graph_index]


def depends_on_the_volume(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e + 1e-3 * volumes(graph)[graph.graph_index]


def depends_on_the_number_of_atoms(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e + 1e-3 * (n_atoms_of(graph)[graph.graph_index] - 1)


def depends_on_periodicity(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e + 1e-3 * graph.pbc.sum(1)[graph.graph_index]


def mixes_the_batch(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e + 1e-3 * (e - e.mean())


def charges_isolated_atoms(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e + 1e-9


def divides_by_the_number_of_edges(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e + d.square().sum() / len(d)


def needs_an_atom(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e * (e.max() / e.max())


def caps_the_number_of_neighbors(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    """The first edges in the list count, the others do not."""
    counts = torch.bincount(graph.receivers, minlength=graph.n_nodes)
    rank = torch.arange(graph.n_edges) - (counts.cumsum(0) - counts)[graph.receivers]
    return e + 1e-2 * per_node(graph, torch.exp(-d.square().sum(1)) * (rank < 3))


def ends_abruptly(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    """Every edge there is counts the same up to the cutoff."""
    return e + 1e-2 * per_node(graph, torch.exp(-d.norm(dim=1)))


def ends_with_one_derivative(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e + 1e-1 * per_node(graph, (1 - d.norm(dim=1) / 5.0).clamp(min=0) ** 2)


def hides_a_term_from_the_forces(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e + 1e-2 * per_node(graph, torch.exp(-d.square().sum(1))).detach()


def attracts_at_contact(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e - 1e4 * per_node(graph, torch.exp(-4 * d.square().sum(1)) / d.norm(dim=1))


def is_not_a_number(graph: AtomicGraph, d: Tensor, e: Tensor) -> Tensor:
    return e * float("nan")


CAUGHT: dict[Break, tuple[str, ...]] = {
    depends_on_absolute_position: ("translation", "forces"),
    prefers_a_direction: ("rotation",),
    tells_left_from_right: ("rotation",),
    knows_the_order_of_atoms: ("permutation", "extensivity"),
    depends_on_the_handedness_of_the_cell: ("left-handed cell",),
    depends_on_the_volume: ("supercell", "stress", "mixed periodicity"),
    depends_on_the_number_of_atoms: ("supercell", "extensivity"),
    depends_on_periodicity: ("mixed periodicity",),
    mixes_the_batch: ("batching",),
    charges_isolated_atoms: ("isolated atoms",),
    divides_by_the_number_of_edges: ("isolated atoms", "cutoff"),
    caps_the_number_of_neighbors: ("permutation",),
    ends_abruptly: ("cutoff",),
    ends_with_one_derivative: ("cutoff",),
    hides_a_term_from_the_forces: ("forces", "stress"),
    attracts_at_contact: ("close approach",),
    is_not_a_number: ("rotation", "energy sum", "forces", "isolated atoms", "close approach"),
}


def caught(potential: MultiHeadPotential, check: str) -> bool:
    try:
        CHECKS[check](potential, HEAD)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize(
    ("change", "check"),
    [(change, check) for change, checks in CAUGHT.items() for check in checks],
    ids=lambda x: x if isinstance(x, str) else x.__name__,
)
def test_a_broken_potential_is_caught(
    potential: MultiHeadPotential, change: Break, check: str
) -> None:
    assert not caught(potential, check), "the sound potential fails"
    with pytest.raises(AssertionError, match=r"\d|nan"):
        CHECKS[check](Broken(potential, change), HEAD)


def test_an_unbroken_copy_passes(potential: MultiHeadPotential) -> None:
    copy = Broken(potential, lambda graph, vectors, energies: energies)
    assert not [check for check in CHECKS if caught(copy, check)]


class NoSecondDerivative(Backbone):
    """Loses the gradient of one weight when the forces are differentiated."""

    def forward(self, graph: AtomicGraph, edge_vectors: Tensor) -> Tensor:
        weight = self.senders.weight
        self.senders.weight = torch.nn.Parameter(weight.detach())
        features = super().forward(graph, edge_vectors)
        self.senders.weight = weight
        return features


def test_a_lost_weight_gradient_is_caught(
    backbone_config: BackboneConfig, head_configs: Mapping[str, HeadConfig]
) -> None:
    """Training on forces would leave such a weight where it started, and nobody would see why."""
    sound = build_potential(backbone_config, head_configs, seed=1, dtype=torch.float64)
    backbone = NoSecondDerivative(backbone_config, dtype=torch.float64)
    backbone.load_state_dict(sound.backbone.state_dict())
    broken = MultiHeadPotential(backbone, {HEAD: sound.head(HEAD)})
    assert not caught(sound, "double backward")
    with pytest.raises(AssertionError, match="parameter gradient differs by"):
        CHECKS["double backward"](broken, HEAD)


def test_double_backward_leaves_the_weights_as_they_were(potential: MultiHeadPotential) -> None:
    before = {name: value.clone() for name, value in potential.state_dict().items()}
    CHECKS["double backward"](potential, HEAD)
    for name, value in potential.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_failing_on_an_empty_graph_is_caught(potential: MultiHeadPotential) -> None:
    assert not caught(potential, "empty graph")
    with pytest.raises(RuntimeError, match="max"):
        CHECKS["empty graph"](Broken(potential, needs_an_atom), HEAD)


def test_merged_atoms_are_caught(
    potential: MultiHeadPotential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gfm_models.neighbors.SAME_POSITION", -1.0)
    assert caught(potential, "same position")
