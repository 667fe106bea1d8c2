"""C functions called with tensors: what the libraries share, and the order of edges."""

import ctypes
import functools
from collections.abc import Mapping, Sequence
from importlib.resources import files

import torch
from jaxtyping import Float
from torch import Tensor

from gfm_models.kernels.compiler import BuildError, build_library
from gfm_models.kernels.generate import count_couplings, path_sizes, paths_header
from gfm_models.kernels.paths import Path

REALS = {torch.float32: "float", torch.float64: "double"}

HEADERS = ("vectors.h", "threads.h", "edges.h", "basis.h", "envelope.h", "direction.h")

WORK_OF_A_THREAD = 2**20
"""Multiplications worth starting a thread for; about 0.1 ms."""

_MESSAGES = {
    1: "senders in `edge_index` must lie in 0 to {last_sender}, the nodes that there are",
    2: "receivers in `edge_index` must lie in 0 to {last_receiver}, the nodes that there are",
    3: "edges must be sorted by receiver, row 1 of `edge_index`; sort them",
}

OTHER_GRAPH = "`edges` were prepared for another graph"

Triple = tuple[Tensor, Tensor, Tensor]
"""Radial weights, harmonics and features, or something of their shapes."""


class Shape(ctypes.Structure):
    """Sizes of a problem, and the order of its edges."""

    _fields_ = [
        ("n_senders", ctypes.c_int64),
        ("n_receivers", ctypes.c_int64),
        ("n_edges", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("order", ctypes.c_void_p),
    ]


def order_edges(edge_index: Tensor, *, n_senders: int, n_receivers: int) -> Tensor:
    """Edges by receiver and by sender, in the layout of `edge_order.c`.

    Raises:
        BuildError: the function cannot be built here.
        ValueError: an edge of a node that does not exist, edges in another order, or not int64.
    """
    if edge_index.dtype != torch.int64:
        raise ValueError(f"`edge_index` must be int64, got {edge_index.dtype}")
    edge_index, n_edges = edge_index.contiguous(), edge_index.shape[1]
    order = edge_index.new_empty(order_length(n_senders, n_receivers, n_edges))
    sizes = map(ctypes.c_int64, (n_senders, n_receivers, n_edges))
    status = order_library().edge_order(*sizes, pointer(edge_index), pointer(order))
    if status:
        raise order_error(status, n_senders=n_senders, n_receivers=n_receivers)
    return order


def order_error(status: int, *, n_senders: int, n_receivers: int) -> ValueError:
    """What is wrong with edges; `status` as in `edge_order.c`."""
    last = {"last_sender": n_senders - 1, "last_receiver": n_receivers - 1}
    return ValueError(_MESSAGES[status].format(**last))


def order_length(n_senders: int, n_receivers: int, n_edges: int) -> int:
    """Length of what `order_edges` returns."""
    return 2 + 3 * n_edges + n_receivers + 1 + n_senders + 1


def receivers_in(order: Tensor, *, n_senders: int, n_edges: int) -> int:
    """Number of receivers that an order was made with."""
    return order.shape[0] - order_length(n_senders, 0, n_edges)


class PathLibrary:
    """What the libraries of a path list and precision have in common.

    Tensors are contiguous and on the CPU; channels are a multiple of `lanes`.
    """

    def __init__(
        self, name: str, blocks: Mapping[str, str], paths: Sequence[Path], dtype: torch.dtype
    ) -> None:
        headers = {"paths.h": paths_header(paths), **blocks}
        self._functions = load_library(name, headers, defines={"REAL": REALS[dtype]})
        self.lanes: int = self._functions.edge_lanes()
        self._dtype = dtype
        self._n_couplings = count_couplings(paths)
        sizes = path_sizes(paths)
        self._n_paths, self._n_in = sizes["N_PATHS"], sizes["N_IN"]
        self._n_harmonics, self._n_out = sizes["N_HARMONICS"], sizes["N_OUT"]

    def _check(self, tensor: Tensor, *shape: int) -> None:
        check_tensor(tensor, self._dtype, *shape)

    def _shape(self, order: Tensor, harmonics: Tensor, features: Tensor) -> Shape:
        """Sizes as C takes them."""
        n_senders, n_edges, channels = len(features), len(harmonics), features.shape[-1]
        n_receivers = receivers_in(order, n_senders=n_senders, n_edges=n_edges)
        if n_receivers < 0:
            raise ValueError(OTHER_GRAPH)
        assert channels % self.lanes == 0
        return Shape(n_senders, n_receivers, n_edges, channels, order.data_ptr())

    def _empty_value(self, shape: Shape) -> Tensor:
        return torch.empty(shape.n_receivers, self._n_out, shape.channels, dtype=self._dtype)

    def _run(self, name: str, shape: Shape, *arguments: object) -> None:
        """Call a function with as many threads as torch may use, and the work is worth."""
        work = shape.n_edges * self._n_couplings * shape.channels
        n_threads = max(1, min(torch.get_num_threads(), work // WORK_OF_A_THREAD))
        if self._functions[name](ctypes.byref(shape), *arguments, n_threads):
            raise ValueError(OTHER_GRAPH)


def check_tensor(tensor: Tensor, dtype: torch.dtype, *shape: int) -> None:
    """Refuse what would be read blindly.

    Raises:
        ValueError: another shape or precision.
    """
    if tensor.shape != shape or tensor.dtype != dtype:
        raise ValueError(
            f"compiled code takes a {dtype} tensor of shape {list(shape)} here, "
            f"got {tensor.dtype} and {list(tensor.shape)}"
        )
    assert tensor.is_contiguous()


@functools.cache
def order_library() -> ctypes.CDLL:
    """The function in `edge_order.c`, built on first use."""
    return load_library("edge_order", {}, defines={})


def load_library(
    name: str, generated: Mapping[str, str], *, defines: Mapping[str, str]
) -> ctypes.CDLL:
    """The library of `name`.c and what was generated for it, built if it is not there."""
    folder = files("gfm_models.kernels")
    names = (f"{name}.c", *HEADERS)
    written = {file: (folder / file).read_text(encoding="utf-8") for file in names}
    path = build_library(name, {**written, **generated}, defines=defines)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"cannot load {path}: {error}; remove it and try again") from None


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    """Where its data begin."""
    return ctypes.c_void_p(tensor.data_ptr())


def empty_like(at: Triple) -> Triple:
    """Room for their gradients."""
    return torch.empty_like(at[0]), torch.empty_like(at[1]), torch.empty_like(at[2])


def whole_vectors(
    tensor: Float[Tensor, "... channels"], lanes: int
) -> Float[Tensor, "... padded_channels"]:
    """Channels filled up with zeros to a multiple of what a register of the processor holds."""
    missing = -tensor.shape[-1] % lanes
    return torch.nn.functional.pad(tensor, (0, missing)) if missing else tensor
