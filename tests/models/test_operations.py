"""Operations past torch's dispatcher and through it: the same numbers, and nobody is left out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from gfm_models.kernels.fused_spline import fused_spline, spline_basis
from gfm_models.kernels.operations import Operation
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

N_INTERVALS, SCALE = 8, 2.0


@contextmanager
def through_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where torch.compile looks on."""
    with monkeypatch.context() as patch:
        patch.setattr(Operation, "__call__", lambda self, *arguments: self.overload(*arguments))
        yield


def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    lengths = 4 * torch.rand(20, dtype=torch.float64)
    rows = torch.randn(N_INTERVALS + 5, 2, 16, dtype=torch.float64)
    return lengths.requires_grad_(), rows.requires_grad_()


def derivatives() -> list[Tensor]:
    """Values, first derivatives by lengths, and derivatives of these by both."""
    lengths, rows = inputs()
    values = fused_spline(lengths, rows, SCALE)
    (first,) = torch.autograd.grad(values.square().sum(), lengths, create_graph=True)
    return [values, first, *torch.autograd.grad(first.square().sum(), (lengths, rows))]


def test_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = derivatives()
    with through_torch(monkeypatch):
        expected = derivatives()
    assert all(e.abs().max() > 0.1 for e in expected)
    assert all(map(torch.equal, found, expected))


def test_it_goes_past_the_dispatcher(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("through torch")

    monkeypatch.setattr(spline_basis, "overload", refuse)
    derivatives()
    with pytest.raises(AssertionError, match="through torch"), Seeing():
        derivatives()


def test_without_gradients_nothing_is_kept() -> None:
    lengths, rows = inputs()
    with torch.no_grad():
        assert fused_spline(lengths, rows, SCALE).grad_fn is None
    assert fused_spline(lengths.detach(), rows.detach(), SCALE).grad_fn is None


class Seeing(TorchDispatchMode):
    """Notes the operations of this project that torch dispatches."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, _: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace == "gfm_models":
            self.seen.add(func.name())
        return func(*args, **(kwargs or {}))


def test_modes_see_them() -> None:
    with Seeing() as mode:
        derivatives()
    expected = {"spline_basis", "spline_places", "spline_value", "spline_to_weights"}
    assert {f"gfm_models::{name}" for name in expected} <= mode.seen


@pytest.mark.parametrize("inside", [True, False])
def test_tensors_without_numbers(inside: bool) -> None:
    """Inside of their mode, and outside, where only their class tells."""
    mode = FakeTensorMode()
    lengths, rows = map(mode.from_tensor, inputs())

    def value(context: Callable[[], Any]) -> Tensor:
        with context():
            return fused_spline(lengths, rows, SCALE)

    found = value((lambda: mode) if inside else torch.no_grad)
    assert isinstance(found, FakeTensor)
    assert found.shape == (20, 2, 16)
