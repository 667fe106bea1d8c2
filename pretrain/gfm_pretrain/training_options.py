"""What a configuration says of training."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Length, optimiser and bookkeeping of a run."""

    steps: int | None = None
    """Optimiser steps; this or `epochs`."""

    epochs: float | None = None
    """Passes over the data, as `mixture.epoch` counts them; this or `steps`."""

    learning_rate: float = 5e-3
    """Largest learning rate."""

    final_learning_rate: float = 1e-5
    """Learning rate at the end of the cosine decay."""

    warmup_steps: int = 50
    """Steps in which the learning rate rises linearly."""

    weight_decay: float = 1e-4
    """AdamW's decay of matrices; vectors are not decayed."""

    clip_norm: float = 10.0
    """Largest norm of the gradient of all weights together, the backbone and each head once."""

    ema_decay: float = 0.995
    """Decay of the averaged weights, which are what is validated and published."""

    micro_batch_edges: int = 20000
    """Edges that a rank takes through the network at once; more are taken in turn, which saves
    memory and changes nothing. A batch of any size is one batch: gradient accumulation needs no
    option besides."""

    checkpoint_activations: bool = False
    """Compute interactions again in backward passes instead of keeping what belongs to edges: a
    third of a large pass's memory, 1.3 to 1.5 times its time (benchmarks/RESULTS.md), the same
    numbers. For structures so large that one alone does not fit; before that, a smaller
    `micro_batch_edges` costs nothing."""

    checkpoint_edges: int = 4096
    """Edges that are computed again at once. More are faster on a GPU and take more memory."""

    prefetch: int | Literal["auto"] = "auto"
    """Passes whose batches a thread makes ahead, which changes nothing but speed; 0 is none. `auto`
    is 2 with an accelerator, and none on CPUs, whose cores have no time to spare for it."""

    bucket_megabytes: float = 4.0
    """Gradients that are summed over ranks in one message while the backward pass goes on; it
    changes speed, never the result."""

    max_minutes: float | None = None
    """Training time after which the run ends. The learning rate then follows the time where that
    is ahead of the steps, so that the decay is complete; such a run cannot be repeated exactly."""

    validate_every: int = 500
    """Steps between validations."""

    fit_readouts: bool = True
    """Solve for the last layer of each head by least squares when training is over, where a
    training set has 50 structures or more and cross-validation says that it helps. Mostly energies
    get better, at some cost in forces; labels without a weight in the loss do not count."""

    freeze_backbone: bool = False
    """Train the heads alone."""

    placement: Literal["wrap-around", "whole-ranks", "everywhere"] = "wrap-around"
    """How heads are laid on ranks; it changes speed and memory, never the result. `everywhere`
    puts every head on every rank, which is what multi-task parallelism avoids."""

    spill: float = 2.0
    """With wrap-around, how far heads reach over onto ranks of their neighbours, in standard
    deviations of what a step of them costs: steps differ, and who owns a head too narrowly waits or
    is waited for. More makes steps more even and takes memory for more heads; 0 is least."""

    reduction: Literal["overlapped", "sharded", "ddp"] = "overlapped"
    """How gradients are summed; it changes speed and memory, never the result. `overlapped`: the
    backbone is on every rank, and sums go on during the backward pass. `sharded`: the backbone's
    weights, averages and moments are divided among ranks, for a backbone of very many weights.
    `ddp`: torch's DistributedDataParallel, for comparison; it needs placement=everywhere."""

    shard_ranks: int | None = None
    """Among how many neighbouring ranks a sharded backbone is divided, such as those of a node,
    whose network is faster; all ranks if nothing is said. It divides the number of ranks."""

    cost_of_atom: float | Literal["measure"] = "measure"
    """Cost of an atom in edges, by which heads are placed and structures dealt to ranks; `measure`
    times some passes before the first step where there are several ranks. What was found is kept in
    the run's folder: it changes speed and rounding, and is the same when the run is continued."""

    cost_of_pass: float | Literal["measure"] = "measure"
    """Cost in edges of going through the network once, likewise."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: naming the option.
        """
        if (self.steps is None) == (self.epochs is None):
            found = "neither" if self.steps is None else "both"
            raise ValueError(f"either training.steps or training.epochs must be given, got {found}")
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"training.{name} must be positive, got {value}")
        if self.epochs == math.inf:
            raise ValueError("training.epochs must be finite; use training.max_minutes with steps")
        self._check_reduction()
        if not self.warmup_steps >= 0:
            raise ValueError(f"training.warmup_steps must not be negative, got {self.warmup_steps}")
        if not self.weight_decay >= 0:
            raise ValueError(f"training.weight_decay must not be negative, got {self.weight_decay}")
        if self.prefetch != "auto" and self.prefetch < 0:
            raise ValueError(f"training.prefetch must not be negative, got {self.prefetch}")
        if not 0 <= self.spill < math.inf:
            raise ValueError(f"training.spill must not be negative, got {self.spill}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"training.ema_decay must lie in 0 to 1, got {self.ema_decay}")
        if self.cost_of_atom != "measure" and not 0 < self.cost_of_atom < math.inf:
            raise ValueError(f"training.cost_of_atom must be positive, got {self.cost_of_atom}")
        if self.cost_of_pass != "measure" and not 0 <= self.cost_of_pass < math.inf:
            raise ValueError(f"training.cost_of_pass must not be negative, got {self.cost_of_pass}")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ValueError(f"training.max_minutes must be positive, got {self.max_minutes}")

    def _check_reduction(self) -> None:
        if self.reduction == "ddp" and self.placement != "everywhere":
            raise ValueError(
                "training.reduction=ddp has every head on every rank: give "
                f"training.placement=everywhere with it, got {self.placement}"
            )
        if self.shard_ranks is not None and self.reduction != "sharded":
            raise ValueError(
                "training.shard_ranks goes with training.reduction=sharded, "
                f"got reduction={self.reduction}"
            )
        if self.shard_ranks is not None and self.shard_ranks < 2:
            raise ValueError(f"training.shard_ranks must be at least 2, got {self.shard_ranks}")


_POSITIVE = (
    "steps",
    "epochs",
    "learning_rate",
    "final_learning_rate",
    "clip_norm",
    "micro_batch_edges",
    "bucket_megabytes",
    "checkpoint_edges",
    "validate_every",
)
