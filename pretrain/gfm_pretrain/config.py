"""The configuration of a run: one YAML file, checked in full before anything starts."""

from dataclasses import dataclass, field
from typing import Literal

from gfm_models.backbone import BackboneConfig
from gfm_models.checkpoint import check_head_name
from gfm_models.loss import LossConfig

from gfm_pretrain.device import Precision
from gfm_pretrain.fault_options import FaultOptions
from gfm_pretrain.guard import GuardOptions
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.mixture_options import MixtureOptions
from gfm_pretrain.monitor.options import MonitorOptions
from gfm_pretrain.snapshots.options import ResumeOptions, SnapshotOptions
from gfm_pretrain.training_options import TrainingOptions

EPOCHS = ("all", "largest", "smallest")
"""What an epoch may be besides the name of a head."""


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
