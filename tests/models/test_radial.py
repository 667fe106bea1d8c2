"""The cutoff envelope, the Bessel basis, and the weights made of them."""

import math

import numpy as np
import pytest
import torch
from gfm_models.layers.mixing import SILU_GAIN, linear
from gfm_models.layers.radial import RadialWeights, bessel_functions, cutoff_envelope

CUTOFF = 4.0


def derivatives(r: float, *, order: int) -> list[float]:
    """The envelope and its first derivatives at one distance."""
    x = torch.tensor(r, dtype=torch.float64, requires_grad=True)
    values = [cutoff_envelope(x, CUTOFF)]
    for _ in range(order):
        values += torch.autograd.grad(values[-1], x, create_graph=True)
    return [v.item() for v in values]


def test_envelope_is_one_at_contact() -> None:
    assert derivatives(0.0, order=2) == [1.0, 0.0, 0.0]


def test_envelope_by_hand() -> None:
    """At half the cutoff: 1 - 28/64 + 48/128 - 21/256 = 219/256."""
    assert derivatives(CUTOFF / 2, order=0) == [219 / 256]


def test_envelope_has_two_continuous_derivatives_at_the_cutoff() -> None:
    """It leaves the cutoff as the cube of the distance to it, here 56 ((c - r) / c)³."""
    inside = derivatives(CUTOFF * (1 - 1e-6), order=3)
    assert abs(inside[0]) < 1e-15
    assert abs(inside[1]) < 1e-9
    assert abs(inside[2]) < 1e-3
    assert inside[3] == pytest.approx(-56 * 6 / CUTOFF**3, rel=1e-4)


def test_envelope_is_exactly_zero_from_the_cutoff_on() -> None:
    r = torch.tensor([1.0, 1.0 + 1e-12, 2.0, 1e6]).double() * CUTOFF
    assert cutoff_envelope(r, CUTOFF).tolist() == [0.0] * 4


def test_envelope_falls() -> None:
    values = cutoff_envelope(torch.linspace(0, CUTOFF, 1000, dtype=torch.float64), CUTOFF)
    assert (values.diff() < 0).sum() > 990
    assert (values.diff() <= 0).all()


def test_each_edge_may_have_its_own_cutoff() -> None:
    r = torch.tensor([1.0, 1.0], dtype=torch.float64)
    values = cutoff_envelope(r, torch.tensor([0.5, 2.0], dtype=torch.float64))
    assert values.tolist() == [0.0, 219 / 256]


def test_bessel_functions_are_the_formula() -> None:
    r = np.array([0.3, 1.7, 3.9])
    n = np.arange(1, 4)
    expected = CUTOFF * np.sqrt(2 / CUTOFF) * np.sin(n * np.pi * r[:, None] / CUTOFF) / r[:, None]
    found = bessel_functions(torch.from_numpy(r), n_radial=3, cutoff=CUTOFF)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-14)


def test_bessel_functions_have_a_limit_at_contact() -> None:
    """CUTOFF sqrt(2 / CUTOFF) n π / CUTOFF, which they leave with the square of the distance."""
    r = torch.tensor([0.0, 1e-6], dtype=torch.float64)
    found = bessel_functions(r, n_radial=3, cutoff=CUTOFF)
    expected = math.sqrt(2 / CUTOFF) * math.pi * torch.arange(1, 4).double()
    torch.testing.assert_close(found, expected.expand(2, 3), atol=1e-9, rtol=0)


def test_bessel_functions_are_orthogonal_in_the_ball() -> None:
    """∫ b_n b_m r² dr = cutoff² δ_nm, which the extra factor `cutoff` makes of δ_nm."""
    r = (torch.arange(2000, dtype=torch.float64) + 0.5) * (CUTOFF / 2000)
    b = bessel_functions(r, n_radial=4, cutoff=CUTOFF)
    overlap = (b * r[:, None] ** 2).T @ b * (CUTOFF / 2000)
    torch.testing.assert_close(overlap, CUTOFF**2 * torch.eye(4).double(), atol=1e-9, rtol=0)


def radial_weights(*, hidden: list[int]) -> RadialWeights:
    torch.manual_seed(0)
    sizes = {"n_radial": 3, "n_paths": 2, "channels": 4, "cutoff": CUTOFF, "n_intervals": 32}
    return RadialWeights(hidden=hidden, dtype=torch.float64, **sizes)


@pytest.mark.parametrize("hidden", [[], [5], [5, 6]], ids=str)
def test_radial_weights_are_the_network_at_every_knot(hidden: list[int]) -> None:
    """They, and their gradients by all its weights."""
    weights = radial_weights(hidden=hidden)
    knots = torch.linspace(0, CUTOFF, 33, dtype=torch.float64)
    network = weights.mlp(bessel_functions(knots, n_radial=3, cutoff=CUTOFF))
    values = weights.coefficients()(knots)
    assert values.shape == (33, 2, 4)
    torch.testing.assert_close(values.flatten(1), network, atol=1e-12, rtol=0)
    parameters = list(weights.parameters())
    assert len(parameters) == 2 * len(hidden) + 1
    expected = torch.autograd.grad(network.square().sum(), parameters)
    found = torch.autograd.grad(values.square().sum(), parameters)
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-11)


def test_linear_layers_keep_the_variance() -> None:
    torch.manual_seed(0)
    layer = linear(400, 300, gain=SILU_GAIN, dtype=torch.float64)
    hidden = torch.nn.functional.silu(torch.randn(200, 400, dtype=torch.float64))
    assert layer(hidden).std().item() == pytest.approx(1.0, abs=0.03)
    assert not layer.bias.any()
