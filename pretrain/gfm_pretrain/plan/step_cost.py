"""Where the cost of passes, atoms and edges comes from, that times are predicted with."""

from dataclasses import dataclass

from gfm_pretrain.plan.timeline import Cost


@dataclass(frozen=True, kw_only=True)
class GivenCost:
    """A cost that the user gives."""

    per_pass: float
    """Seconds of a pass, however little there is in it."""
    per_atom: float
    """Seconds of an atom."""
    per_edge: float
    """Seconds of a directed edge."""


def parse_cost(text: str) -> GivenCost:
    """`20,84,35`: milliseconds of a pass, microseconds of an atom and of an edge.

    Raises:
        ValueError: not three numbers that are not negative, or nothing but zeros.
    """
    try:
        a, b, c = (float(number) for number in text.split(","))
    except ValueError:
        a = b = c = -1.0
    if not (min(a, b, c) >= 0 and max(a, b, c) < float("inf") and b + c > 0):
        raise ValueError(
            f"--cost must be three numbers such as 20,84,35 (ms a pass, µs an atom, µs an edge), "
            f"got '{text}'"
        )
    return GivenCost(per_pass=1e-3 * a, per_atom=1e-6 * b, per_edge=1e-6 * c)


def describe_cost(cost: Cost) -> str:
    """In words, for people."""
    return (
        f"{1e3 * cost.per_pass:.3g} ms a pass, {1e6 * cost.per_atom:.3g} µs an atom, "
        f"{1e6 * cost.per_edge:.3g} µs an edge"
    )
