"""Bits of weights; that ranks compare them is shown with real ranks in test_faults.py."""

from typing import Any

import pytest
import torch
from gfm_pretrain.process import World
from gfm_pretrain.replicas import INTEGERS, ReplicaError, check_replicas, fingerprints
from torch import Tensor

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.int64)
TWO = World(
    rank=0, size=2, local_rank=0, local_size=2, launcher="torchrun", device=torch.device("cpu")
)


def numbers(dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 3, generator=generator, dtype=torch.float64).mul(100).to(dtype)


def flipped(tensor: Tensor, place: int, bit: int) -> Tensor:
    n_bits = 8 * tensor.element_size()
    bits = tensor.clone().view(-1).view(INTEGERS[tensor.element_size()])
    mask = 1 << bit if bit < n_bits - 1 else -(1 << bit)
    bits[place] ^= mask
    return bits.view(tensor.dtype).view(tensor.shape)


def fingerprint(tensor: Tensor) -> int:
    return int(fingerprints([tensor])[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_flipped_bit_changes_the_number(dtype):
    tensor = numbers(dtype)
    usual = fingerprint(tensor)
    assert usual == fingerprint(tensor.clone())
    for place in range(tensor.numel()):
        for bit in range(8 * tensor.element_size()):
            assert fingerprint(flipped(tensor, place, bit)) != usual


def test_order_and_the_sign_of_zero_and_nan_count():
    tensor = torch.tensor([1.0, 2.0, 0.0, float("nan")])
    usual = fingerprint(tensor)
    assert fingerprint(tensor[[1, 0, 2, 3]]) != usual
    assert fingerprint(torch.tensor([1.0, 2.0, -0.0, float("nan")])) != usual
    assert fingerprint(tensor.clone()) == usual


def test_strides_do_not_count_and_single_numbers_can_be_had():
    tensor = numbers(torch.float32)
    assert fingerprint(tensor.T.contiguous().T) == fingerprint(tensor)
    assert fingerprint(torch.tensor(3.0)) != fingerprint(torch.tensor(2.0))
    assert fingerprint(torch.zeros(0)) == 0


def check(monkeypatch: pytest.MonkeyPatch, *of_ranks: dict[str, dict[str, Tensor]]) -> None:
    """What rank 0 finds, with the messages of the others made here."""

    def lowest(world: World, mine: Tensor) -> Tensor:
        found = [mine]
        for held in of_ranks[1:]:
            whole = {part: fingerprints([fingerprints(t.values())]) for part, t in held.items()}
            absent = torch.full((1,), torch.iinfo(torch.int64).max)
            found.append(
                torch.stack(
                    [
                        torch.cat([whole.get(part, absent) for part in PARTS]),
                        torch.cat([~whole[p] if p in whole else absent for p in PARTS]),
                    ]
                )
            )
        return torch.stack(found).amin(0)

    def gather(world: World, mine: Any) -> list[Any]:
        first = next(p for p in PARTS if mine == named(of_ranks[0]).get(p))
        return [named(held).get(first) for held in of_ranks]

    monkeypatch.setattr("gfm_pretrain.replicas.all_reduce_min", lowest)
    monkeypatch.setattr("gfm_pretrain.replicas.gather_objects", gather)
    check_replicas(TWO, PARTS, of_ranks[0], when="step 7")


def named(held: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, int]]:
    return {p: {name: fingerprint(t) for name, t in tensors.items()} for p, tensors in held.items()}


PARTS = ("backbone", "heads/a", "heads/b")


def held(**heads: float) -> dict[str, dict[str, Tensor]]:
    backbone = {"weight/w": numbers(torch.float32), "average/w": numbers(torch.float32)}
    return {"backbone": backbone} | {
        f"heads/{name}": {"weight/w": torch.tensor([value])} for name, value in heads.items()
    }


def test_ranks_that_agree_go_on(monkeypatch):
    check(monkeypatch, held(a=1.0), held(a=1.0, b=2.0), held(b=2.0))


def test_the_minority_and_the_first_tensor_are_named(monkeypatch):
    other = held(a=1.0)
    other["backbone"]["average/w"] = flipped(other["backbone"]["average/w"], 3, 0)
    said = "ranks 0, 1, 2 should hold the same backbone at step 7, but average/w differs on rank 1:"
    with pytest.raises(ReplicaError, match=said):
        check(monkeypatch, held(a=1.0), other, held())


def test_of_two_nobody_can_tell_which_is_right(monkeypatch):
    said = "ranks 0, 2 should hold the same heads/a at step 7, but weight/w differs between them"
    with pytest.raises(ReplicaError, match=said):
        check(monkeypatch, held(a=1.0), held(b=1.0), held(a=1.5))


def test_moments_without_a_weight_that_differs_count(monkeypatch):
    with pytest.raises(ReplicaError, match="heads/a"):
        check(monkeypatch, held(a=0.0), held(a=-0.0))
