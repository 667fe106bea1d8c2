"""Time of the edge operation T(R, Y, h) on its back ends, and of two other ways to the same.

    python benchmarks/edge_operation.py [--repetitions N]

In float32, on one thread. Four variants are compared:

- `fused`: the compiled kernel, its edges put in order beforehand;
- `reference`: the project's own in plain torch, one batched product per degree;
- `messages`: the message of every edge, then `index_add` over receivers;
- `e3nn`: e3nn's TensorProduct `uvu` with one weight per edge, path and channel, then `index_add`,
  as NequIP and MACE do it. Paths to one degree are added inside the product, which those models
  leave to the following linear layer: here e3nn has less to write than there.

and two kinds of work: `inference`, the value A and the gradient of Σ w·A by R, Y and h; and
`training`, these and the gradient by R, Y, h and w of a loss of both. Every variant has its inputs
in its own layout beforehand. Each repetition times every variant once, in rotating order, and
ratios are of times from the same repetition, so that a slow moment of the machine hits all alike.
Times are of the processor: on one thread those of a clock, less what other programs take.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from e3nn import o3
from gfm_models.backbone import irreps
from gfm_models.graph import AtomicGraph, batch_graphs, edge_vectors, graph_from_atoms
from gfm_models.harmonics import (
    coupling,
    degree_slice,
    n_harmonics,
    spherical_harmonics,
    split_degrees,
)
from gfm_models.kernels.backend import Backend
from gfm_models.kernels.edge_operation import edge_operation, prepare_edges
from gfm_models.kernels.paths import Path, natural_paths
from gfm_pretrain.table import text_table
from jaxtyping import Float, Int
from machine import describe_machine
from torch import Tensor

CUTOFF = 5.0
"""Å."""

L_MAX = 2
L_IN = (0, 1)
CHANNELS = (32, 64)
N_WARM_UP = 5
"""Calls of each variant before the clock starts: TorchScript, under e3nn, optimises in them."""

AGREEMENT = 1e-4
"""Largest difference of two variants, in units of the largest component."""

Arguments = tuple[Tensor, ...]
Work = Callable[[Callable[..., Tensor], Arguments, Tensor], list[Tensor]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Variant:
    """One way to compute the operation, in a layout of its own."""

    name: str
    operation: Callable[..., Tensor]
    """(R, Y, h) → A, all in its own layout."""
    to_own: Callable[..., Arguments]
    """(R, Y, h) of `edge_operation` → the same in its own layout."""
    from_own: Callable[[Tensor], Tensor]
    """A in its own layout → A of `edge_operation`."""


def main() -> None:
    """Check and time all cases, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=15, metavar="N", help="at least 1 (15)")
    repetitions = max(1, parser.parse_args().repetitions)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{describe_machine()}; {repetitions} repetitions\n")
    rows = [
        row
        for name, graph in systems().items()
        for l_in in L_IN
        for channels in CHANNELS
        for row in case_rows(name, graph, l_in=l_in, channels=channels, repetitions=repetitions)
    ]
    header = ("system", "edges", "l_in", "channels", "work", "variant", "min ms", "median", "max")
    print(text_table((*header, "× fused min", "median", "max"), rows))


def systems() -> dict[str, AtomicGraph]:
    """A batch of small molecules, few neighbours each, and a crystal with many."""
    ethanol = [rattled(molecule("CH3CH2OH"), seed=seed) for seed in range(32)]
    nickel = rattled(bulk("Ni", cubic=True) * (3, 3, 3), seed=0)
    return {"32 ethanol": batch_graphs(ethanol), "Ni 108": batch_graphs([nickel])}


def rattled(atoms: Atoms, *, seed: int) -> AtomicGraph:
    """The graph of a structure whose atoms are moved by about 0.1 Å."""
    atoms.rattle(0.1, seed=seed)
    return graph_from_atoms(atoms, cutoff=CUTOFF)


