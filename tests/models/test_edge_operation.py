"""The edge operation on every back end against e3nn, against loops, and its derivatives."""

from typing import Any

import numpy as np
import pytest
import torch
from e3nn import o3
from gfm_models.backbone import irreps
from gfm_models.harmonics import coupling, degree_slice, n_harmonics
from gfm_models.kernels.backend import Backend
from gfm_models.kernels.edge_operation import edge_operation, prepare_edges
from gfm_models.kernels.paths import Path, natural_paths

DEGREES = [(0, 1, 1), (1, 1, 1), (1, 2, 2), (0, 3, 3), (2, 2, 2), (2, 3, 3), (3, 3, 1)]
N_NODES, N_EDGES, CHANNELS = 6, 17, 3
BACKENDS: tuple[Backend, ...] = ("reference", "fused")


class Inputs:
    """Random R, Y and h on random edges; the last node has no neighbours."""

    def __init__(
        self,
        l_in: int,
        l_edge: int,
        l_out: int,
        *,
        backend: Backend,
        n_edges: int = N_EDGES,
        channels: int = CHANNELS,
    ) -> None:
        self.backend: Backend = backend
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.paths = natural_paths(l_in=l_in, l_edge=l_edge, l_out=l_out)
        self.radial = random(n_edges, len(self.paths), channels)
        self.harmonics = random(n_edges, n_harmonics(l_edge))
        self.features = random(N_NODES, n_harmonics(l_in), channels)
        receivers = torch.randint(N_NODES - 1, (n_edges,), generator=generator).sort().values
        senders = torch.randint(N_NODES, (n_edges,), generator=generator)
        self.edge_index = torch.stack([senders, receivers])

    def result(self) -> torch.Tensor:
        return self.operation(self.radial, self.harmonics, self.features)

    def operation(
        self, radial: torch.Tensor, harmonics: torch.Tensor, features: torch.Tensor
    ) -> torch.Tensor:
        edges = prepare_edges(self.edge_index, n_nodes=len(features), backend=self.backend)
        return edge_operation(radial, harmonics, features, edges=edges, paths=self.paths)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param


@pytest.mark.usefixtures("e3nn_in_float64")
@pytest.mark.parametrize("degrees", DEGREES, ids=str)
def test_same_as_e3nn(degrees: tuple[int, int, int], backend: Backend) -> None:
    l_in, l_edge, l_out = degrees
    inputs = Inputs(*degrees, backend=backend)
    product = o3.TensorProduct(
        irreps(CHANNELS, l_in),
        irreps(1, l_edge),
        irreps(CHANNELS, l_out),
        [(p.l_in, p.l_edge, p.l_out, "uvu", True) for p in inputs.paths],
        irrep_normalization="none",
        path_normalization="none",
        shared_weights=False,
        internal_weights=False,
    )
    senders, receivers = inputs.edge_index
    messages = product(
        to_e3nn(inputs.features, l_in)[senders],
        inputs.harmonics,
        (inputs.radial * torch.tensor([e3nn_scale(p) for p in inputs.paths])[:, None]).flatten(1),
    )
    expected = messages.new_zeros(N_NODES, messages.shape[1]).index_add(0, receivers, messages)
    torch.testing.assert_close(to_e3nn(inputs.result(), l_out), expected, atol=1e-12, rtol=0)


def to_e3nn(features: torch.Tensor, l_max: int) -> torch.Tensor:
    """Degrees side by side, and within each the channels outside the components."""
    parts = [features[:, degree_slice(degree)].mT.flatten(1) for degree in range(l_max + 1)]
    return torch.cat(parts, dim=1)


def e3nn_scale(path: Path) -> float:
    """Our coupling in units of e3nn's, whose squares sum to one."""
    degrees = (path.l_in, path.l_edge, path.l_out)
    return float(np.sum(coupling(*degrees) * o3.wigner_3j(*degrees, dtype=torch.float64).numpy()))


