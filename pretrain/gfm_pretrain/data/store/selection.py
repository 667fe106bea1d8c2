"""The structures of an import that are kept, gone through without holding them all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from gfm_pretrain.data.shard import Shard
from gfm_pretrain.data.store.parts import PartShard


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Some structures of the shards of all parts."""

    shards: Sequence[PartShard]
    """All of them, in the order of the data."""
    kept: Bool[np.ndarray, " structures"]
    """Which structures are meant."""

    def __len__(self) -> int:
        return int(np.count_nonzero(self.kept))

    def chunks(self, size: int = 8192) -> Iterator[Shard]:
        """Copies of the structures that are meant, in order, at most `size` at a time."""
        start = 0
        for part in self.shards:
            rows = np.flatnonzero(self.kept[start : start + part.facts.n_structures])
            start += part.facts.n_structures
            if len(rows):
                shard = part.map()
                for first in range(0, len(rows), size):
                    yield shard.take(rows[first : first + size])
