"""A program of several ranks for test_share.py: where the columns of a shared store lie."""

import json
import sys
from pathlib import Path

import numpy as np
from gfm_pretrain.data.store.share import share_store
from gfm_pretrain.data.store.store import open_store
from gfm_pretrain.failure import run_main
from gfm_pretrain.process import World, gather_objects


def mapping_of(array: np.ndarray) -> tuple[str, int]:
    """Permissions and inode of the memory that an array lies in, as Linux tells them."""
    address = array.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, permissions, _, _, inode, *_ = line.split()
        start, end = (int(bound, 16) for bound in bounds.split("-"))
        if start <= address < end:
            return permissions, int(inode)
    raise AssertionError("every array lies somewhere")


def main(world: World) -> None:
    store = open_store(sys.argv[1])
    shared = share_store(store, world)
    train = shared.splits["train"]
    columns = train.read(np.arange(len(train))[world.rank :: world.size])
    facts = {
        "energy": float(columns.energy.sum()),
        "forces": float(np.abs(columns.forces).sum()),
        "mapping": mapping_of(train.shards[0].positions),
        "writeable": train.shards[0].positions.flags.writeable,
    }
    everywhere = gather_objects(world, facts)
    if world.rank == 0:
        sys.stdout.write(json.dumps(everywhere))


if __name__ == "__main__":
    sys.exit(run_main(main, program="share", device="cpu"))