def case_rows(
    system: str, graph: AtomicGraph, *, l_in: int, channels: int, repetitions: int
) -> list[tuple[object, ...]]:
    """Rows of the table for one case, after a check that all variants agree."""
    paths = natural_paths(l_in=l_in, l_edge=L_MAX, l_out=L_MAX)
    variants = [
        by_backend("fused", graph, paths),
        by_backend("reference", graph, paths),
        by_message(graph.edge_index, paths, graph.n_nodes),
        with_e3nn(graph.edge_index, paths, graph.n_nodes, l_in=l_in, channels=channels),
    ]
    arguments = random_arguments(graph, paths, l_in=l_in, channels=channels)
    check_agreement(variants, arguments)
    rows = []
    for work_name, work in (("inference", differentiate), ("training", differentiate_twice)):
        times = time_interleaved(
            [own_call(variant, work, arguments) for variant in variants], repetitions
        )
        for variant, own, ratio in zip(variants, times, times / times[0], strict=True):
            case = (system, graph.n_edges, l_in, channels, work_name, variant.name)
            rows.append((*case, *spread(1e3 * own, digits=1), *spread(ratio, digits=2)))
    return rows


def random_arguments(
    graph: AtomicGraph, paths: Sequence[Path], *, l_in: int, channels: int
) -> Arguments:
    """Random R and h, and the harmonics of the graph's edges."""
    directions = torch.nn.functional.normalize(edge_vectors(graph), dim=-1)
    return (
        torch.randn(graph.n_edges, len(paths), channels),
        spherical_harmonics(directions, l_max=L_MAX).float(),
        torch.randn(graph.n_nodes, n_harmonics(l_in), channels),
    )


def by_backend(backend: Backend, graph: AtomicGraph, paths: tuple[Path, ...]) -> Variant:
    """The project's own."""
    edges = prepare_edges(graph.edge_index, n_nodes=graph.n_nodes, backend=backend)
    return Variant(
        name=backend,
        operation=partial(edge_operation, edges=edges, paths=paths),
        to_own=lambda *arguments: arguments,
        from_own=lambda result: result,
    )


def by_message(edge_index: Int[Tensor, "2 edges"], paths: Sequence[Path], n_nodes: int) -> Variant:
    """The message of every edge, one path after the other, and their sum."""
    senders, receivers = edge_index
    couplings = [torch.from_numpy(coupling(p.l_in, p.l_edge, p.l_out)).float() for p in paths]

    def operation(radial: Tensor, harmonics: Tensor, features: Tensor) -> Tensor:
        gathered = split_degrees(features.index_select(0, senders))
        by_degree = split_degrees(harmonics)
        messages: list[list[Tensor]] = [[] for _ in range(L_MAX + 1)]
        for path, c, weight in zip(paths, couplings, radial.unbind(1), strict=True):
            kernel = torch.einsum("eb,abm->ema", by_degree[path.l_edge], c)
            messages[path.l_out].append(kernel @ (weight[:, None] * gathered[path.l_in]))
        message = torch.cat([torch.stack(of_degree).sum(0) for of_degree in messages], dim=1)
        return message.new_zeros(n_nodes, *message.shape[1:]).index_add(0, receivers, message)

    return Variant(
        name="messages",
        operation=operation,
        to_own=lambda *arguments: arguments,
        from_own=lambda result: result,
    )


def with_e3nn(
    edge_index: Int[Tensor, "2 edges"],
    paths: Sequence[Path],
    n_nodes: int,
    *,
    l_in: int,
    channels: int,
) -> Variant:
    """e3nn's product of the sender's features with the harmonics, and the sum of its results."""
    senders, receivers = edge_index
    product = o3.TensorProduct(
        irreps(channels, l_in),
        irreps(1, L_MAX),
        irreps(channels, L_MAX),
        [(p.l_in, p.l_edge, p.l_out, "uvu", True) for p in paths],
        irrep_normalization="none",
        path_normalization="none",
        shared_weights=False,
        internal_weights=False,
    )
    scales = torch.tensor([e3nn_scale(path) for path in paths])[:, None]

    def operation(radial: Tensor, harmonics: Tensor, features: Tensor) -> Tensor:
        message = product(features.index_select(0, senders), harmonics, radial)
        return message.new_zeros(n_nodes, message.shape[1]).index_add(0, receivers, message)

    return Variant(
        name="e3nn",
        operation=operation,
        to_own=lambda r, y, h: ((r * scales).flatten(1), y, channels_outside(h)),
        from_own=partial(channels_inside, channels=channels),
    )


