"""Radial weights read inside the kernel, where nobody trains them: the same as in training."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import Prediction, hessian, predict
from gfm_models.graph import graph_from_atoms
from gfm_models.kernels.edge_operation import (
    edge_operation,
    prepare_edges,
    tabulated_edge_operation,
)
from gfm_models.kernels.paths import natural_paths
from gfm_models.kernels.spline import DEGREE, RadialTable
from gfm_models.kernels.tabulated import tabulated_gradient, tabulated_value
from gfm_models.kernels.tabulated_library import tabulated_library
from gfm_models.layers import interaction
from gfm_models.potential import MultiHeadPotential, build_potential
from gfm_models.testing import CHECKS
from torch import Tensor

PATHS = natural_paths(l_in=1, l_edge=2, l_out=2)
N_NODES, N_EDGES, N_INTERVALS, CUTOFF = 5, 40, 16, 4.0
HEAD = "organic"
TRAINING = {"double backward"}
"""Checks that train."""


class Problem:
    """Random lengths, Y, h and table on a random graph."""

    def __init__(self, dtype: torch.dtype = torch.float64, *, channels: int = 16) -> None:
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        receivers = torch.randint(N_NODES, (N_EDGES,), generator=generator).sort().values
        senders = torch.randint(N_NODES, (N_EDGES,), generator=generator)
        self.edges = prepare_edges(
            torch.stack([senders, receivers]), n_nodes=N_NODES, backend="fused"
        )
        lengths = torch.rand(N_EDGES, generator=generator, dtype=torch.float64) * CUTOFF
        lengths[:3] = torch.tensor([0.0, CUTOFF, CUTOFF / N_INTERVALS])
        rows = random(N_INTERVALS + DEGREE, len(PATHS), channels)
        self.table = RadialTable(rows=rows, scale=N_INTERVALS / CUTOFF)
        self.at = tuple(
            x.requires_grad_() for x in (lengths, random(N_EDGES, 9), random(N_NODES, 4, channels))
        )
        self.cotangent = random(N_NODES, 9, channels).requires_grad_()

    def tabulated(self) -> Tensor:
        return tabulated_edge_operation(*self.at, table=self.table, edges=self.edges, paths=PATHS)

    def with_spline_in_torch(self) -> Tensor:
        lengths, harmonics, features = self.at
        return edge_operation(
            self.table(lengths), harmonics, features, edges=self.edges, paths=PATHS
        )

    def first(self, value: Tensor, *, create_graph: bool = False) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            (value * self.cotangent).sum(), self.at, create_graph=create_graph
        )


@pytest.mark.parametrize("channels", [1, 48])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str
)
def test_same_as_the_spline_in_torch(channels: int, dtype: torch.dtype, tolerance: float) -> None:
    problem = Problem(dtype, channels=channels)
    value, expected = problem.tabulated(), problem.with_spline_in_torch()
    assert value.dtype == dtype
    found = [value, *problem.first(value)]
    for one, other in zip(found, [expected, *problem.first(expected)], strict=True):
        scale = other.abs().max().item()
        torch.testing.assert_close(one, other, atol=tolerance * scale, rtol=0)


def test_derivatives_can_be_differentiated_again() -> None:
    problem = Problem()
    results = []
    for value in (problem.tabulated(), problem.with_spline_in_torch()):
        first = problem.first(value, create_graph=True)
        loss = value.square().sum() + sum(f.square().sum() for f in first)
        results.append(torch.autograd.grad(loss, (*problem.at, problem.cotangent)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12 * other.abs().max().item(), rtol=0)


def test_operations_are_registered_soundly() -> None:
    problem = Problem(channels=tabulated_library(PATHS, torch.float64).lanes)
    degrees = [d for path in PATHS for d in (path.l_in, path.l_edge, path.l_out)]
    end = (problem.table.rows, problem.table.scale, problem.edges.order, degrees)
    torch.library.opcheck(tabulated_value.overload, (*problem.at, *end))
    tensors = (problem.cotangent.detach(), *(x.detach() for x in problem.at))
    torch.library.opcheck(tabulated_gradient.overload, (*tensors, *end))


def test_threads_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfm_models.kernels.library.WORK_OF_A_THREAD", 1)
    problem = Problem(torch.float32)
    one = problem.tabulated()
    torch.set_num_threads(3)
    try:
        three = problem.tabulated()
        gradients = problem.first(three)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(one, three)
    assert all(torch.equal(a, b) for a, b in zip(problem.first(one), gradients, strict=True))


# In a potential.


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def untrained(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    backbone_config: BackboneConfig,
    head_configs: dict,
) -> MultiHeadPotential:
    """One whose weights nobody trains, so that it never writes radial weights down."""
    potential = build_potential(backbone_config, head_configs, seed=1, dtype=request.param)
    monkeypatch.setattr(interaction, "read_spline", refuse)
    return potential.requires_grad_(False)


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("radial weights were to be read inside the kernel")


@pytest.mark.parametrize("check", sorted(CHECKS.keys() - TRAINING))
def test_contract(untrained: MultiHeadPotential, check: str) -> None:
    CHECKS[check](untrained, HEAD)


@pytest.mark.parametrize(
    ("atoms", "head"),
    [(molecule("CH3CH2OH"), HEAD), (bulk("Cu", cubic=True), "metals")],
    ids=["molecule", "crystal"],
)
def test_energies_and_forces_are_those_of_training(
    untrained: MultiHeadPotential, monkeypatch: pytest.MonkeyPatch, atoms: Atoms, head: str
) -> None:
    atoms.rattle(0.1, seed=0)
    graph = graph_from_atoms(atoms, cutoff=untrained.cutoff)
    found = predict(untrained, graph, head)
    monkeypatch.undo()
    untrained.requires_grad_(True)
    expected = predict(untrained, graph, head)
    tolerance = 1e-12 if untrained.backbone.dtype == torch.float64 else 2e-6
    for one, other in zip(learned(found, expected), learned(expected, expected), strict=True):
        scale = other.abs().max().item()
        torch.testing.assert_close(one, other, atol=tolerance * scale, rtol=0)


def learned(prediction: Prediction, expected: Prediction) -> tuple[Tensor, Tensor]:
    """Energies from a common zero, and forces."""
    return prediction.atomic_energies - expected.atomic_energies.mean(), prediction.forces


def test_hessians_are_those_of_training(
    untrained: MultiHeadPotential, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_from_atoms(molecule("H2O"), cutoff=untrained.cutoff)
    found = hessian(untrained, graph, HEAD)
    monkeypatch.undo()
    untrained.requires_grad_(True).backbone.backend = "reference"
    expected = hessian(untrained, graph, HEAD).detach()
    scale = expected.abs().max().item()
    torch.testing.assert_close(found, expected, atol=1e-4 * scale, rtol=0)


def test_weights_that_change_are_followed(
    untrained: MultiHeadPotential, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_from_atoms(molecule("H2O"), cutoff=untrained.cutoff)
    before = predict(untrained, graph, HEAD).energy.item()
    state = {name: 2 * value for name, value in untrained.backbone.state_dict().items()}
    untrained.backbone.load_state_dict(state)
    after = predict(untrained, graph, HEAD).energy.item()
    monkeypatch.undo()
    untrained.backbone.backend = "reference"
    assert abs(after - before) > 0.01
    assert np.isclose(after, predict(untrained, graph, HEAD).energy.item(), rtol=0, atol=1e-4)
