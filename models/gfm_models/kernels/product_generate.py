"""C code of a product at the nodes: what is done with one node and LANES of its channels.

All points are written out, two antipodes at a time, without the many harmonics that vanish there.
Loops over nodes, channels and threads are in `sphere_product.c`. In the code

    f, g = even ± odd       the function at a point and at its antipode; df, dg its change
    F, G                    the cotangent, taken to the same two points
"""

from collections.abc import Callable, Iterable, Iterator
from math import isqrt

import numpy as np

from gfm_models.kernels.node_product import NodeProduct, parities, slope, sphere_matrices


def product_header(product: NodeProduct) -> str:
    """The file `product.h`: sizes, and a block of code for each of the four functions."""
    lines = [
        f"#define N_IN {product.n_in}",
        f"#define N_OUT {product.n_out}",
        f"#define CORRELATION {product.correlation}",
    ]
    for signature, statements in _BLOCKS.items():
        lines += [f"INLINE {signature} {{", *(f"    {s}" for s in statements(product)), "}"]
    return "\n".join([*lines, ""])


def count_products(product: NodeProduct) -> int:
    """Multiplications of the value of a channel, about; in which the work is measured."""
    to_sphere, back = sphere_matrices(product)
    at_points = 2 * product.correlation * len(to_sphere)
    return int(np.count_nonzero(to_sphere) + np.count_nonzero(back) + at_points)


def _value(product: NodeProduct) -> Iterator[str]:
    """A += Y P(f)."""
    yield from _load("u", "U", product.n_in)
    yield from _coefficients("w", "W", product, derivative=0)
    yield _zeros("a", product.n_out)
    for row, row_back in _points(product):
        yield "{"
        yield from _at_points("f", "g", "u", row)
        yield from _add_back("a", row_back, *(_polynomial("w", x, product, 0) for x in "fg"))
        yield "}"
    yield from _store("A", "a", product.n_out)


def _tangent(product: NodeProduct) -> Iterator[str]:
    """A += Y (P'(f) df + dP(f))."""
    yield from _load("u", "U", product.n_in)
    yield from _load("du", "dU", product.n_in)
    yield from _coefficients("w", "W", product, derivative=1)
    yield from _coefficients("dw", "dW", product, derivative=0)
    yield _zeros("a", product.n_out)
    for row, row_back in _points(product):
        yield "{"
        yield from _at_points("f", "g", "u", row)
        yield from _at_points("df", "dg", "du", row)
        yield from _add_back("a", row_back, *(_change(x, product, 0) for x in "fg"))
        yield "}"
    yield from _store("A", "a", product.n_out)


def _gradient(product: NodeProduct) -> Iterator[str]:
    """To u += Y F P'(f), to w_k += F f^k."""
    yield from _load("u", "U", product.n_in)
    yield from _load("c", "C", product.n_out)
    yield from _coefficients("w", "W", product, derivative=1)
    yield _zeros("a", product.n_in)
    yield _zeros("b", product.correlation)
    for row, row_back in _points(product):
        yield "{"
        yield from _at_points("f", "g", "u", row)
        yield from _at_points("F", "G", "c", row_back)
        yield from _add_powers("b", product, "F * f", "G * g")
        slopes = (f"{x.upper()} * {_polynomial('w', x, product, 1)}" for x in "fg")
        yield from _add_back("a", row, *slopes)
        yield "}"
    yield from _store("to_U", "a", product.n_in)
    yield from _store("to_W", "b", product.correlation)


def _curvature(product: NodeProduct) -> Iterator[str]:
    """To u += Y F (P''(f) df + dP'(f)), to w_k += k F df f^(k - 1)."""
    yield from _load("u", "U", product.n_in)
    yield from _load("du", "dU", product.n_in)
    yield from _load("c", "C", product.n_out)
    yield from _coefficients("w", "W", product, derivative=2)
    yield from _coefficients("dw", "dW", product, derivative=1)
    yield _zeros("a", product.n_in)
    yield _zeros("b", product.correlation)
    for row, row_back in _points(product):
        yield "{"
        yield from _at_points("f", "g", "u", row)
        yield from _at_points("df", "dg", "du", row)
        yield from _at_points("F", "G", "c", row_back)
        yield from _add_powers("b", product, "F * df", "G * dg")
        changes = (f"{x.upper()} * ({_change(x, product, 1)})" for x in "fg")
        yield from _add_back("a", row, *changes)
        yield "}"
    yield from _store("to_U", "a", product.n_in)
    for power in range(2, product.correlation + 1):
        yield f"b{power - 1} *= {power};"
    yield from _store("to_W", "b", product.correlation)