def e3nn_scale(path: Path) -> float:
    """Our coupling in units of e3nn's, whose squares sum to one."""
    degrees = (path.l_in, path.l_edge, path.l_out)
    return float(np.sum(coupling(*degrees) * o3.wigner_3j(*degrees).numpy()))


def channels_outside(
    features: Float[Tensor, "nodes components channels"],
) -> Float[Tensor, "nodes values"]:
    """e3nn's layout: degrees side by side, and within each the channels outside the components."""
    return torch.cat([of_degree.mT.flatten(1) for of_degree in split_degrees(features)], dim=1)


def channels_inside(
    features: Float[Tensor, "nodes values"], *, channels: int
) -> Float[Tensor, "nodes components channels"]:
    """Back from e3nn's layout."""
    slices = [degree_slice(degree) for degree in range(L_MAX + 1)]
    parts = [features[:, channels * s.start : channels * s.stop] for s in slices]
    return torch.cat([part.unflatten(1, (channels, -1)).mT for part in parts], dim=1)


def differentiate(
    operation: Callable[..., Tensor], arguments: Arguments, cotangent: Tensor
) -> list[Tensor]:
    """A, and the gradient of Σ w·A by R, Y and h; w is `cotangent`."""
    value = operation(*arguments)
    return [value, *torch.autograd.grad(value, arguments, cotangent)]


def differentiate_twice(
    operation: Callable[..., Tensor], arguments: Arguments, cotangent: Tensor
) -> list[Tensor]:
    """The same, called g, and the gradient of Σ (A² + g²) / 2 by R, Y, h and w.

    In a network w depends on the weights of the layers that follow, and so has a gradient, too.
    """
    value = operation(*arguments)
    first = [value, *torch.autograd.grad(value, arguments, cotangent, create_graph=True)]
    residuals = [tensor.detach() for tensor in first]
    return [*residuals, *torch.autograd.grad(first, (*arguments, cotangent), residuals)]


def check_agreement(variants: Sequence[Variant], arguments: Arguments) -> None:
    """Compare values, gradients and gradients of gradients with those of the first variant.

    Raises:
        RuntimeError: they differ.
    """
    results = []
    inputs = leaves(arguments)
    cotangent = torch.randn_like(variants[0].operation(*inputs)).requires_grad_()
    for v in variants:
        common = partial(lambda v, *given: v.from_own(v.operation(*v.to_own(*given))), v)
        results.append(differentiate_twice(common, inputs, cotangent))
    for variant, result in zip(variants, results, strict=True):
        for tensor, expected in zip(result, results[0], strict=True):
            difference = float((tensor - expected).abs().max() / expected.abs().max())
            if not difference < AGREEMENT:
                raise RuntimeError(f"'{variant.name}' differs by {difference:.1e}")


def own_call(variant: Variant, work: Work, arguments: Arguments) -> Callable[[], object]:
    """A call that does the work on inputs in the variant's own layout."""
    own = leaves(variant.to_own(*arguments))
    cotangent = torch.randn_like(variant.operation(*own)).requires_grad_()
    return lambda: work(variant.operation, own, cotangent)


def leaves(arguments: Arguments) -> Arguments:
    """Copies that gradients can be taken by."""
    return tuple(tensor.detach().contiguous().clone().requires_grad_() for tensor in arguments)


def time_interleaved(
    calls: Sequence[Callable[[], object]], repetitions: int
) -> Float[np.ndarray, "calls repetitions"]:
    """Processor seconds of each call in each repetition; the order rotates."""
    for call in calls:
        for _ in range(N_WARM_UP):
            call()
    times = np.empty((len(calls), repetitions))
    for repetition in range(repetitions):
        for place in range(len(calls)):
            row = (place + repetition) % len(calls)
            start = time.process_time()
            calls[row]()
            times[row, repetition] = time.process_time() - start
    return times


def spread(values: Float[np.ndarray, " repetitions"], *, digits: int) -> tuple[str, str, str]:
    """Minimum, median and maximum."""
    low, middle, high = values.min(), np.median(values), values.max()
    return f"{low:.{digits}f}", f"{middle:.{digits}f}", f"{high:.{digits}f}"


if __name__ == "__main__":
    main()
