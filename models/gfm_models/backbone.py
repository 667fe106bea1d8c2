"""The shared equivariant network: every source trains it, every head reads its node features."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gfm_models.graph import AtomicGraph
from gfm_models.harmonics import MAX_DEGREE, spherical_harmonics
from gfm_models.kernels.backend import Backend, BackendChoice, check_choice, choose_backend
from gfm_models.kernels.edge_operation import prepare_edges
from gfm_models.kernels.from_vectors import Surroundings
from gfm_models.layers.blocks import interact_in_blocks
from gfm_models.layers.elements import element_vectors
from gfm_models.layers.interaction import Interaction
from gfm_models.layers.mixing import ChannelMixing, linear
from gfm_models.layers.radial import cutoff_envelope


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Architecture of the backbone. Bounds keep a damaged file from asking for all memory."""

    channels: int = 16
    """Channels of every degree."""

    l_max: int = 3
    """Largest degree of harmonics and of gathered neighbourhoods, 1 to 3."""

    l_hidden: int = 1
    """Largest degree that is passed from one interaction to the next, 0 to `l_max`."""

    correlation: int = 2
    """Neighbours that a product at a node takes together, 1 to 4: the powers of its polynomial."""

    n_interactions: int = 2
    """Number of interactions; each extends the range by one cutoff."""

    cutoff: float = 5.0
    """Å; the range of one interaction."""

    n_radial: int = 5
    """Number of Bessel functions."""

    radial_hidden: tuple[int, ...] = (64, 64)
    """Hidden widths of the radial networks."""

    radial_intervals: int = 256
    """Pieces, from 0 to the cutoff, of the splines that radial functions are. 256 follow random
    radial networks of the default shape to 1e-7 eV an atom and 1e-5 of the largest force; 128 leave
    1e-5 and 2e-3 where atoms come as close as 0.7 Å (benchmarks/RESULTS.md)."""

    element_channels: int = 32
    """Length of the vector that stands for an element."""

    mean_neighbors: float = 20.0
    """Typical number of neighbours; sums over neighbours are divided by its square root."""

    repulsion_reach: float = 0.7
    """Where the screened nuclear repulsion ends, in units of the sum of two covalent radii."""

    def __post_init__(self) -> None:
        """Check each number against its bounds.

        Raises:
            ValueError: naming the option, what it is and what it may be.
        """
        for name, low, high in _BOUNDS:
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"model.{name} must lie in {low} to {high}, got {value}")
        if self.l_hidden > self.l_max:
            raise ValueError(
                f"model.l_hidden must not exceed model.l_max = {self.l_max}, got {self.l_hidden}"
            )
        if not all(1 <= width <= 4096 for width in self.radial_hidden):
            raise ValueError(
                f"model.radial_hidden must hold widths of 1 to 4096, got {self.radial_hidden}"
            )

    @property
    def n_features(self) -> int:
        """Number of invariant features of a node: the scalars of every interaction."""
        return self.n_interactions * self.channels

    @property
    def irreps_hidden(self) -> str:
        """What one interaction passes to the next, in e3nn's notation."""
        return irreps(self.channels, self.l_hidden)


_BOUNDS = (
    ("channels", 1, 4096),
    ("l_max", 1, MAX_DEGREE),
    ("l_hidden", 0, MAX_DEGREE),
    ("correlation", 1, 4),
    ("n_interactions", 1, 8),
    ("cutoff", 1.0, 20.0),
    ("n_radial", 1, 256),
    ("radial_intervals", 8, 1024),
    ("element_channels", 1, 1024),
    ("mean_neighbors", 0.1, 10000.0),
    ("repulsion_reach", 0.1, 1.0),
)


def irreps(channels: int, l_max: int) -> str:
    """Features of natural parity in e3nn's notation, such as `64x0e+64x1o`."""
    return "+".join(f"{channels}x{degree}{'eo'[degree % 2]}" for degree in range(l_max + 1))


