"""Whether ranks that hold the same weights hold the same bits: one flipped bit is found."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from gfm_pretrain.guard import TrainingError
from gfm_pretrain.process import World, all_reduce_min, gather_objects

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By bytes, what the bits of a number are read as."""
LARGEST = torch.iinfo(torch.int64).max

Tensors = Mapping[str, Mapping[str, Tensor]]
"""By part of the model, then by name."""


class ReplicaError(TrainingError):
    """Ranks that should hold the same weights do not."""


def check_replicas(world: World, parts: Sequence[str], mine: Tensors, *, when: str) -> None:
    """Compare the bits of each part over the ranks that hold it. Call on every rank.

    One message of 16 bytes for each part; only if a part differs, more is told.

    Args:
        world: All ranks.
        parts: Of the whole model, in one order on all ranks.
        mine: The parts of this rank; a part has the same tensors on each rank that holds it.
        when: For the error, such as `step 500`.

    Raises:
        ReplicaError: naming the part, the first tensor that differs and the ranks in the minority;
            the same on every rank.
    """
    if world.size == 1:
        return
    digests = {part: fingerprints(mine[part].values()) for part in parts if part in mine}
    whole = {part: fingerprints([rows]) for part, rows in digests.items()}
    different = _differing(world, parts, whole)
    if different:
        named = {p: dict(zip(mine[p], digests[p].tolist(), strict=True)) for p in digests}
        of_ranks = gather_objects(world, named.get(different[0]))
        raise ReplicaError(_explain(different[0], of_ranks, when=when))


def fingerprints(tensors: Iterable[Tensor]) -> Int64[Tensor, " tensors"]:
    """A number for each tensor that every flipped bit changes, computed on the device.

    Σ_i (2 i + 1) b_i mod 2^64, b being the bits of number i read as an integer. A flipped bit k
    changes the sum by (2 i + 1) 2^k, which is never a multiple of 2^64 as k < 64.
    """
    return torch.stack([_fingerprint(tensor.detach()) for tensor in tensors])


def _fingerprint(tensor: Tensor) -> Int64[Tensor, ""]:
    bits = tensor.contiguous().view(-1).view(INTEGERS[tensor.element_size()]).to(torch.int64)
    weights = torch.arange(len(bits), device=bits.device).mul_(2).add_(1)
    return bits.mul(weights).sum()


def _differing(
    world: World, parts: Sequence[str], whole: Mapping[str, Int64[Tensor, "1"]]
) -> list[str]:
    """Parts whose smallest and largest digest over the ranks are not the same."""
    absent = torch.full((1,), LARGEST, dtype=torch.int64, device=world.device)
    lowest = torch.cat([whole.get(part, absent).to(world.device) for part in parts])
    highest = torch.cat(
        [~whole[part].to(world.device) if part in whole else absent for part in parts]
    )
    both = all_reduce_min(world, torch.stack([lowest, highest]))
    equal = (both[0] == ~both[1]).tolist()
    return [part for part, same in zip(parts, equal, strict=True) if not same]


def _explain(part: str, of_ranks: Sequence[Mapping[str, int] | None], *, when: str) -> str:
    known = {rank: found for rank, found in enumerate(of_ranks) if found is not None}
    names = next(iter(known.values()))
    name = next(n for n in names if len({found[n] for found in known.values()}) > 1)
    return (
        f"ranks {', '.join(map(str, known))} should hold the same {part} at {when}, but "
        f"{name} {_minority({rank: found[name] for rank, found in known.items()})}: broken memory, "
        "or something that is not computed alike everywhere; the newest snapshot is from before, "
        "continue from it with the same command, without that node if it happens again"
    )


def _minority(digests: Mapping[int, int]) -> str:
    """Which ranks have other bits than most, if most have the same."""
    (usual, n_usual), *_ = Counter(digests.values()).most_common(1)
    others = [str(rank) for rank, digest in digests.items() if digest != usual]
    if 2 * n_usual <= len(digests):
        return "differs between them, and which of them is right cannot be told"
    return f"differs on rank {', '.join(others)}"
