import subprocess
import sys

import torch
from gfm_pretrain.monitor.largest import RANK_BITS, largest_over_ranks
from gfm_pretrain.monitor.peak_memory import peak_memory
from made_up_run import made_up_world


def test_one_rank_has_the_largest_of_all():
    most = 2 ** (63 - RANK_BITS) - 1
    found = largest_over_ranks(made_up_world(), {"a": 0, "b": most})
    assert {name: (of.value, of.rank) for name, of in found.items()} == {
        "a": (0, 0),
        "b": (most, 0),
    }


def test_a_number_finds_its_rank(monkeypatch):
    """The maximum of what three ranks would send."""
    values = [{"a": 5, "b": 7}, {"a": 9, "b": 7}, {"a": 1, "b": 0}]
    sent: list[torch.Tensor] = []

    def all_reduce_max(world, tensor):
        sent.append(tensor)
        return torch.stack(sent).amax(0)

    monkeypatch.setattr("gfm_pretrain.monitor.largest.all_reduce_max", all_reduce_max)
    found = {}
    for rank, of_rank in enumerate(values):
        found = largest_over_ranks(made_up_world(rank=rank, size=3), of_rank)
    assert (found["a"].value, found["a"].rank) == (9, 1)
    assert (found["b"].value, found["b"].rank) == (7, 0)


def test_who_waits_for_the_largest_is_seen_to_wait(monkeypatch):
    world, seen = made_up_world(size=2), []
    monkeypatch.setattr(
        "gfm_pretrain.process.dist.all_reduce",
        lambda *_, **__: seen.append(world.pulse.activity),
    )
    largest_over_ranks(world, {"a": 1})
    assert [(activity.name, activity.waits) for activity in seen] == [
        ("a maximum over ranks", True)
    ]
    assert not world.pulse.activity.waits


PEAK = """
import sys
from gfm_pretrain.monitor.peak_memory import peak_resident
before = peak_resident()
block = bytearray(300_000_000)
del block
sys.stdout.write(f"{before} {peak_resident()}")
"""


def test_the_peak_is_that_of_this_process_and_stays():
    hoard = bytearray(500_000_000)  # a child would begin with it by getrusage
    result = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True)
    del hoard
    before, after = map(int, result.stdout.split())
    assert after - before > 250_000_000
    assert peak_memory(torch.device("cpu"))["resident"] > 500_000_000 > 0.5 * before
    assert list(peak_memory(torch.device("cpu"))) == ["resident"]
