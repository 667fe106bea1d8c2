"""What a job script is written for."""

import re
from dataclasses import dataclass

from gfm_pretrain.job_script.sites import SITES, Site

# No blanks and nothing that a shell or a scheduler would take for more than a name.
_NAME = re.compile(r"[\w.@:/+-]+")
_TIME = re.compile(r"(\d+):([0-5]\d):([0-5]\d)")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run on a site; None takes what the site has."""

    site: str
    """One of `SITES`."""
    ranks: int
    """Number of ranks, one on each device."""
    arguments: tuple[str, ...]
    """Of `gfm-pretrain`: the configuration, and settings to change."""
    run: str
    """Folder of the run, as the configuration has it."""
    environment: str
    """Folder of a Python environment, or the archive of one (.tar.gz), with paths of the site."""
    account: str | None = None
    """What pays."""
    time: str = "01:00:00"
    """Limit, HH:MM:SS."""
    queue: str | None = None
    """Partition or QOS of Slurm, queue of PBS."""
    name: str = "gfm-pretrain"
    """Of the job."""
    ranks_per_node: int | None = None
    """Number on every node but maybe the last."""
    cpus_per_rank: int | None = None
    """Logical CPUs."""
    gpus_per_node: int | None = None
    """Where the site has no number of its own."""
    setup: tuple[str, ...] = ()
    """Commands to run first, such as `module load …`; they replace those of the site."""
    warn_seconds: int = 300
    """How long before its end the run is told to save."""

    def __post_init__(self) -> None:
        """Check what can be known away from the site.

        Raises:
            ValueError: naming the option.
        """
        if self.site not in SITES:
            raise ValueError(f"--script must be one of {', '.join(SITES)}, got '{self.site}'")
        if SITES[self.site].account_needed and not self.account:
            raise ValueError(f"--script {self.site} needs --account NAME, the project that pays")
        self._check_names()
        self._check_numbers()
        if self.is_archive and SITES[self.site].scheduler != "slurm":
            raise ValueError(
                f"--environment {self.environment}: archives are sent to the nodes by Slurm's "
                f"sbcast and {self.site} has none; give the folder of an environment"
            )

    def _check_names(self) -> None:
        for option in ("account", "queue", "name"):
            value = getattr(self, option)
            if value is not None and not _NAME.fullmatch(value):
                raise ValueError(f"--{option} must be one word, got '{value}'")

    def _check_numbers(self) -> None:
        for option in ("ranks", "ranks_per_node", "cpus_per_rank", "gpus_per_node"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise ValueError(f"--{_dashed(option)} must be at least 1, got {value}")
        most = SITES[self.site].ranks_per_node
        if most is not None and self.ranks_on_node > most:
            raise ValueError(
                f"--ranks-per-node must be at most {most}, the devices of a node of {self.site}, "
                f"got {self.ranks_on_node}"
            )
        if most is not None and self.gpus_per_node is not None:
            raise ValueError(f"--gpus-per-node is known for {self.site}: leave it out")
        if not 0 < self.warn_seconds < self.seconds:
            raise ValueError(
                f"--warn must be between 0 and the {self.seconds} s of --time, got "
                f"{self.warn_seconds}"
            )

    @property
    def where(self) -> Site:
        """What is particular to the site."""
        return SITES[self.site]

    @property
    def ranks_on_node(self) -> int:
        """Ranks on every node but maybe the last."""
        return min(self.ranks, self.ranks_per_node or self.where.ranks_per_node or self.ranks)

    @property
    def nodes(self) -> int:
        """As few as hold all ranks."""
        return -(-self.ranks // self.ranks_on_node)

    @property
    def cpus(self) -> int:
        """Logical CPUs of a rank."""
        return self.cpus_per_rank or self.where.cpus_per_rank

    @property
    def seconds(self) -> int:
        """The limit of time."""
        found = _TIME.fullmatch(self.time)
        if found is None:
            raise ValueError(f"--time must be HH:MM:SS, got '{self.time}'")
        hours, minutes, seconds = map(int, found.groups())
        return 3600 * hours + 60 * minutes + seconds

    @property
    def is_archive(self) -> bool:
        """Whether the environment is to be unpacked on each node."""
        return self.environment.endswith((".tar", ".tar.gz", ".tgz"))


def _dashed(option: str) -> str:
    return option.replace("_", "-")