@pytest.mark.parametrize("degrees", [(1, 1, 1), (2, 2, 2)], ids=str)
def test_same_as_the_loops(degrees: tuple[int, int, int], backend: Backend) -> None:
    inputs = Inputs(*degrees, backend=backend)
    radial, y, h = (t.numpy() for t in (inputs.radial, inputs.harmonics, inputs.features))
    expected = np.zeros((N_NODES, n_harmonics(degrees[2]), CHANNELS))
    for e, (sender, receiver) in enumerate(inputs.edge_index.T.tolist()):
        for p, path in enumerate(inputs.paths):
            c = coupling(path.l_in, path.l_edge, path.l_out)
            for m1, m2, m3 in np.ndindex(*c.shape):
                expected[receiver, path.l_out**2 + m3] += (
                    radial[e, p]
                    * c[m1, m2, m3]
                    * y[e, path.l_edge**2 + m2]
                    * h[sender, path.l_in**2 + m1]
                )
    np.testing.assert_allclose(inputs.result().numpy(), expected, atol=1e-12)


def test_nodes_without_neighbors_get_zero(backend: Backend) -> None:
    assert not Inputs(1, 2, 2, backend=backend).result()[-1].any()


def test_no_edges_at_all(backend: Backend) -> None:
    inputs = Inputs(1, 2, 2, backend=backend, n_edges=0)
    inputs.features.requires_grad_()
    result = inputs.result()
    assert result.shape == (N_NODES, n_harmonics(2), CHANNELS)
    assert not result.any()
    (gradient,) = torch.autograd.grad(result.sum(), inputs.features)
    assert not gradient.any()


def test_no_nodes_at_all(backend: Backend) -> None:
    inputs = Inputs(1, 2, 2, backend=backend, n_edges=0)
    inputs.features = inputs.features[:0]
    assert inputs.result().shape == (0, n_harmonics(2), CHANNELS)


def test_order_of_edges_of_one_receiver_does_not_matter(backend: Backend) -> None:
    inputs = Inputs(1, 2, 2, backend=backend)
    expected = inputs.result()
    order = torch.cat(
        [(inputs.edge_index[1] == node).nonzero()[:, 0].flip(0) for node in range(N_NODES)]
    )
    inputs.radial, inputs.harmonics = inputs.radial[order], inputs.harmonics[order]
    inputs.edge_index = inputs.edge_index[:, order]
    torch.testing.assert_close(inputs.result(), expected, atol=1e-13, rtol=0)


def test_float32_stays_float32(backend: Backend) -> None:
    inputs = Inputs(1, 2, 2, backend=backend)
    expected = inputs.result()
    for name in ("radial", "harmonics", "features"):
        setattr(inputs, name, getattr(inputs, name).float())
    assert inputs.result().dtype == torch.float32
    torch.testing.assert_close(inputs.result().double(), expected, atol=1e-5, rtol=1e-5)


def test_first_and_second_derivatives(backend: Backend) -> None:
    inputs = Inputs(1, 1, 1, backend=backend, n_edges=4, channels=1)
    arguments = tuple(
        t.requires_grad_() for t in (inputs.radial, inputs.harmonics, inputs.features)
    )
    assert torch.autograd.gradcheck(inputs.operation, arguments)
    assert torch.autograd.gradgradcheck(inputs.operation, arguments)


def products_of(a: int, b: int) -> list[Any]:
    """What two irreps of natural parity couple to."""
    first: Any = o3.Irrep(a, (-1) ** a)  # e3nn types an irrep as a tuple
    return list(first * o3.Irrep(b, (-1) ** b))


def test_paths_keep_natural_parity_and_the_triangle_rule() -> None:
    assert natural_paths(l_in=1, l_edge=1, l_out=1) == (
        Path(0, 0, 0),
        Path(0, 1, 1),
        Path(1, 0, 1),
        Path(1, 1, 0),
    )
    paths = natural_paths(l_in=2, l_edge=3, l_out=3)
    assert len(set(paths)) == len(paths)
    assert {(p.l_in, p.l_edge, p.l_out) for p in paths} == {
        (a, b, c) for a, b, c in np.ndindex(3, 4, 4) if o3.Irrep(c, (-1) ** c) in products_of(a, b)
    }
