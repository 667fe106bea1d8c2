"""C code of a path list: what the fused edge operation does with one edge and a few channels.

Each statement below is written once for every nonzero K_p[m1, m3]; that is all that the path list
decides. Loops over edges, channels and threads are in `edge_operation.c`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gfm_models.harmonics import coupling, degree_slice, n_harmonics
from gfm_models.kernels.paths import Path


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One K_p[m1, m3] = Σ_m2 C_p[m1, m2, m3] Y[m2] that is not zero for every Y."""

    number: int
    """Its place among all of all paths."""
    m_in: int
    """Component of the neighbour, among those of all degrees."""
    m_out: int
    """Component of the sum."""
    terms: tuple[tuple[int, float], ...]
    """Component of the harmonics, and coupling."""


def paths_header(paths: Sequence[Path]) -> str:
    """The file `paths.h`: sizes, and K from the harmonics and back."""
    flat = [entry for of_path in path_entries(paths) for entry in of_path]
    sizes = path_sizes(paths) | {"N_COUPLINGS": len(flat)}
    lines = [f"#define {name} {size}" for name, size in sizes.items()]
    lines += _function("void couple(const real *y, real *k)", _couple(flat))
    adjoint = _couple_adjoint(flat, sizes["N_HARMONICS"])
    lines += _function("void couple_adjoint(const vec *k, real *y)", adjoint)
    return "\n".join([*lines, ""])


def blocks_header(paths: Sequence[Path]) -> str:
    """The file `blocks.h`: what `edge_operation.c` does with LANES channels of an edge."""
    return _blocks(paths, _BLOCKS)


def from_vectors_header(paths: Sequence[Path]) -> str:
    """The file `from_vectors_blocks.h`: the same for `from_vectors.c`."""
    return _blocks(paths, _FROM_VECTORS)


def path_sizes(paths: Sequence[Path]) -> dict[str, int]:
    """Sizes that the path list gives to the arrays, by their names in C."""
    return {
        "N_PATHS": len(paths),
        "N_IN": n_harmonics(max(path.l_in for path in paths)),
        "N_HARMONICS": n_harmonics(max(path.l_edge for path in paths)),
        "N_OUT": n_harmonics(max(path.l_out for path in paths)),
    }


def count_couplings(paths: Sequence[Path]) -> int:
    """Number of nonzero K_p[m1, m3], in which the work of an edge is measured."""
    return sum(len(entries) for entries in path_entries(paths))


def path_entries(paths: Sequence[Path]) -> Iterator[list[Entry]]:
    """Those of each path."""
    number = 0
    for path in paths:
        c = coupling(path.l_in, path.l_edge, path.l_out)
        of_path = []
        for m1 in range(c.shape[0]):
            for m3 in range(c.shape[2]):
                terms = tuple(
                    (degree_slice(path.l_edge).start + int(m2), float(c[m1, m2, m3]))
                    for m2 in c[m1, :, m3].nonzero()[0]
                )
                if terms:
                    entry = Entry(
                        number=number,
                        m_in=degree_slice(path.l_in).start + m1,
                        m_out=degree_slice(path.l_out).start + m3,
                        terms=terms,
                    )
                    of_path.append(entry)
                    number += 1
        yield of_path


def _blocks(paths: Sequence[Path], blocks: Mapping[str, "_Statements"]) -> str:
    entries = list(path_entries(paths))
    lines = []
    for signature, statements in blocks.items():
        lines += _function(signature, [s for p, e in enumerate(entries) for s in statements(p, e)])
    return "\n".join([*lines, ""])


def _function(signature: str, statements: Sequence[str]) -> list[str]:
    return [f"INLINE {signature} {{", *(f"    {statement}" for statement in statements), "}"]


def _couple(entries: Sequence[Entry]) -> list[str]:
    return [
        f"k[{entry.number}] = {_sum(f'{_real(c)} * y[{m}]' for m, c in entry.terms)};"
        for entry in entries
    ]


def _couple_adjoint(entries: Sequence[Entry], n_edge: int) -> list[str]:
    to_component: list[list[str]] = [[] for _ in range(n_edge)]
    for entry in entries:
        for m, c in entry.terms:
            to_component[m].append(f"{_real(c)} * k[{entry.number}]")
    return [
        f"y[{m}] = {f'sum_lanes({_sum(terms)})' if terms else '0'};"
        for m, terms in enumerate(to_component)
    ]


def _value(path: int, entries: Sequence[Entry]) -> Iterator[str]:
    """a[m3] += K R h."""
    yield from _add_to_sums(f"const vec r = {_at('R', path)};", entries)


def _spline_value(path: int, entries: Sequence[Entry]) -> Iterator[str]:
    radial = f"const vec r = spline(reading, c + {path} * channels, channels);"
    yield from _add_to_sums(radial, entries)


def _add_to_sums(radial: str, entries: Sequence[Entry]) -> Iterator[str]:
    yield f"{{ {radial}"
    for m in _components(entries):
        yield f"const vec x{m} = r * {_at('H', m)};"
    for e in entries:
        yield f"a[{e.m_out}] += k[{e.number}] * x{e.m_in};"
    yield "}"