_AT = "const real *U, const real *W"
_CHANGE = "const real *dU, const real *dW"
_TO_AT = "real *restrict to_U, real *restrict to_W, int64_t channels"
_BLOCKS: dict[str, Callable[[NodeProduct], Iterator[str]]] = {
    f"void value_block({_AT}, real *restrict A, int64_t channels)": _value,
    f"void tangent_block({_AT}, {_CHANGE}, real *restrict A, int64_t channels)": _tangent,
    f"void gradient_block(const real *C, {_AT}, {_TO_AT})": _gradient,
    f"void curvature_block(const real *C, {_AT}, {_CHANGE}, {_TO_AT})": _curvature,
}


def _points(product: NodeProduct) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Harmonics at one point of each pair, those of the features and those of the result."""
    yield from zip(*sphere_matrices(product), strict=True)


def _at_points(here: str, there: str, components: str, row: np.ndarray) -> Iterator[str]:
    """A function at a point and at its antipode, from its components."""
    even, odd = (_sum(f"{_real(c)} * {components}{m}" for m, c in part) for part in _parts(row))
    if odd and even:
        yield f"const vec even_{here} = {even}, odd_{here} = {odd};"
        yield f"const vec {here} = even_{here} + odd_{here}, {there} = even_{here} - odd_{here};"
    elif even:
        yield f"const vec {here} = {even}, {there} = {here};"
    else:
        yield f"const vec {here} = {odd}, {there} = -{here};"


def _add_back(sums: str, row: np.ndarray, here: str, there: str) -> Iterator[str]:
    """Add what is `here`, and `there` at the antipode, to every component."""
    yield f"const vec here = {here}, there = {there};"
    for sign, part in zip("+-", _parts(row), strict=True):
        if part:
            yield f"{{ const vec both = here {sign} there;"
            yield from (f"{sums}{m} += {_real(c)} * both;" for m, c in part)
            yield "}"


def _add_powers(sums: str, product: NodeProduct, here: str, there: str) -> Iterator[str]:
    """Add `here` + `there`, times f and g to the powers 0, 1, … ."""
    yield f"vec p = {here}, q = {there};"
    for k in range(product.correlation):
        yield f"{'p *= f; q *= g; ' if k else ''}{sums}{k} += p + q;"


def _change(x: str, product: NodeProduct, derivative: int) -> str:
    """Change of a derivative of P(x) when x and the weights change."""
    moved = _polynomial("w", x, product, derivative + 1)
    return f"{moved} * d{x} + {_polynomial('dw', x, product, derivative)}"


def _polynomial(weights: str, x: str, product: NodeProduct, derivative: int) -> str:
    """P(x), or a derivative of it, from what `_coefficients` made."""
    lowest, *others = _powers(product, derivative) or [0]
    if lowest == 0:
        return "((vec){0})"
    nested = ""
    for k in reversed([lowest, *others]):
        nested = f"({nested} * {x} + {weights}{k})" if nested else f"{weights}{k}"
    return nested if derivative else f"({nested} * {x})"


def _coefficients(
    weights: str, array: str, product: NodeProduct, *, derivative: int
) -> Iterator[str]:
    for k in _powers(product, derivative):
        yield f"const vec {weights}{k} = {slope(k, derivative)} * {_at(array, k - 1)};"


def _powers(product: NodeProduct, derivative: int) -> list[int]:
    return list(range(max(derivative, 1), product.correlation + 1))


def _parts(row: np.ndarray) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Component and value of what does not vanish, even degrees and odd ones."""
    even = parities(isqrt(len(row)) - 1) > 0
    every = [(m, float(c)) for m, c in enumerate(row) if c]
    return [(m, c) for m, c in every if even[m]], [(m, c) for m, c in every if not even[m]]


def _load(names: str, array: str, n: int) -> Iterator[str]:
    return (f"const vec {names}{m} = {_at(array, m)};" for m in range(n))


def _store(array: str, names: str, n: int) -> Iterator[str]:
    return (f"store({array} + {m} * channels, {names}{m});" for m in range(n))


def _zeros(names: str, n: int) -> str:
    return f"vec {', '.join(f'{names}{m} = {{0}}' for m in range(n))};"


def _at(array: str, row: int) -> str:
    return f"load({array} + {row} * channels)"


def _sum(terms: Iterable[str]) -> str:
    return " + ".join(terms)


def _real(value: float) -> str:
    return f"(real){value!r}"
