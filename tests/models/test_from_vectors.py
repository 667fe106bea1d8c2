"""The edge operation from edge vectors, against its parts in torch, differentiated by autograd."""

from typing import Any

import pytest
import torch
from gfm_models.harmonics import spherical_harmonics
from gfm_models.kernels.edge_operation import edge_operation, prepare_edges
from gfm_models.kernels.from_vectors import (
    Surroundings,
    from_vectors_library,
    gradient_from_vectors,
    value_from_vectors,
)
from gfm_models.kernels.library import order_edges, whole_vectors
from gfm_models.kernels.paths import natural_paths
from gfm_models.kernels.spline import DEGREE, RadialTable
from gfm_models.layers.radial import cutoff_envelope
from torch import Tensor

N_NODES, N_EDGES, N_INTERVALS, CUTOFF = 5, 40, 16, 4.0


class Problem:
    """Random vectors, features, splines and cotangent on a random graph."""

    def __init__(
        self, dtype: torch.dtype = torch.float64, *, channels: int = 16, l_max: int = 2
    ) -> None:
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.paths = natural_paths(l_in=1, l_edge=l_max, l_out=l_max)
        receivers = torch.randint(N_NODES, (N_EDGES,), generator=generator).sort().values
        senders = torch.randint(N_NODES, (N_EDGES,), generator=generator)
        self.edge_index = torch.stack([senders, receivers])
        self.order = order_edges(self.edge_index, n_senders=N_NODES, n_receivers=N_NODES)
        self.vectors = random(N_EDGES, 3)
        self.vectors[0] *= CUTOFF / self.vectors[0].norm()
        self.vectors[1] *= 1.5 * CUTOFF / self.vectors[1].norm()
        rows = random(N_INTERVALS + DEGREE, len(self.paths), channels).to(dtype)
        self.table = RadialTable(rows=rows, scale=N_INTERVALS / CUTOFF)
        self.features = random(N_NODES, 4, channels).to(dtype)
        self.cotangent = random(N_NODES, (l_max + 1) ** 2, channels).to(dtype)
        self.l_max = l_max

    @property
    def edge(self) -> dict[str, Any]:
        lanes = from_vectors_library(self.paths, self.features.dtype).lanes
        rows = whole_vectors(self.table.rows, lanes).contiguous()
        return {
            "around": Surroundings(order=self.order, vectors=self.vectors, cutoff=CUTOFF),
            "table": RadialTable(rows=rows, scale=self.table.scale),
            "paths": self.paths,
        }

    def value(self) -> Tensor:
        return value_from_vectors(self.features, **self.edge)

    def gradient(self, *, wants_features: bool = True) -> tuple[Tensor, Tensor | None]:
        to_vectors = torch.zeros_like(self.vectors)
        options = {"to_vectors": to_vectors, "wants_features": wants_features}
        to_features = gradient_from_vectors(self.cotangent, self.features, **self.edge, **options)
        return to_vectors, to_features

    def in_torch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Value and both gradients by the reference and autograd."""
        vectors, features = (x.clone().requires_grad_() for x in (self.vectors, self.features))
        lengths = vectors.norm(dim=1)
        harmonics = spherical_harmonics(vectors / lengths[:, None], l_max=self.l_max)
        value = edge_operation(
            self.table(lengths),
            (harmonics * cutoff_envelope(lengths, CUTOFF)[:, None]).to(features.dtype),
            features,
            edges=prepare_edges(self.edge_index, n_nodes=N_NODES, backend="reference"),
            paths=self.paths,
        )
        scalar = (value * self.cotangent).sum()
        to_vectors, to_features = torch.autograd.grad(scalar, (vectors, features))
        return value.detach(), to_vectors, to_features


@pytest.mark.parametrize("l_max", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 48])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)], ids=str
)
def test_same_as_in_torch(l_max: int, channels: int, dtype: torch.dtype, tolerance: float) -> None:
    problem = Problem(dtype, channels=channels, l_max=l_max)
    found = (problem.value(), *problem.gradient())
    assert [x.dtype for x in found if x is not None] == [dtype, torch.float64, dtype]
    for one, other in zip(found, problem.in_torch(), strict=True):
        assert one is not None
        scale = other.abs().max().item()
        torch.testing.assert_close(one, other, atol=tolerance * scale, rtol=0)


def test_nothing_comes_from_beyond_the_cutoff() -> None:
    problem = Problem()
    to_vectors, _ = problem.gradient()
    assert not to_vectors[:2].any()
    before = problem.value()
    problem.vectors[:2] *= 1.1
    assert torch.equal(problem.value(), before)


def test_the_gradient_by_vectors_is_the_same_without_that_by_features() -> None:
    problem = Problem()
    alone, nothing = problem.gradient(wants_features=False)
    assert nothing is None
    torch.testing.assert_close(alone, problem.gradient()[0], atol=1e-13, rtol=0)


def test_gradients_by_vectors_are_added_to_what_is_there() -> None:
    problem = Problem()
    there = torch.ones_like(problem.vectors)
    gradient_from_vectors(
        problem.cotangent, problem.features, **problem.edge, to_vectors=there, wants_features=False
    )
    torch.testing.assert_close(there, 1 + problem.gradient()[0], atol=1e-13, rtol=0)


def test_threads_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfm_models.kernels.library.WORK_OF_A_THREAD", 1)
    problem = Problem(torch.float32)
    one = (problem.value(), *problem.gradient())
    torch.set_num_threads(3)
    try:
        three = (problem.value(), *problem.gradient())
    finally:
        torch.set_num_threads(1)
    for a, b in zip(one, three, strict=True):
        assert a is not None
        assert b is not None
        assert torch.equal(a, b)


def test_what_does_not_fit_is_refused() -> None:
    problem = Problem()
    problem.vectors = problem.vectors.float()
    with pytest.raises(ValueError, match=r"edge vectors must be float64 of shape \[40, 3\], got"):
        problem.value()
    problem = Problem()
    problem.cotangent = problem.cotangent[:-1]
    with pytest.raises(ValueError, match=r"shape \[5, 9, 16\] here, got .* \[4, 9, 16\]"):
        problem.gradient()
    problem = Problem()
    problem.order = order_edges(problem.edge_index[:, 1:], n_senders=N_NODES, n_receivers=N_NODES)
    with pytest.raises(ValueError, match="prepared for another graph"):
        problem.value()