def _tangent(path: int, entries: Sequence[Entry]) -> Iterator[str]:
    """a[m3] += K (uR h + R uh) + uK R h."""
    yield f"{{ const vec r = {_at('R', path)}, ur = {_at('uR', path)};"
    for m in _components(entries):
        yield f"const vec h{m} = {_at('H', m)}, x{m} = r * h{m};"
        yield f"const vec ux{m} = ur * h{m} + r * {_at('uH', m)};"
    for e in entries:
        yield f"a[{e.m_out}] += k[{e.number}] * ux{e.m_in} + uk[{e.number}] * x{e.m_in};"
    yield "}"


def _gradient(path: int, entries: Sequence[Entry]) -> Iterator[str]:
    """With t[m1] = Σ_m3 K G: to R += t h, to h += R t, to K += R h G."""
    yield f"{{ const vec r = {_at('R', path)};"
    yield from _add_to_gradients(entries)
    yield f"store(to_R + {path} * channels, to_r); }}"


def _spline_gradient(path: int, entries: Sequence[Entry]) -> Iterator[str]:
    """As `_gradient`, with R' t h summed over paths."""
    yield f"{{ vec dr; const vec r = {_spline_and_slope(path)};"
    yield from _add_to_gradients(entries)
    yield "*slope += dr * to_r; }"


def _spline_direction(path: int, entries: Sequence[Entry]) -> Iterator[str]:
    """As `_spline_gradient`, without that by h."""
    yield f"{{ vec dr; const vec r = {_spline_and_slope(path)};"
    yield from _add_to_gradients(entries, features=False)
    yield "*slope += dr * to_r; }"


def _spline_and_slope(path: int) -> str:
    return f"spline_and_slope(reading, c + {path} * channels, channels, &dr)"


def _add_to_gradients(entries: Sequence[Entry], *, features: bool = True) -> Iterator[str]:
    for m in _components(entries):
        yield f"const vec h{m} = {_at('H', m)}, x{m} = r * h{m}; vec t{m} = {{0}};"
    for e in entries:
        yield f"{{ const vec z = {_at('G', e.m_out)};"
        yield f"t{e.m_in} += k[{e.number}] * z; sums[{e.number}] += x{e.m_in} * z; }}"
    if features:
        for m in _components(entries):
            yield f"add(to_H + {m} * channels, r * t{m});"
    yield f"const vec to_r = {_sum(f't{m} * h{m}' for m in _components(entries))};"


def _curvature(path: int, entries: Sequence[Entry]) -> Iterator[str]:
    """With t = Σ_m3 K G and ut = Σ_m3 uK G.

    To R += ut h + t uh, to h += uR t + R ut, to K += (uR h + R uh) G.
    """
    yield f"{{ const vec r = {_at('R', path)}, ur = {_at('uR', path)};"
    for m in _components(entries):
        yield f"const vec h{m} = {_at('H', m)}, uh{m} = {_at('uH', m)};"
        yield f"const vec ux{m} = ur * h{m} + r * uh{m}; vec t{m} = {{0}}, ut{m} = {{0}};"
    for e in entries:
        yield f"{{ const vec z = {_at('G', e.m_out)};"
        yield f"t{e.m_in} += k[{e.number}] * z; ut{e.m_in} += uk[{e.number}] * z;"
        yield f"sums[{e.number}] += ux{e.m_in} * z; }}"
    to_r = _sum(f"ut{m} * h{m} + t{m} * uh{m}" for m in _components(entries))
    yield f"store(to_R + {path} * channels, {to_r});"
    for m in _components(entries):
        yield f"add(to_H + {m} * channels, ur * t{m} + r * ut{m});"
    yield "}"


_IN = "const real *R, const real *H"
_CHANGE = "const real *R, const real *uR, const real *H, const real *uH"
_OUT = "real *restrict to_R, vec *restrict sums, real *restrict to_H"
_SIZES = "int64_t channels"
_K, _UK = "const real *k", "const real *uk"
_Statements = Callable[[int, Sequence[Entry]], Iterator[str]]
_BLOCKS: dict[str, _Statements] = {
    f"void value_block({_K}, {_IN}, vec *restrict a, {_SIZES})": _value,
    f"void tangent_block({_K}, {_UK}, {_CHANGE}, vec *restrict a, {_SIZES})": _tangent,
    f"void gradient_block({_K}, {_IN}, const real *G, {_OUT}, {_SIZES})": _gradient,
    f"void curvature_block({_K}, {_UK}, {_CHANGE}, const real *G, {_OUT}, {_SIZES})": _curvature,
}
_READING = "const real *k, const Reading *reading, const real *H"
_TO_SUMS = "vec *restrict slope, vec *restrict sums"
_FROM_VECTORS: dict[str, _Statements] = {
    f"void value_block({_READING}, vec *restrict a, int64_t c, {_SIZES})": _spline_value,
    (
        f"void gradient_block({_READING}, const real *G, {_TO_SUMS}, real *restrict to_H, "
        f"int64_t c, {_SIZES})"
    ): _spline_gradient,
    f"void direction_block({_READING}, const real *G, {_TO_SUMS}, int64_t c, {_SIZES})": (
        _spline_direction
    ),
}


def _components(entries: Sequence[Entry]) -> list[int]:
    return sorted({entry.m_in for entry in entries})


def _at(array: str, row: int) -> str:
    return f"load({array} + {row} * channels)"


def _sum(terms: Sequence[str] | Iterator[str]) -> str:
    return " + ".join(terms)


def _real(value: float) -> str:
    return f"(real){value!r}"
