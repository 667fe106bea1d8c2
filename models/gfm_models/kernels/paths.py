"""Path lists: which degrees of the neighbour and of the direction couple to which degree."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Path:
    """Features of degree `l_in` times harmonics of degree `l_edge` give degree `l_out`."""

    l_in: int
    l_edge: int
    l_out: int


def natural_paths(*, l_in: int, l_edge: int, l_out: int) -> tuple[Path, ...]:
    """All paths between degrees up to the given ones that keep natural parity, (-1)^l."""
    return tuple(
        Path(a, b, c)
        for a in range(l_in + 1)
        for b in range(l_edge + 1)
        for c in range(abs(a - b), min(a + b, l_out) + 1)
        if (a + b + c) % 2 == 0
    )
