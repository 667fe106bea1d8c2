"""The backbone: how its features turn, what they do not depend on, and its bounds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from gfm_models.backbone import Backbone, BackboneConfig, irreps
from gfm_models.graph import batch_graphs, edge_vectors, graph_from_atoms
from gfm_models.layers.interaction import soft_bound

DEEP = BackboneConfig(
    channels=3, l_max=3, l_hidden=2, n_interactions=3, n_radial=4, element_channels=4
)


@pytest.fixture
def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone(DEEP, dtype=torch.float64)


def ethanol() -> Atoms:
    return molecule("CH3CH2OH")


def test_features_turn_as_their_irreps(
    backbone: Backbone,
    turn: torch.Tensor,
    d_matrix: Callable[[str, torch.Tensor], torch.Tensor],
) -> None:
    graph = graph_from_atoms(ethanol(), cutoff=backbone.config.cutoff)
    vectors = edge_vectors(graph)
    before = backbone.equivariant_features(graph, vectors)
    after = backbone.equivariant_features(graph, vectors @ turn.T)
    for layer, degree in enumerate((DEEP.l_hidden, DEEP.l_hidden, 0)):
        d = d_matrix(irreps(1, degree), turn)
        assert before[layer].shape == (graph.n_nodes, len(d), DEEP.channels)
        assert (before[layer].square().mean((0, 2)) > 1e-12).all(), "a component is always zero"
        torch.testing.assert_close(after[layer], d @ before[layer], atol=1e-12, rtol=1e-12)


def test_node_features_are_the_scalars_of_all_layers(backbone: Backbone) -> None:
    graph = graph_from_atoms(ethanol(), cutoff=backbone.config.cutoff)
    layers = backbone.equivariant_features(graph, edge_vectors(graph))
    features = backbone(graph, edge_vectors(graph))
    assert features.shape == (graph.n_nodes, DEEP.n_features)
    assert torch.equal(features[:, : DEEP.channels], layers[0][:, 0])
    assert torch.equal(features[:, -DEEP.channels :], layers[-1][:, 0])


def test_isolated_atoms_have_no_features(backbone: Backbone) -> None:
    graphs = [graph_from_atoms(a, cutoff=5.0) for a in (Atoms("O"), ethanol(), Atoms("C"))]
    batch = batch_graphs(graphs)
    features = backbone(batch, edge_vectors(batch))
    assert not features[[0, -1]].any()
    assert features[1:-1].any(dim=1).all()


def test_equivalent_atoms_have_equal_features(backbone: Backbone) -> None:
    """The hydrogens of methane, and no others."""
    graph = graph_from_atoms(molecule("CH4"), cutoff=5.0)
    features = backbone(graph, edge_vectors(graph))
    torch.testing.assert_close(features[1:], features[1].expand(4, -1), atol=1e-12, rtol=0)
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_the_third_dimension_is_seen() -> None:
    """Planar and twisted H2O2 differ by a dihedral alone: bonds and angles are the same."""
    torch.manual_seed(0)
    config = BackboneConfig(channels=4, n_radial=4, element_channels=4, cutoff=2.2)
    backbone = Backbone(config, dtype=torch.float64)
    features = []
    for dihedral in (180.0, 110.0):
        atoms = molecule("H2O2")
        atoms.set_dihedral(2, 0, 1, 3, dihedral, indices=[3])
        graph = graph_from_atoms(atoms, cutoff=config.cutoff)
        assert graph.n_edges == 2 * (3 + 2), "three bonds and two H-O-O angles, no H-H pair"
        features.append(backbone(graph, edge_vectors(graph)))
    assert (features[0] - features[1]).abs().max() > 1e-5


def test_features_are_bounded_in_a_crowd() -> None:
    """Gathered neighbourhoods never exceed one in the mean square."""
    generator = torch.Generator().manual_seed(0)
    x = 1e6 * torch.randn(3, 9, 4, generator=generator, dtype=torch.float64)
    assert soft_bound(x).square().mean((1, 2)).max() <= 1.0
    small = 1e-6 * x / 1e6
    torch.testing.assert_close(soft_bound(small), small, rtol=1e-10, atol=0)


def test_every_weight_is_used(backbone: Backbone) -> None:
    graph = graph_from_atoms(ethanol(), cutoff=5.0)
    backbone(graph, edge_vectors(graph)).square().sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_irreps_are_written_as_in_e3nn() -> None:
    assert irreps(64, 2) == "64x0e+64x1o+64x2e"
    assert BackboneConfig(channels=8, l_hidden=1).irreps_hidden == "8x0e+8x1o"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"channels": 0}, "model.channels must lie in 1 to 4096, got 0"),
        ({"channels": 10**9}, "model.channels must lie in 1 to 4096"),
        ({"l_max": 4}, "model.l_max must lie in 1 to 3, got 4"),
        ({"l_max": 0}, "model.l_max must lie in 1 to 3, got 0"),
        ({"correlation": 5}, "model.correlation must lie in 1 to 4, got 5"),
        ({"l_hidden": -1}, "model.l_hidden must lie in 0 to 3, got -1"),
        ({"l_max": 1, "l_hidden": 2}, "model.l_hidden must not exceed model.l_max = 1, got 2"),
        ({"n_interactions": 0}, "model.n_interactions must lie in 1 to 8"),
        ({"cutoff": 0.5}, "model.cutoff must lie in 1.0 to 20.0, got 0.5"),
        ({"cutoff": float("nan")}, "model.cutoff must lie in 1.0 to 20.0, got nan"),
        ({"n_radial": 257}, "model.n_radial must lie in 1 to 256"),
        ({"element_channels": 0}, "model.element_channels must lie in 1 to 1024"),
        ({"mean_neighbors": 0.0}, "model.mean_neighbors must lie in 0.1 to 10000.0"),
        ({"radial_hidden": (64, 0)}, r"model.radial_hidden must hold widths .* got \(64, 0\)"),
    ],
)
def test_bounds_are_named(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BackboneConfig(**option)
