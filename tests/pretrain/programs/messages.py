"""What the ranks of a step send: how many bytes, in which order, and when."""

from typing import Any
from unittest.mock import patch

import gfm_pretrain.reduction.buckets
import torch
from gfm_pretrain.process import Group, World, barrier, gather_objects, start_sum
from gfm_pretrain.reduction.overlapped import OverlappedReduction
from gfm_pretrain.trainer import Trainer
from torch import Tensor

from benchmarks.wire import bytes_between, bytes_sent_by_socket


def traffic(trainer: Trainer, world: World) -> dict[str, Any]:
    """Bytes that each rank sent in a step: counted by the kernel, and by the engine."""
    work = trainer.feed.work(0)
    trainer.compute_gradients(work)  # connections are there, DDP has arranged its buckets
    barrier(world)
    by_engine = trainer.reduction.bytes_sent
    before = bytes_sent_by_socket()
    trainer.compute_gradients(work)
    counted = bytes_between(before, bytes_sent_by_socket())
    return {
        "counted": gather_objects(world, counted),
        "by_engine": gather_objects(world, trainer.reduction.bytes_sent - by_engine),
    }


def order_of_messages(trainer: Trainer, world: World) -> dict[str, Any]:
    """Each rank's messages in their order, and whether a backward pass was going on."""
    reduction = trainer.reduction
    assert isinstance(reduction, OverlappedReduction)
    names = [part for part, _ in reduction.sums._buckets]
    numbers = [names[:place].count(name) for place, name in enumerate(names)]
    addresses = [bucket.flat.data_ptr() for _, bucket in reduction.sums._buckets]
    messages: list[tuple[str, int, bool]] = []
    going_on = [False]

    def noting_sum(world: World, tensor: Tensor, group: Group) -> Any:
        place = addresses.index(tensor.data_ptr())
        messages.append((names[place], numbers[place], going_on[0]))
        return start_sum(world, tensor, group)

    backward = Tensor.backward

    def noting_backward(loss: Tensor) -> None:
        going_on[0] = True
        backward(loss)
        going_on[0] = False

    work = trainer.feed.work(0)
    with (
        patch.object(gfm_pretrain.reduction.buckets, "start_sum", noting_sum),
        patch.object(torch.Tensor, "backward", noting_backward),
    ):
        trainer.compute_gradients(work)
    return {
        "messages": gather_objects(world, messages),
        "heads_with_work": gather_objects(world, [taken.head for taken in work.passes]),
    }
