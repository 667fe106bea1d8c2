"""A potential: the shared backbone, a short-range repulsion, and one head per fidelity."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Self, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gfm_models.backbone import Backbone, BackboneConfig
from gfm_models.graph import AtomicGraph
from gfm_models.heads import Head, HeadConfig, check_elements
from gfm_models.kernels.backend import BackendChoice
from gfm_models.zbl import ZBL

Built = TypeVar("Built", bound=nn.Module)


class MultiHeadPotential(nn.Module):
    """Energies of a chosen head. Forces and stress: see `derivatives.predict`."""

    def __init__(self, backbone: Backbone, heads: Mapping[str, Head]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self.repulsion = ZBL(cutoff=backbone.config.cutoff, reach=backbone.config.repulsion_reach)

    @property
    def cutoff(self) -> float:
        """Range of one interaction in Å: what neighbour lists are made with."""
        return self.backbone.config.cutoff

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the heads."""
        return tuple(self.heads)

    def head(self, name: str) -> Head:
        """The head of this name.

        Raises:
            ValueError: there is none; the error lists those there are.
        """
        if name not in self.heads:
            raise ValueError(f"no head '{name}'; the heads are: {', '.join(self.head_names)}")
        head = self.heads[name]
        assert isinstance(head, Head)
        return head

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device; refuse to change the precision of a finished potential.

        Reference energies and geometry are float64 whatever the weights are, so a precision is
        chosen when a potential is built or loaded.
        """
        for dtype in (torch.float32, torch.float64):
            if fn(torch.zeros((), dtype=dtype)).dtype != dtype:
                raise TypeError(
                    "the precision of a potential cannot be changed; choose it with "
                    "build_potential(…, dtype=…) or checkpoint.load(…, dtype=…)"
                )
        return super()._apply(fn, recurse)

    def check(self, graph: AtomicGraph, head: str) -> None:
        """Refuse what a head does not know.

        Raises:
            ValueError: no head of this name, or an element that it does not know.
        """
        check_elements(self.head(head).config, graph.atomic_numbers.unique().tolist(), head=head)

    def forward(
        self, graph: AtomicGraph, edge_vectors: Float[Tensor, "edges 3"], head: str
    ) -> Float[Tensor, " nodes"]:
        """Energy of every atom in eV, float64: reference, learned part and repulsion.

        Raises:
            ValueError: no head of this name, or an element that it does not know.
        """
        self.check(graph, head)
        features = self.backbone(graph, edge_vectors)
        learned = self.head(head)(features, graph.atomic_numbers)
        return learned + self.repulsion(graph, edge_vectors)


def build_potential(
    backbone: BackboneConfig,
    heads: Mapping[str, HeadConfig],
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    backend: BackendChoice = "auto",
) -> MultiHeadPotential:
    """An untrained potential, its weights set by `seed` and the heads' names alone.

    A head gets the same weights whichever other heads are built beside it. The back end can be
    changed at any time, see `Backbone.backend`.
    """
    return MultiHeadPotential(
        _seeded(f"{seed}/backbone", lambda: Backbone(backbone, dtype=dtype, backend=backend)),
        {
            name: _seeded(
                f"{seed}/heads/{name}",
                lambda config=config: Head(config, n_features=backbone.n_features, dtype=dtype),
            )
            for name, config in heads.items()
        },
    )


def _seeded(key: str, build: Callable[[], Built]) -> Built:
    with torch.random.fork_rng(devices=[]):
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
        torch.default_generator.manual_seed(seed)
        return build()