class Backbone(nn.Module):
    """Node features from species, distances and directions.

    Invariant under translations and permutations, equivariant under rotations and reflections.
    Two copies of a structure far apart have the features of one. Features of an atom without
    neighbours are zero.

    Args:
        config: Architecture.
        dtype: Precision of the weights.
        backend: What it is computed with; see `backend`.
    """

    def __init__(
        self,
        config: BackboneConfig,
        *,
        dtype: torch.dtype = torch.float32,
        backend: BackendChoice = "auto",
    ) -> None:
        super().__init__()
        self.config = config
        self.block_edges: int | None = None
        self.elements = element_vectors(config.element_channels, dtype=dtype)
        self.senders = linear(config.element_channels, config.channels, dtype=dtype)
        self.interactions = nn.ModuleList(
            Interaction(
                l_in=0 if index == 0 else config.l_hidden,
                l_max=config.l_max,
                l_out=_degree_after(config, index),
                correlation=config.correlation,
                channels=config.channels,
                element_channels=config.element_channels,
                n_radial=config.n_radial,
                radial_hidden=config.radial_hidden,
                radial_intervals=config.radial_intervals,
                cutoff=config.cutoff,
                mean_neighbors=config.mean_neighbors,
                dtype=dtype,
            )
            for index in range(config.n_interactions)
        )
        self.carry = nn.ModuleList(
            ChannelMixing(l_max=_degree_after(config, index), channels=config.channels, dtype=dtype)
            for index in range(1, config.n_interactions)
        )
        self.backend = backend

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights; geometry stays in float64."""
        return self.elements.weight.dtype

    def recompute_in_blocks(self, n_edges: int | None) -> None:
        """Compute interactions again in backward passes, block by block; None keeps everything.

        Memory for edges is then that of one block. The result is the same, to rounding.

        Args:
            n_edges: Edges of a block of atoms, about.
        """
        self.block_edges = n_edges

    @property
    def backend(self) -> Backend:
        """What edges and products are computed with: "fused", "triton" or "reference".

        Setting it to one of these, or to "auto", chooses anew. What "fused" needs is built when it
        is first asked for, here or by the first forward pass.

        Raises:
            ValueError: no such choice, or "fused" or "triton" for a device that it is not for.
            BuildError: "fused" or "triton" was chosen and cannot work here.
        """
        if self._backend is None:
            self._backend = choose_backend(
                self._choice,
                path_lists=[interaction.paths for interaction in self._interactions()],
                products=[interaction.product.kind for interaction in self._interactions()],
                dtype=self.dtype,
                device=self.elements.weight.device,
            )
        return self._backend

    @backend.setter
    def backend(self, choice: BackendChoice) -> None:
        check_choice(choice)
        self._choice: BackendChoice = choice
        self._backend: Backend | None = None

    def build_backend(self) -> Backend:
        """Build what the back end needs now, and not within the first forward pass.

        Returns:
            The back end.

        Raises:
            BuildError: as for `backend`.
        """
        return self.backend

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device or precision; the back end is chosen anew."""
        self.backend = self._choice
        return super()._apply(fn, recurse)

    def _interactions(self) -> list[Interaction]:
        return [module for module in self.interactions if isinstance(module, Interaction)]

    def forward(
        self, graph: AtomicGraph, edge_vectors: Float[Tensor, "edges 3"]
    ) -> Float[Tensor, "nodes features"]:
        """Invariant features of every node: the scalars of all interactions side by side."""
        layers = self.equivariant_features(graph, edge_vectors)
        return torch.cat([features[:, 0] for features in layers], dim=-1)

    def equivariant_features(
        self, graph: AtomicGraph, edge_vectors: Float[Tensor, "edges 3"]
    ) -> list[Float[Tensor, "nodes components channels"]]:
        """Features after each interaction, degrees 0, 1, … side by side (see `irreps`)."""
        elements = self.elements(graph.atomic_numbers)
        geometry = {"elements": elements, **self._geometry(graph, edge_vectors)}
        first, *others = map(self._interact, self._interactions())
        layers = [first(self.senders(elements)[:, None], **geometry)]
        for interact, carry in zip(others, self.carry, strict=True):
            new = interact(layers[-1], **geometry)
            layers.append(new + carry(layers[-1][:, : new.shape[1]]))
        return layers

    def with_adjoint(
        self, graph: AtomicGraph, around: Surroundings, *, to_vectors: Float[Tensor, "edges 3"]
    ) -> tuple[Float[Tensor, "nodes features"], Callable[[Tensor], None]]:
        """Invariant features of every node for inference, and their adjoint.

        The adjoint adds the gradient by the edge vectors to `to_vectors`.
        """
        elements = self.elements(graph.atomic_numbers)
        shared = {"elements": elements, "around": around, "to_vectors": to_vectors}
        layers = [self.senders(elements)[:, None]]
        adjoints = []
        for interaction, carry in zip(self._interactions(), [None, *self.carry], strict=True):
            wants_features = carry is not None  # the first layer depends on the species alone
            new, of_new = interaction.with_adjoint(
                layers[-1], **shared, wants_features=wants_features
            )
            of_kept = None
            if isinstance(carry, ChannelMixing):
                kept, of_kept = carry.with_adjoint(layers[-1][:, : new.shape[1]])
                new += kept
            layers.append(new)
            adjoints.append((of_new, of_kept))
        del layers[0]

        def adjoint(cotangent: Tensor) -> None:
            to_layer = torch.zeros_like(layers[-1])
            of_scalars = cotangent.split(self.config.channels, dim=-1)
            for to_scalars, (of_new, of_kept) in zip(
                reversed(of_scalars), reversed(adjoints), strict=True
            ):
                to_layer[:, 0] += to_scalars
                below = of_new(to_layer)
                if below is None or of_kept is None:
                    return
                below[:, : to_layer.shape[1]] += of_kept(to_layer)
                to_layer = below

        return torch.cat([features[:, 0] for features in layers], dim=-1), adjoint

    def _interact(self, interaction: Interaction) -> Callable[..., Tensor]:
        radial = interaction.radial.coefficients()
        if self.block_edges is None:
            return partial(interaction, radial=radial)
        return partial(interact_in_blocks, interaction, radial=radial, block_edges=self.block_edges)

    def _geometry(
        self, graph: AtomicGraph, edge_vectors: Float[Tensor, "edges 3"]
    ) -> dict[str, Any]:
        """What all interactions take of the structure."""
        lengths = torch.linalg.vector_norm(edge_vectors, dim=-1)
        directions = (edge_vectors / lengths[:, None]).to(self.dtype)
        envelope = cutoff_envelope(lengths, self.config.cutoff).to(self.dtype)
        harmonics = spherical_harmonics(directions, l_max=self.config.l_max)
        return {
            "lengths": lengths,
            "harmonics": harmonics * envelope[:, None],
            "edges": prepare_edges(graph.edge_index, n_nodes=graph.n_nodes, backend=self.backend),
        }


def _degree_after(config: BackboneConfig, index: int) -> int:
    return config.l_hidden if index < config.n_interactions - 1 else 0
