"""Which structures made a step go wrong: what this rank predicted in it, looked at one by one."""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace

import torch
from gfm_models.derivatives import Prediction
from gfm_models.loss import LossConfig, loss_sums_by_structure, weighted_loss

from gfm_pretrain.data.feed import Batch, StepWork
from gfm_pretrain.data.heads import HeadSummary, Sets
from gfm_pretrain.process import World, gather_objects

MOST = 8
"""Structures that are named, the worst first."""


@dataclass(frozen=True, kw_only=True)
class Culprit:
    """One structure of a step that was skipped."""

    head: str
    """Name of the head."""
    identifier: str
    """What leads back to the record in the source."""
    loss: float | None
    """Its part of the head's loss; None where it is not finite."""
    rank: int
    """That computed it."""


class Evidence:
    """What this rank saw and predicted in the last step; it is looked at only in trouble."""

    def __init__(self) -> None:
        self._seen: list[tuple[Batch, Prediction]] = []

    def clear(self) -> None:
        """Forget the step before."""
        self._seen = []

    def keep(self, batch: Batch, prediction: Prediction) -> None:
        """Keep the numbers of a batch, not the graph of their gradients."""
        numbers = {f.name: getattr(prediction, f.name).detach() for f in fields(prediction)}
        self._seen.append((batch, replace(prediction, **numbers)))

    def find(
        self,
        heads: Collection[str],
        work: StepWork,
        *,
        summaries: Mapping[str, HeadSummary],
        data: Mapping[str, Sets],
        config: LossConfig,
        rank: int,
    ) -> list[Culprit]:
        """The worst structures of some heads on this rank."""
        found = []
        for batch, prediction in self._seen:
            head, places = batch.taken.head, batch.taken.places
            if head in heads:
                sums = loss_sums_by_structure(
                    prediction,
                    batch.labels,
                    batch.graph,
                    unit=summaries[head].unit,
                    delta=config.delta,
                )
                counts = torch.from_numpy(work.counts[head])
                for place, of_structure in zip(places, sums, strict=True):
                    loss = weighted_loss(of_structure, counts, config).item()
                    identifier = data[head]["train"].identifier(int(place))
                    found.append(_culprit(head, identifier, loss, rank))
        return _worst(found)


def gather_culprits(world: World, mine: list[Culprit]) -> list[Culprit]:
    """The worst structures of all ranks. Call on every rank."""
    return _worst([culprit for found in gather_objects(world, mine) for culprit in found])


def as_json(culprit: Culprit) -> dict[str, str | float | int | None]:
    """Plain values."""
    return asdict(culprit)


def _culprit(head: str, identifier: str, loss: float, rank: int) -> Culprit:
    return Culprit(
        head=head, identifier=identifier, loss=loss if math.isfinite(loss) else None, rank=rank
    )


def _worst(found: list[Culprit]) -> list[Culprit]:
    """Those that are not finite, then the largest."""
    return sorted(found, key=lambda c: -math.inf if c.loss is None else -c.loss)[:MOST]
