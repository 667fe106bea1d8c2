"""The potential: choosing a head, and what its first weights depend on."""

from collections.abc import Mapping

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import predict_energy
from gfm_models.graph import graph_from_atoms
from gfm_models.heads import HeadConfig
from gfm_models.potential import MultiHeadPotential, build_potential
from torch import nn


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_isolated_atoms_have_exactly_their_reference_energy(
    potential: MultiHeadPotential,
) -> None:
    for symbol, energy in potential.head("organic").config.reference_energies.items():
        graph = graph_from_atoms(Atoms(symbol), cutoff=potential.cutoff)
        assert predict_energy(potential, graph, "organic").item() == energy


def test_an_unknown_head_lists_those_there_are(potential: MultiHeadPotential) -> None:
    with pytest.raises(ValueError, match="no head 'orgnic'; the heads are: organic, metals"):
        potential.head("orgnic")
    graph = graph_from_atoms(Atoms("H"), cutoff=potential.cutoff)
    with pytest.raises(ValueError, match="no head 'PBE'"):
        predict_energy(potential, graph, "PBE")


def test_heads_read_the_same_features_differently(
    backbone_config: BackboneConfig, head_configs: Mapping[str, HeadConfig]
) -> None:
    """Two heads of one description differ in their weights alone."""
    organic = head_configs["organic"]
    potential = build_potential(backbone_config, {"a": organic, "b": organic})
    graph = graph_from_atoms(molecule("H2O"), cutoff=potential.cutoff)
    a, b = (predict_energy(potential, graph, head).item() for head in "ab")
    assert abs(a - b) > 1e-3


def test_weights_depend_on_seed_and_name_alone(
    backbone_config: BackboneConfig, head_configs: Mapping[str, HeadConfig]
) -> None:
    both = build_potential(backbone_config, head_configs, seed=1)
    one = build_potential(backbone_config, {"metals": head_configs["metals"]}, seed=1)
    other = build_potential(backbone_config, head_configs, seed=2)
    assert same_weights(both.backbone, one.backbone)
    assert same_weights(both.head("metals"), one.head("metals"))
    assert not same_weights(both.head("metals"), both.head("organic"))
    assert not same_weights(both.head("metals"), other.head("metals"))
    assert not same_weights(both.backbone, other.backbone)


def test_building_leaves_the_callers_random_numbers_alone(
    backbone_config: BackboneConfig, head_configs: Mapping[str, HeadConfig]
) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    build_potential(backbone_config, head_configs)
    assert torch.equal(torch.rand(3), expected)


def test_energies_and_tables_stay_in_float64(
    backbone_config: BackboneConfig, head_configs: Mapping[str, HeadConfig]
) -> None:
    potential = build_potential(backbone_config, head_configs, dtype=torch.float32)
    assert potential.backbone.dtype == torch.float32
    assert potential.head("organic").get_buffer("reference_energies").dtype == torch.float64
    graph = graph_from_atoms(molecule("H2O"), cutoff=potential.cutoff)
    assert predict_energy(potential, graph, "organic").dtype == torch.float64


@pytest.mark.parametrize("change", [nn.Module.double, nn.Module.float, nn.Module.half])
def test_the_precision_of_a_finished_potential_stays(potential: MultiHeadPotential, change) -> None:
    with pytest.raises(TypeError, match=r"cannot be changed; choose it with build_potential"):
        change(potential)
    assert potential.to("cpu") is potential


def test_an_element_that_the_head_never_saw_is_refused(potential: MultiHeadPotential) -> None:
    graph = graph_from_atoms(molecule("SiH4"), cutoff=potential.cutoff)
    with pytest.raises(ValueError, match=r"head 'organic' does not know Si; it knows H, C, O"):
        predict_energy(potential, graph, "organic")
