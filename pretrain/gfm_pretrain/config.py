"""The configuration of a run: one YAML file, checked in full before anything starts."""

import math
from dataclasses import dataclass, field
from typing import Literal

from gfm_models.backbone import BackboneConfig
from gfm_models.checkpoint import check_head_name
from gfm_models.heads import HEAD_WIDTH
from gfm_models.loss import LossConfig

from gfm_pretrain.device import Precision
from gfm_pretrain.guard import GuardOptions
from gfm_pretrain.monitor.options import MonitorOptions
from gfm_pretrain.snapshots.options import ResumeOptions, SnapshotOptions

EPOCHS = ("all", "largest", "smallest")
"""What an epoch may be besides the name of a head."""


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """One head: its data, what they are, and its part in the mixture."""

    train: str | None = None
    """File with the training structures, extended XYZ, gzipped or not."""

    store: str | None = None
    """Folder that `gfm data import` made, in place of `train`: it has splits and labels."""

    valid: str | None = None
    """File whose errors are followed during training."""

    valid_fraction: float = 0.0
    """Part of the training file, in runs of neighbouring structures, that is set aside for
    validation where there is no `valid`. A store divides by molecule or material instead."""

    test: str | None = None
    """File whose errors are reported before and after training."""

    level_of_theory: str = ""
    """Such as `PBE/def2-SVP`. Needed with files; a store knows its own."""

    description: str = ""
    """What the head is good for, in one sentence."""

    source: str = ""
    """The data set as published."""

    licence: str = ""
    """Licence of the data."""

    citation: str = ""
    """How the data wants to be cited."""

    labels: tuple[Literal["energy", "forces", "stress"], ...] = ("energy", "forces")
    """Labels that the training file must have. Others that are found are trained on, too."""

    energy_key: str | None = None
    """Key of the energy where it is not found by itself."""

    forces_key: str | None = None
    """Key of the forces where they are not found by themselves."""

    stress_key: str | None = None
    """Key of the stress (eV/Å³, ASE's sign) where it is not found by itself."""

    reference_energies: dict[str, float] | Literal["auto", "isolated", "fit"] = "auto"
    """E0 by chemical symbol in eV; or from isolated atoms in the file; or by least squares; or
    `auto`: from isolated atoms if there are any, else by least squares."""

    batch_size: int | None = None
    """Structures of this head in every step, over all ranks, where the mixture is explicit; 16 if
    nothing is said."""

    weight: float = 1.0
    """Weight of this head in the loss."""

    width: int = HEAD_WIDTH
    """Hidden width of the readout."""

    inherit: str | None = None
    """Head of the checkpoint in `init_from` whose weights this head starts from."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: naming the option.
        """
        self._check_data()
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size of a head must be at least 1, got {self.batch_size}")
        if not 0 <= self.valid_fraction < 1:
            raise ValueError(f"valid_fraction must lie in 0 to 1, got {self.valid_fraction}")
        if self.valid_fraction and self.valid is not None:
            raise ValueError("valid and valid_fraction exclude each other; leave one of them out")
        if not self.weight > 0:
            raise ValueError(f"weight of a head must be positive, got {self.weight}")

    def _check_data(self) -> None:
        if (self.train is None) == (self.store is None):
            found = "neither" if self.train is None else "both"
            raise ValueError(f"a head has either train, a file, or store, a folder; got {found}")
        given = [name for name in _OF_FILES if getattr(self, name)]
        if self.store is not None and given:
            raise ValueError(
                f"{', '.join(given)} cannot be given with store, which was imported with all of "
                "it; leave it out, or give files with train"
            )
        if self.train is not None and not self.level_of_theory:
            raise ValueError(
                "level_of_theory is missing, such as PBE/def2-SVP; only a store brings its own"
            )


_OF_FILES = ("valid", "valid_fraction", "test", "energy_key", "forces_key", "stress_key")


@dataclass(frozen=True, kw_only=True)
class MixtureOptions:
    """How much of each head there is in a step, and what an epoch is."""

    by: Literal["explicit", "size", "temperature"] = "explicit"
    """Who says how many structures of a head a step has: its `batch_size`; the size of its
    training set; or this size to the power 1/temperature."""

    batch_size: int | None = None
    """Structures in every step on average, over all heads and ranks; not with `explicit`."""

    temperature: float = 1.0
    """1 is by size; the larger, the more alike are small and large sets."""

    epoch: str = "largest"
    """What one epoch is. `largest`: until every structure of every head was seen, so that the
    head that takes longest is through; `smallest`: until the first head is through; `all`: as many
    structures as all heads have together; or the name of the head that has to be through."""

    def __post_init__(self) -> None:
        """Check what depends on `by`.

        Raises:
            ValueError: naming the option.
        """
        if (self.by == "explicit") != (self.batch_size is None):
            found = "is missing" if self.batch_size is None else "cannot be given"
            raise ValueError(
                f"mixture.batch_size {found} with mixture.by={self.by}: heads have a batch_size of "
                "their own with explicit, and share this one with size or temperature"
            )
        if not (math.isfinite(self.temperature) and self.temperature >= 1):
            raise ValueError(f"mixture.temperature must be at least 1, got {self.temperature}")
        if self.by != "temperature" and self.temperature != 1:
            raise ValueError(
                f"mixture.temperature={self.temperature} goes with mixture.by=temperature, "
                f"got by={self.by}"
            )


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


