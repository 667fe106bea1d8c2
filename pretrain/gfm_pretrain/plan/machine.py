"""Machines that a run may go to: what their devices and networks can do, and how sure that is."""

from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Literal

from gfm_pretrain.configuration import read_configuration
from gfm_pretrain.plan.network import ALGORITHMS, Link, Network

Case = Literal["slow", "likely", "fast"]
CASES: tuple[Case, ...] = ("slow", "likely", "fast")
"""Ends of the bands that all make a run slow, the likely values, and the ends that make it fast."""

Band = tuple[float, float, float]
"""Slow, likely, fast."""

SMALLER_IS_FASTER = ("latency_inside_us", "latency_between_us", "call_us")
FOLDER = files("gfm_pretrain.plan") / "machines"


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """A machine in one case: plain numbers."""

    network: Network
    """What connects the devices."""
    rate: float
    """How many times as fast a device works on atoms and edges as what the cost was measured on."""
    pass_rate: float
    """The same for what a pass costs whatever its size."""
    memory_bandwidth: float
    """Bytes per second of a device's memory."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine with its bands, as it is described in a file."""

    name: str
    """Such as Frontier."""
    device: str
    """What a rank computes on."""
    ranks_per_node: int
    """Devices of a node, one rank on each."""
    most_ranks: int
    """Devices of the whole machine."""
    memory_gib: float
    """Memory of a device, GiB."""
    memory_bandwidth_gb: Band
    """What is reached of the bandwidth of this memory, GB/s."""
    rate: Band
    """How many times as fast a device works on atoms and edges as what the cost was measured on."""
    pass_rate: Band
    """The same for what a pass costs whatever its size: launching its kernels one by one."""
    latency_inside_us: Band
    """A message between devices of a node, µs."""
    latency_between_us: Band
    """A message between nodes, µs."""
    call_us: Band
    """A collective, whatever it sends, µs."""
    bandwidth_inside_gb: Band
    """What one device sends inside its node, GB/s."""
    bandwidth_between_gb: Band
    """What one device sends to other nodes while all of its node do, GB/s."""
    algorithms: dict[Case, tuple[Literal["ring", "tree", "hierarchical"], ...]]
    """Those that the library chooses the fastest of, in each case."""
    sources: dict[str, str]
    """For each number above, where it comes from; what nobody has measured begins with
    `assumption`."""

    def __post_init__(self) -> None:
        """Check that bands are in order and that every number has a source.

        Raises:
            ValueError: naming the number.
        """
        for name in NUMBERS:
            value = getattr(self, name)
            band = value if isinstance(value, tuple) else (value,)
            ordered = band[::-1] if name in SMALLER_IS_FASTER else band
            if not min(band) > 0 or list(ordered) != sorted(ordered):
                raise ValueError(f"{name} must be positive, from slow to fast, got {list(band)}")
            if name not in self.sources:
                raise ValueError(f"sources.{name} is missing: say where the number comes from")
        if set(self.algorithms) != set(CASES) or not all(self.algorithms.values()):
            raise ValueError(f"algorithms must name some for each of {', '.join(CASES)}")

    def as_measured(self) -> "Machine":
        """The same, for a cost that was measured on one of its devices."""
        known = "1: the cost was measured on such a device"
        return replace(
            self,
            rate=(1.0, 1.0, 1.0),
            pass_rate=(1.0, 1.0, 1.0),
            sources=self.sources | {"rate": known, "pass_rate": known},
        )

    def hardware(self, case: Case) -> Hardware:
        """All numbers of one case."""
        place = CASES.index(case)
        return Hardware(
            network=Network(
                ranks_per_node=self.ranks_per_node,
                inside=Link(
                    latency=1e-6 * self.latency_inside_us[place],
                    bandwidth=1e9 * self.bandwidth_inside_gb[place],
                ),
                between=Link(
                    latency=1e-6 * self.latency_between_us[place],
                    bandwidth=1e9 * self.bandwidth_between_gb[place],
                ),
                call=1e-6 * self.call_us[place],
                algorithms=self.algorithms[case],
            ),
            rate=self.rate[place],
            pass_rate=self.pass_rate[place],
            memory_bandwidth=1e9 * self.memory_bandwidth_gb[place],
        )


NUMBERS = tuple(
    f.name for f in fields(Machine) if f.name not in ("name", "device", "algorithms", "sources")
)
"""What a machine is described by."""
assert ALGORITHMS == ("ring", "tree", "hierarchical"), "as in the type of `algorithms`"


def read_machine(name: str) -> Machine:
    """A machine that is described in this package, by name, or in a file of one's own.

    Raises:
        FileNotFoundError: there is neither; the message lists those there are.
        ConfigurationError: the file is not right, in one line.
    """
    known = machine_names()
    path = Path(str(FOLDER / f"{name.lower()}.yaml")) if name.lower() in known else Path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"--machine must be one of {', '.join(known)}, or a file, and there is no '{name}'"
        )
    return read_configuration(Machine, path)


def machine_names() -> list[str]:
    """Machines that are described in this package."""
    return sorted(Path(f.name).stem for f in FOLDER.iterdir() if f.name.endswith(".yaml"))
