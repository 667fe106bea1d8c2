"""Triton code of a path list: the fused edge operation and its derivatives on a GPU.

As in `generate.py`, each statement is written once for every nonzero K_p[m1, m3]. A program sums
over the edges of one node for a block of channels, which lie across the threads; the harmonics and
K, the same for all channels, are scalars. No two programs write to one place, so that results do
not depend on the order in which programs run.

symbol → variable: R → w, Y → y, h → h, G → g, A → a; a change of one of them has a u before it.
Gradients: of h → n, of Y → e, of R → stored at once. x = R h, t[m1] = Σ_m3 K G.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from gfm_models.kernels.generate import Entry, path_entries, path_sizes
from gfm_models.kernels.paths import Path

_HEAD = '''"""The edge operation of one path list in Triton, written by gfm_models."""

import triton
import triton.language as tl
'''

# Whether the parts of the order are aligned differs from graph to graph, and so do their lengths:
# none of this is to be a reason for Triton to compile anew.

_OF_RECEIVERS = """
@triton.jit(do_not_specialize_on_alignment=["senders", "first"])
def {name}({inputs}, A, senders, first, channels, BLOCK: tl.constexpr):
    node = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = c < channels
    {start}
    for edge in range(tl.load(first + node), tl.load(first + node + 1)):
        sender = tl.load(senders + edge)
        {of_edge}
    {end}
"""

_OF_SENDERS = """
@triton.jit(
    do_not_specialize=["n_edges"],
    do_not_specialize_on_alignment=["receivers", "by_sender", "first"],
)
def {name}(
    G, {inputs}, to_R, to_Y, to_H, receivers, by_sender, first, n_edges, channels,
    BLOCK: tl.constexpr,
):
    sender = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = c < channels
    {start}
    for place in range(tl.load(first + sender), tl.load(first + sender + 1)):
        edge = tl.load(by_sender + place)
        receiver = tl.load(receivers + edge)
        {of_edge}
    {end}