@dataclass(frozen=True, kw_only=True)
class FaultOptions:
    """When a run gives itself up."""

    hang_seconds: float = 120.0
    """How long a rank may show no sign of progress while others wait for it. Ten times the longest
    that a rank has taken so far between two signs, where that is more. Set-up and the first step,
    which may compile, have the time limit of messages alone."""

    compare_replicas_every: int = 100
    """Steps between comparisons of the bits of weights that several ranks hold. They are compared
    before every snapshot, too."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: naming the option.
        """
        for name in ("hang_seconds", "compare_replicas_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"faults.{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run."""

    run: str
    """Folder of the run: configuration, log, metrics, snapshots, and at the end the checkpoint."""

    heads: dict[str, HeadOptions]
    """The heads by name."""

    training: TrainingOptions
    """Length, optimiser and bookkeeping."""

    model: BackboneConfig | None = None
    """Architecture of the backbone; left out with `init_from`."""

    mixture: MixtureOptions = field(default_factory=MixtureOptions)
    """How much of each head there is in a step."""

    loss: LossConfig = field(default_factory=LossConfig)
    """Weights of energy, forces and stress."""

    guard: GuardOptions = field(default_factory=GuardOptions)
    """Which steps are skipped because a loss or a gradient went wrong."""

    faults: FaultOptions = field(default_factory=FaultOptions)
    """When the run gives itself up."""

    monitor: MonitorOptions = field(default_factory=MonitorOptions)
    """How the run is watched."""

    snapshots: SnapshotOptions = field(default_factory=SnapshotOptions)
    """When the state of the run is written, and how much of it is kept."""

    resume: ResumeOptions = field(default_factory=ResumeOptions)
    """What may be different when the run is continued."""

    init_from: str | None = None
    """Folder of a checkpoint whose backbone (and heads, see `inherit`) the run starts from."""

    seed: int = 0
    """Of initial weights and of the order of the data."""

    stage: Literal["mapped", "shared"] = "mapped"
    """How stores are read: mapped files, whose pages all processes of a node share in the page
    cache; or `shared`: read once per node into memory that its processes share, for file systems
    that map files slowly or not at all (needs MPI)."""

    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the weights; geometry, energies and their sums are in float64 always."""

    precision: Precision = "full"
    """`full`: products of float32 are float32. `tf32`: they keep 11 bits, on accelerators that
    have it."""

    device: Literal["auto", "cpu", "cuda", "xpu"] = "auto"
    """Kind of device; `auto` takes the accelerator that torch sees, or else the CPU."""

    def __post_init__(self) -> None:
        """Check names and what depends on one another.

        Raises:
            ValueError: naming the option.
        """
        if not self.heads:
            raise ValueError("heads must name at least one head")
        for name, head in self.heads.items():
            check_head_name(name)
            if head.inherit is not None and self.init_from is None:
                raise ValueError(
                    f"heads.{name}.inherit needs init_from, the checkpoint of that head"
                )
        if self.init_from is not None and self.model is not None:
            raise ValueError("model is given by the checkpoint in init_from; leave one of them out")
        self._check_mixture()
        self._check_renamed()

    def _check_renamed(self) -> None:
        rename = self.resume.rename
        for old, new in rename.items():
            if new not in self.heads or old in self.heads:
                raise ValueError(
                    f"resume.rename={{{old}: {new}}} needs a head {new} and no head {old} in the "
                    f"configuration, its heads are {', '.join(self.heads)}"
                )
        if len(set(rename.values())) < len(rename):
            raise ValueError(f"resume.rename gives two heads one name, got {dict(rename)}")

    def _check_mixture(self) -> None:
        mixture = self.mixture
        sized = [name for name, head in self.heads.items() if head.batch_size is not None]
        if mixture.by != "explicit" and sized:
            raise ValueError(
                f"heads.{sized[0]}.batch_size cannot be given with mixture.by={mixture.by}; "
                "leave it out, or choose mixture.by=explicit"
            )
        if mixture.batch_size is not None and mixture.batch_size < len(self.heads):
            raise ValueError(
                f"mixture.batch_size must be at least the number of heads, {len(self.heads)}, or "
                f"some steps would have no structures, got {mixture.batch_size}"
            )
        epochs = (*EPOCHS, *self.heads)
        if mixture.epoch not in epochs:
            raise ValueError(
                f"mixture.epoch must be one of {', '.join(epochs)}, got '{mixture.epoch}'"
            )

    @property
    def architecture(self) -> BackboneConfig:
        """Architecture of a run that starts from scratch."""
        return self.model or BackboneConfig()
