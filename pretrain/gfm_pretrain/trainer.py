"""The state of a training run on one rank, and what one step does to it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from gfm_models.derivatives import predict
from gfm_models.loss import loss_sums, weighted_loss
from jaxtyping import Float
from torch import Tensor

from gfm_pretrain.agreement import Agreement, agree
from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import to_mapping
from gfm_pretrain.culprits import Culprit, Evidence, gather_culprits
from gfm_pretrain.data.deal import Deal, continued_deals
from gfm_pretrain.data.feed import Batch, Feed, StepWork
from gfm_pretrain.data.prefetch import Prefetch, passes_ahead
from gfm_pretrain.evaluate import Metrics, error_sums, metrics
from gfm_pretrain.guard import Guard, TrainingError, Trouble
from gfm_pretrain.preemption import LeftEarlyError
from gfm_pretrain.process import World, all_reduce_sum
from gfm_pretrain.reduction.build import build_reduction
from gfm_pretrain.schedule import learning_rate, progress
from gfm_pretrain.setup import Setup
from gfm_pretrain.snapshots.facts import Remembered, check_descriptions, restore_remembered
from gfm_pretrain.snapshots.state import State
from gfm_pretrain.step_result import StepResult
from gfm_pretrain.stopwatch import Stopwatch
from gfm_pretrain.trained_weights import TrainedWeights

SUMS = "the sum of gradients"


class Trainer:
    """Weights, averages and moments of the backbone and of the heads this rank owns.

    All methods are called on every rank. Losses, gradients, weights and errors are those of one
    process that holds everything, to rounding.
    """

    def __init__(self, config: RunConfig, setup: Setup, world: World) -> None:
        self.config = config
        self.setup = setup
        self.world = world
        self.potential = setup.potential
        self.feed = _feed(config, setup, world)
        self.supply: Feed | Prefetch = self.feed
        self.reduction = build_reduction(config.training, self.potential, setup.owners, world)
        self.weights = TrainedWeights(
            self.potential,
            config.training,
            owners=setup.owners,
            reduction=self.reduction,
            world=world,
        )
        self.guard = Guard(config.guard, warmup_steps=config.training.warmup_steps)
        self.stopwatch = Stopwatch()
        self.own_activities: Mapping[str, float] = {}
        self.written = False  # see Archive.is_ready
        self.remembered: dict[str, Remembered] = {"guard": self.guard}
        self.step = 0
        self.seconds = 0.0
        self._own_seconds = 0.0
        self._evidence = Evidence()

    @property
    def done(self) -> float:
        """How far the run has come, 0 to 1."""
        return progress(
            self.step,
            self.seconds,
            total_steps=self.setup.total_steps,
            max_minutes=self.config.training.max_minutes,
        )

    @contextmanager
    def reading_ahead(self) -> Iterator[None]:
        """Make batches ahead meanwhile, if the configuration wants it."""
        ahead = passes_ahead(self.config.training.prefetch, self.world.device)
        if not ahead:
            yield
            return
        try:
            with Prefetch(self.feed, ahead=ahead) as self.supply:
                yield
        finally:
            self.supply = self.feed

    def train_step(self) -> StepResult:
        """One optimiser step on the next global batch, or none if the guard finds it in trouble."""
        start = time.perf_counter()
        self.world.pulse.beat("choosing structures")
        with self.stopwatch.measure("data"):
            work = self.supply.work(self.step)
        agreed = self.compute_gradients(work)
        losses = {name: agreed.losses[name] for name, s in work.sizes.items() if s.structures}
        rate = learning_rate(self.step, self.done, self.config.training)
        troubles = self.guard.judge(self.step, losses, agreed.squared_norms)
        if not troubles:
            with self.stopwatch.measure("update"):
                self.weights.update(agreed.norm, rate)
        self.step += 1
        self.world.pulse.stepped(self.step)
        self.seconds = agreed.clock
        self._own_seconds += time.perf_counter() - start
        return StepResult(
            step=self.step,
            losses=losses,
            gradient_norm=agreed.norm,
            learning_rate=rate,
            sizes=work.sizes,
            balance=float(work.costs.mean() / work.costs.max()),
            seconds=agreed.seconds,
            bytes_sent=agreed.bytes_sent,
            stop=agreed.stop,
            troubles=troubles,
            culprits=self._culprits(troubles, work),
            written=agreed.written,
        )

    def compute_gradients(self, work: StepWork) -> Agreement:
        """Set every gradient to that of the loss of the whole global batch.

        A head without structures in this step has no loss; its weights have the gradient zero.
        """
        start, sent = time.perf_counter(), self.reduction.bytes_sent
        losses: dict[str, Tensor] = {}
        self._evidence.clear()
        self.reduction.begin({taken.head for taken in work.passes})
        batches = self.supply.batches(work)
        while batch := self._next(batches):
            loss = self._backward(batch, work)
            head = batch.taken.head
            losses[head] = losses.get(head, 0.0) + loss
        with self.stopwatch.measure("wait"), self.world.pulse.doing(SUMS, waits=True):
            self.reduction.finish()
        # What comes after this line, the agreement and the update, counts in the step that follows.
        self.own_activities = self.stopwatch.take()
        with self.stopwatch.measure("wait"):
            return agree(
                self.world,
                list(self.setup.owners),
                losses=losses,
                squared_norms=self.reduction.squared_norms(),
                seconds=self.own_activities,
                bytes_sent=self.reduction.bytes_sent - sent,
                clock=self._own_seconds + time.perf_counter() - start,
                stop=bool(self.world.stop),
                written=self.written,
            )

    def errors(self, split: str) -> dict[str, Metrics]:
        """Errors of the averaged weights on a split, of every head that has it.

        Raises:
            TrainingError: an error is not finite; the same on every rank.
            LeftEarlyError: some rank was asked to stop meanwhile; the same on every rank.
        """
        heads = [name for name, s in self.setup.summaries.items() if split in s.indices]
        numbers = torch.zeros(9 * len(heads) + 1, dtype=torch.float64, device=self.world.device)
        sums = numbers[1:].view(len(heads), 3, 3)
        with self.weights.average.average_parameters(), self.reduction.gathered():
            for row, name in enumerate(heads):
                if name in self.setup.data:
                    sums[row] = self._error_sums(name, split)
        numbers[0] = float(bool(self.world.stop))
        all_reduce_sum(self.world, numbers)
        if numbers[0] > 0:
            raise LeftEarlyError
        totals = dict(zip(heads, sums.sum((1, 2)).tolist(), strict=True))
        _check_finite(f"the error on the {split} set", totals, self.step)
        return {name: metrics(of_head) for name, of_head in zip(heads, sums, strict=True)}

    def goes_on_with(self, what: str) -> bool:
        """Give a sign of progress between batches of `what`; whether to go on."""
        self.world.pulse.beat(what)
        return not self.world.stop

    def facts(self) -> dict[str, Any]:
        """Plain values that belong to the state, the same on every rank."""
        setup, deals = self.setup, self.feed.deals
        return {
            "seconds": self.seconds,
            "average_updates": self.weights.average.num_updates,
            "n_ranks": self.world.size,
            "cost": None if setup.measured is None else asdict(setup.measured),
            "config": to_mapping(self.config),
            "architecture": asdict(self.potential.backbone.config),
            "data": self._data_sums(),
            "heads": {
                name: {"deal": deals[name].to_plain(), "config": asdict(summary.config)}
                for name, summary in setup.summaries.items()
            },
            "remembered": {name: of.facts() for name, of in self.remembered.items()},
        }

    def restore(self, state: State, facts: Mapping[str, Any]) -> None:
        """Continue from what `state` (of the parts this rank owns) and `facts` gave.

        Heads that `state` does not have join the run now: they stay as they are.

        Raises:
            ValueError: a head is not described as it was; the same on every rank.
        """
        described = {name: s.config for name, s in self.setup.summaries.items()}
        check_descriptions({n: of["config"] for n, of in facts["heads"].items()}, described)
        self.weights.restore(state)
        self.step = int(facts["step"])
        self.seconds = self._own_seconds = float(facts["seconds"])
        self.weights.average.num_updates = facts["average_updates"]
        old = {name: Deal.from_plain(of["deal"]) for name, of in facts["heads"].items()}
        self.feed.deals = continued_deals(old, self.setup.batch_sizes, step=self.step)
        restore_remembered(self.remembered, facts.get("remembered", {}))

    def _data_sums(self) -> dict[str, str]:
        """SHA-256 of the file of each head and split."""
        return {
            f"{head}/{split}": file["sha256"]
            for head, summary in self.setup.summaries.items()
            for split, file in summary.files.items()
        }

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        self.world.pulse.beat("reading a batch")
        with self.stopwatch.measure("data"):
            return next(batches, None)

    def _backward(self, batch: Batch, work: StepWork) -> Float[Tensor, ""]:
        """Add the gradient of one batch; its part of the head's loss, unweighted."""
        head = batch.taken.head
        self.world.pulse.beat(f"forward of {head}")
        with self.stopwatch.measure("forward"), self.reduction.forward_pass():
            prediction = predict(self.potential, batch.graph, head, create_graph=True)
            self._evidence.keep(batch, prediction)
            sums = loss_sums(
                prediction,
                batch.labels,
                batch.graph,
                unit=self.setup.summaries[head].unit,
                delta=self.config.loss.delta,
            )
            loss = weighted_loss(sums, torch.from_numpy(work.counts[head]), self.config.loss)
        self.world.pulse.beat(f"backward of {head}")
        with self.stopwatch.measure("backward"):
            self.reduction.backward(
                self.config.heads[head].weight * loss,
                head,
                last_of_head=batch.taken.last_of_head,
                last=batch.taken.last,
            )
        return loss.detach()

    def _culprits(self, troubles: tuple[Trouble, ...], work: StepWork) -> list[Culprit]:
        """The structures behind a step that was skipped, of all ranks."""
        if not troubles:
            return []
        named = {trouble.head for trouble in troubles}
        mine = self._evidence.find(
            set(self.setup.owners) if "backbone" in named else named,
            work,
            summaries=self.setup.summaries,
            data=self.setup.data,
            config=self.config.loss,
            rank=self.world.rank,
        )
        return gather_culprits(self.world, mine)

    def _error_sums(self, name: str, split: str) -> Float[Tensor, "3 3"]:
        owners, structures = self.setup.owners[name], self.setup.data[name][split]
        return error_sums(
            self.potential,
            name,
            structures,
            places=np.arange(owners.index(self.world.rank), len(structures), len(owners)),
            micro_batch_edges=self.config.training.micro_batch_edges,
            device=self.world.device,
            goes_on=lambda: self.goes_on_with(f"{split} set of {name}"),
        )


def _feed(config: RunConfig, setup: Setup, world: World) -> Feed:
    return Feed(
        indices={name: summary.indices["train"] for name, summary in setup.summaries.items()},
        cost=setup.cost,
        owners=setup.owners,
        data=setup.data,
        batch_sizes=setup.batch_sizes,
        seed=config.seed,
        rank=world.rank,
        n_ranks=world.size,
        micro_batch_edges=config.training.micro_batch_edges,
        cutoff=setup.potential.cutoff,
        device=world.device,
    )


def _check_finite(what: str, numbers: Mapping[str, float], step: int) -> None:
    broken = [name for name, number in numbers.items() if not np.isfinite(number)]
    if broken:
        raise TrainingError(
            f"{what} of {', '.join(broken)} is not finite at step {step}; lower "
            "training.learning_rate, or look for absurd labels in the data"
        )