"""

_Statements = Callable[[int, Sequence[Entry]], Iterator[str]]


def triton_source(paths: Sequence[Path]) -> str:
    """A module of the functions `edge_value`, `edge_tangent`, `edge_gradient`, `edge_curvature`.

    The first two are started for every receiver and block of channels, the others for every
    sender and block. `first` says where the edges of each begin. Where there are several blocks,
    each writes its part of the gradient by Y to an array of its own, [blocks, edges, harmonics].
    """
    functions = (
        _of_receivers("edge_value", ("",), _value, paths),
        _of_receivers("edge_tangent", ("", "u"), _tangent, paths),
        _of_senders("edge_gradient", ("",), _gradient, paths),
        _of_senders("edge_curvature", ("", "u"), _curvature, paths),
    )
    return "\n".join([_HEAD, *functions])


def _of_receivers(
    name: str, changes: Sequence[str], statements: _Statements, paths: Sequence[Path]
) -> str:
    sizes = path_sizes(paths)
    n_in, n_out = sizes["N_IN"], sizes["N_OUT"]
    of_edge = [
        line
        for u in changes
        for line in (*_harmonics(u, sizes), *_rows(f"{u}h", f"{u}H", "sender", n_in))
    ]
    return _OF_RECEIVERS.format(
        name=name,
        inputs=_inputs(changes),
        start=_lines(_zeros("a", "A", n_out), 1),
        of_edge=_lines([*of_edge, *_of_paths(statements, paths, changes)], 2),
        end=_lines(_stores("A", "node", "a", n_out), 1),
    )


def _of_senders(
    name: str, changes: Sequence[str], statements: _Statements, paths: Sequence[Path]
) -> str:
    sizes = path_sizes(paths)
    n_in, n_harmonics, n_out = sizes["N_IN"], sizes["N_HARMONICS"], sizes["N_OUT"]
    own = [line for u in changes for line in _rows(f"{u}h", f"{u}H", "sender", n_in)]
    of_edge = [
        *(line for u in changes for line in _harmonics(u, sizes)),
        *_rows("g", "G", "receiver", n_out),
        *_zeros("e", "to_Y", n_harmonics),
        *_of_paths(statements, paths, changes, to_radial=True),
        f"to_y = to_Y + (tl.program_id(1).to(tl.int64) * n_edges + edge) * {n_harmonics}",
        *(f"tl.store(to_y + {m}, tl.sum(e{m}, 0))" for m in range(n_harmonics)),
    ]
    return _OF_SENDERS.format(
        name=name,
        inputs=_inputs(changes),
        start=_lines([*own, *_zeros("n", "to_H", n_in)], 1),
        of_edge=_lines(of_edge, 2),
        end=_lines(_stores("to_H", "sender", "n", n_in), 1),
    )


def _value(path: int, entries: Sequence[Entry]) -> Iterator[str]:
    """a[m3] += K R h."""
    for m in _components(entries):
        yield f"x{m} = w{path} * h{m}"
    for e in entries:
        yield f"a{e.m_out} += {_k(e)} * x{e.m_in}"


def _tangent(path: int, entries: Sequence[Entry]) -> Iterator[str]:
    """a[m3] += K (uR h + R uh) + uK R h."""
    for m in _components(entries):
        yield f"x{m} = w{path} * h{m}"
        yield f"ux{m} = uw{path} * h{m} + w{path} * uh{m}"
    for e in entries:
        yield f"a{e.m_out} += {_k(e)} * ux{e.m_in} + {_k(e, 'u')} * x{e.m_in}"


def _gradient(path: int, entries: Sequence[Entry]) -> Iterator[str]:
    """To R += t h, to h += R t, to K += R h G."""
    components = _components(entries)
    for m in components:
        yield f"x{m} = w{path} * h{m}"
        yield f"t{m} = {_contracted(entries, m)}"
        yield f"n{m} += w{path} * t{m}"
    yield from _to_harmonics(entries, "x")
    yield f"r = {_sum(f't{m} * h{m}' for m in components)}"


def _curvature(path: int, entries: Sequence[Entry]) -> Iterator[str]:
    """To R += ut h + t uh, to h += uR t + R ut, to K += (uR h + R uh) G; ut = Σ_m3 uK G."""
    components = _components(entries)
    for m in components:
        yield f"ux{m} = uw{path} * h{m} + w{path} * uh{m}"
        yield f"t{m} = {_contracted(entries, m)}"
        yield f"ut{m} = {_contracted(entries, m, 'u')}"
        yield f"n{m} += uw{path} * t{m} + w{path} * ut{m}"
    yield from _to_harmonics(entries, "ux")
    yield f"r = {_sum(f'ut{m} * h{m} + t{m} * uh{m}' for m in components)}"


def _of_paths(
    statements: _Statements,
    paths: Sequence[Path],
    changes: Sequence[str],
    *,
    to_radial: bool = False,
) -> Iterator[str]:
    """What is done with an edge; radial weights are read and written where they are needed."""
    for path, entries in enumerate(path_entries(paths)):
        place = _place("edge", len(paths), path)
        for u in changes:
            yield f"{u}w{path} = tl.load({u}R + {place}, inside, 0)"
        yield from statements(path, entries)
        if to_radial:
            yield f"tl.store(to_R + {place}, r, inside)"


def _to_harmonics(entries: Sequence[Entry], x: str) -> Iterator[str]:
    """e[m2] += Σ C x[m1] G[m3], before the sum over channels: the harmonics are fewer than K."""
    for entry in entries:
        yield f"s = {x}{entry.m_in} * g{entry.m_out}"
        for m, c in entry.terms:
            yield f"e{m} += {c!r} * s"


def _contracted(entries: Sequence[Entry], m_in: int, u: str = "") -> str:
    """t[m1] = Σ_m3 K[m1, m3] G[m3]."""
    return _sum(f"{_k(e, u)} * g{e.m_out}" for e in entries if e.m_in == m_in)


def _k(entry: Entry, u: str = "") -> str:
    return f"({_sum(f'{c!r} * {u}y{m}' for m, c in entry.terms)})"


def _components(entries: Sequence[Entry]) -> list[int]:
    return sorted({entry.m_in for entry in entries})


def _inputs(changes: Sequence[str]) -> str:
    return ", ".join(f"{u}R, {u}Y, {u}H" for u in changes)


def _harmonics(u: str, sizes: dict[str, int]) -> Iterator[str]:
    n = sizes["N_HARMONICS"]
    return (f"{u}y{m} = tl.load({u}Y + edge * {n} + {m})" for m in range(n))


def _rows(name: str, array: str, node: str, n: int) -> Iterator[str]:
    """All components of a node."""
    return (f"{name}{m} = tl.load({array} + {_place(node, n, m)}, inside, 0)" for m in range(n))


def _stores(array: str, node: str, name: str, n: int) -> Iterator[str]:
    return (f"tl.store({array} + {_place(node, n, m)}, {name}{m}, inside)" for m in range(n))


def _place(row: str, n: int, column: int) -> str:
    """Where the channels of this program begin; 64 bits wide, as the number of the row is."""
    return f"({row} * {n} + {column}) * channels + c"


def _zeros(name: str, array: str, n: int) -> Iterator[str]:
    return (f"{name}{m} = tl.zeros([BLOCK], {array}.dtype.element_ty)" for m in range(n))


def _lines(lines: Iterable[str], depth: int) -> str:
    return ("\n" + 4 * depth * " ").join(lines)


def _sum(terms: Iterable[str]) -> str:
    return " + ".join(terms)
