"""The state of a training run on one rank, and what one step does to it."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gfm_models.derivatives import predict
from gfm_models.loss import loss_sums, weighted_loss
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch_ema import ExponentialMovingAverage

from gfm_pretrain.config import RunConfig
from gfm_pretrain.data.batch import build_batch
from gfm_pretrain.data.sampler import batch_places
from gfm_pretrain.data.structure_set import Index, Places
from gfm_pretrain.evaluate import Metrics, error_sums, metrics
from gfm_pretrain.placement import pack, split_by_size
from gfm_pretrain.process import World, all_reduce_sum, new_groups
from gfm_pretrain.reduce import gradient_norm, reduce_gradients, scale_gradients
from gfm_pretrain.schedule import learning_rate, progress
from gfm_pretrain.setup import Setup
from gfm_pretrain.snapshot import State, optimizer_state, restore_optimizer

BETAS = (0.9, 0.99)


class TrainingError(ValueError):
    """Training went wrong in a way that continuing would hide."""


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
        self.groups = dict(
            zip(setup.owners, new_groups(world, list(setup.owners.values())), strict=True)
        )
        parameters = [p for p in self.potential.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": [p for p in parameters if p.ndim > 1],
                    "weight_decay": config.training.weight_decay,
                },
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            betas=BETAS,
        )
        self.average = ExponentialMovingAverage(
            self.potential.parameters(), decay=config.training.ema_decay
        )
        self.step = 0
        self.seconds = 0.0

    @property
    def done(self) -> float:
        """How far the run has come, 0 to 1."""
        return progress(
            self.step,
            self.seconds,
            total_steps=self.setup.total_steps,
            max_minutes=self.config.training.max_minutes,
        )

    def train_step(self) -> dict[str, float]:
        """One optimiser step on the next global batch.

        Returns:
            The loss of every head that has structures in this step, unweighted.

        Raises:
            TrainingError: a loss or the gradient is not finite; the same on every rank.
        """
        start = time.perf_counter()
        losses = self.accumulate_gradients()
        norm = gradient_norm(self.potential, self.groups, self.world)
        broken = [name for name, loss in losses.items() if not np.isfinite(loss)]
        _check_finite("the loss", broken, self.step)
        _check_finite("the gradient", [] if np.isfinite(norm) else list(losses), self.step)
        scale_gradients(self.potential, min(1.0, self.config.training.clip_norm / (norm + 1e-12)))
        rate = learning_rate(self.step, self.done, self.config.training)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.average.update()
        self.step += 1
        self.seconds = self._seconds_of_rank_0(self.seconds + time.perf_counter() - start)
        return losses

    def accumulate_gradients(self) -> dict[str, float]:
        """Set every gradient to that of the loss of the whole global batch; losses by head.

        A head without structures in this step has no loss; its weights have the gradient zero.
        """
        self.optimizer.zero_grad(set_to_none=True)
        losses = torch.zeros(len(self.groups), dtype=torch.float64, device=self.world.device)
        places = {name: self._places(name) for name in self.groups}
        costs = {name: self._index(name).costs(batch) for name, batch in places.items()}
        taken = pack(costs, self.setup.owners, self.world.size)[self.world.rank]
        for row, name in enumerate(self.groups):
            if name in taken:
                losses[row] = self._backward(name, places[name], taken[name])
        reduce_gradients(self.potential, self.groups, self.world)
        all_reduce_sum(self.world, losses)
        found = zip(self.groups, losses.tolist(), strict=True)
        return {name: loss for name, loss in found if len(places[name])}

    def errors(self, split: str) -> dict[str, Metrics]:
        """Errors of the averaged weights on a split, of every head that has it.

        Raises:
            TrainingError: an error is not finite; the same on every rank.
        """
        heads = [name for name, s in self.setup.summaries.items() if split in s.indices]
        sums = torch.zeros(len(heads), 3, 3, dtype=torch.float64, device=self.world.device)
        with self.average.average_parameters():
            for row, name in enumerate(heads):
                if name in self.setup.data:
                    sums[row] = self._error_sums(name, split)
        all_reduce_sum(self.world, sums)
        broken = [name for name, s in zip(heads, sums, strict=True) if not s.isfinite().all()]
        _check_finite(f"the error on the {split} set", broken, self.step)
        return {name: metrics(of_head) for name, of_head in zip(heads, sums, strict=True)}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """What a snapshot holds of the parts this rank writes: each part has one writer."""
        averages = dict(zip(self.potential.parameters(), self.average.shadow_params, strict=True))
        state: dict[str, dict[str, Tensor]] = {}
        for part, named in self._parts().items():
            if self._writes(part):
                state[part] = (
                    {f"weight/{name}": p for name, p in named.items()}
                    | {f"average/{name}": averages[p] for name, p in named.items()}
                    | optimizer_state(self.optimizer, named)
                )
        return state

    def facts(self) -> dict[str, Any]:
        """Plain values that belong to the state."""
        return {
            "seconds": self.seconds,
            "average_updates": self.average.num_updates,
            "data": self._data_sums(),
        }

    def restore(self, state: State, facts: Mapping[str, Any]) -> None:
        """Continue from what `state` (of all parts this rank owns) and `facts` gave.

        Raises:
            ValueError: the content of a data file has changed since; the same on every rank.
        """
        changed = [f for f, sha256 in self._data_sums().items() if facts["data"].get(f) != sha256]
        if changed:
            raise ValueError(
                f"the data of this run have changed since step {facts['step']}: "
                f"{', '.join(changed)}; put them back, or choose another folder with run=FOLDER"
            )
        averages = dict(zip(self.potential.parameters(), self.average.shadow_params, strict=True))
        with torch.no_grad():
            for part, named in self._parts().items():
                for name, parameter in named.items():
                    parameter.copy_(state[part][f"weight/{name}"])
                    averages[parameter].copy_(state[part][f"average/{name}"])
                restore_optimizer(self.optimizer, named, state[part])
        self.step = int(facts["step"])
        self.seconds = float(facts["seconds"])
        self.average.num_updates = facts["average_updates"]

    @property
    def parts(self) -> list[str]:
        """The parts of the model on this rank: `backbone`, `heads/<name>`."""
        return list(self._parts())

    def _data_sums(self) -> dict[str, str]:
        """SHA-256 of the file of each head and split."""
        return {
            f"{head}/{split}": file["sha256"]
            for head, summary in self.setup.summaries.items()
            for split, file in summary.files.items()
        }

    def _places(self, name: str) -> Places:
        return batch_places(
            seed=self.config.seed,
            head=name,
            step=self.step,
            batch_size=self.setup.batch_sizes[name],
            n_structures=len(self._index(name)),
        )

    def _index(self, name: str) -> Index:
        return self.setup.summaries[name].indices["train"]

    def _backward(
        self, name: str, places: Places, taken: Int[np.ndarray, " taken"]
    ) -> Float[Tensor, ""]:
        """Add this rank's part of a head's gradient; the head's loss, unweighted, of this part."""
        index = self._index(name)
        counts = torch.from_numpy(index.labelled(places).sum(0)).to(self.world.device)
        mine = places[taken]
        total = torch.zeros((), dtype=torch.float64, device=self.world.device)
        for part in split_by_size(index.edges(mine), self.config.training.micro_batch_edges):
            columns = self.setup.data[name]["train"].read(mine[part])
            graph, labels = build_batch(
                columns, cutoff=self.potential.cutoff, device=self.world.device
            )
            prediction = predict(self.potential, graph, name, create_graph=True)
            sums = loss_sums(
                prediction,
                labels,
                graph,
                unit=self.setup.summaries[name].unit,
                delta=self.config.loss.delta,
            )
            loss = weighted_loss(sums, counts, self.config.loss)
            (self.config.heads[name].weight * loss).backward()
            total += loss.detach()
        return total

    def _error_sums(self, name: str, split: str) -> Float[Tensor, "3 3"]:
        owners, structures = self.setup.owners[name], self.setup.data[name][split]
        return error_sums(
            self.potential,
            name,
            structures,
            places=np.arange(owners.index(self.world.rank), len(structures), len(owners)),
            micro_batch_edges=self.config.training.micro_batch_edges,
            device=self.world.device,
        )

    def _parts(self) -> dict[str, dict[str, nn.Parameter]]:
        modules = {"backbone": self.potential.backbone} | {
            f"heads/{name}": self.potential.head(name) for name in self.potential.head_names
        }
        return {part: dict(module.named_parameters()) for part, module in modules.items()}

    def _writes(self, part: str) -> bool:
        if part == "backbone":
            return self.world.rank == 0
        return self.setup.owners[part.removeprefix("heads/")][0] == self.world.rank

    def _seconds_of_rank_0(self, seconds: float) -> float:
        """One clock for all, so that they decide alike."""
        if self.config.training.max_minutes is None:
            return seconds
        clock = torch.zeros(1, dtype=torch.float64, device=self.world.device)
        if self.world.rank == 0:
            clock += seconds
        return all_reduce_sum(self.world, clock).item()


def _check_finite(what: str, broken: Sequence[str], step: int) -> None:
    if broken:
        raise TrainingError(
            f"{what} of {', '.join(broken)} is not finite at step {step}; lower "
            "training.learning_rate, or look for absurd labels in the data"
        )
