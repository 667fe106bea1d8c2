"""A Slurm cluster of three make-believe nodes on this machine, in a folder that is deleted after.

Needs the programs of Debian's slurm-wlm and munge, no service, no systemd and no control groups.
"""

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NODES = ("n1", "n2", "n3")
CPUS = 64
"""More than there are: ranks wait more than they compute here."""
WAIT_SECONDS = 300.0
END_STATES = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")
PMIX = Path("/usr/lib/x86_64-linux-gnu/pmix2/lib/libpmix.so")
"""What Debian's srun loads for --mpi=pmix; it is in libpmix-dev."""

CONFIGURATION = """\
ClusterName=gfm
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=20
MinJobAge=3600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,requeue_delay=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports}] \
CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 \
RealMemory=4000 Features=nvme,gpu Gres=gpu:8 State=UNKNOWN
PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
"""


@dataclass(frozen=True)
class Cluster:
    """A running one."""

    folder: Path

    def environ(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """This process's environment, for programs that ask the cluster."""
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), **(extra or {})}

    def run(
        self,
        *command: str | Path,
        environ: Mapping[str, str] | None = None,
        timeout: float = WAIT_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program such as srun until it ends; both outputs in one."""
        return subprocess.run(
            list(map(str, command)),
            env=self.environ(environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )

    def submit(self, script: Path, *options: str, environ: Mapping[str, str] | None = None) -> str:
        """Number of the job."""
        told = self.run("sbatch", "--parsable", *options, script, environ=environ)
        assert told.returncode == 0, told.stdout
        return told.stdout.split()[-1]  # a warning may come before

    def facts(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says."""
        said = self.run("scontrol", "show", "--oneliner", "job", job).stdout
        return dict(re.findall(r"(\S+?)=(\S*)", said))

    def wait(self, job: str, *states: str, timeout: float = WAIT_SECONDS) -> dict[str, str]:
        """Wait until the job is in one of the states, or has ended; what is then said of it."""
        end = time.monotonic() + timeout
        while (facts := self.facts(job)).get("JobState") not in (*states, *END_STATES):
            assert time.monotonic() < end, f"job {job} stays {facts.get('JobState')}: {facts}"
            time.sleep(0.3)
        return facts

    def restart_now(self, job: str) -> None:
        """Slurm lets a job that was put back into the queue wait two minutes: do not."""
        facts = self.wait(job, "PENDING")
        assert facts["JobState"] == "PENDING", facts
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now")


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Set it up in `folder`, and take all of it down again."""
    try:
        _start(folder)
        yield Cluster(folder)
    finally:
        _stop(folder)


def missing_programs() -> list[str]:
    """What is to be installed before."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    return [
        name
        for name in ("slurmctld", "slurmd", "srun", "munged")
        if not shutil.which(name, path=path)
    ]


def _start(folder: Path) -> None:
    for name in ("munge", "state", "log"):
        (folder / name).mkdir(parents=True)
    for name in (folder, folder / "munge"):
        name.chmod(0o755)  # munged wants its socket in a folder that others may enter
    _start_munge(folder / "munge")
    first = _free_port()
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=socket.gethostname(),
            user=getpass.getuser(),
            folder=folder,
            controller_port=first,
            nodes=f"n[1-{len(NODES)}]",
            ports=f"{first + 1}-{first + len(NODES)}",
            cpus=CPUS,
        )
    )
    for number in range(8):  # Slurm asks only whether the devices' files are there
        (folder / f"gpu{number}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-7]\n")
    _daemon(folder, "slurmctld", "-c")
    for name in NODES:
        _daemon(folder, "slurmd", "-N", name)
    _wait_until_idle(Cluster(folder))


def _start_munge(folder: Path) -> None:
    key = folder / "key"
    _call("mungekey", "--create", f"--keyfile={key}")
    key.chmod(0o400)
    _call(
        "munged",
        f"--socket={folder}/socket",
        f"--key-file={key}",
        f"--pid-file={folder}/munged.pid",
        f"--log-file={folder}/log",
        f"--seed-file={folder}/seed",
    )


def _daemon(folder: Path, name: str, *options: str) -> None:
    """Both go into the background themselves."""
    _call(name, *options, environ={"SLURM_CONF": str(folder / "slurm.conf")})


def _call(name: str, *options: str, environ: Mapping[str, str] | None = None) -> None:
    program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, f"{name} is not installed"
    subprocess.run(
        [program, *options], env={**os.environ, **(environ or {})}, check=True, timeout=60
    )


def _wait_until_idle(found: Cluster) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while (states := found.run("sinfo", "-h", "-N", "-p", "batch", "-o", "%t").stdout.split()) != [
        "idle"
    ] * len(NODES):
        assert time.monotonic() < end, f"nodes are {states}"
        time.sleep(0.3)


def _stop(folder: Path) -> None:
    """Jobs first, then the daemons, the controller's and munge's last."""
    if (folder / "slurmctld.pid").exists():
        _end_jobs(Cluster(folder))
    files = [*(folder / f"slurmd.{name}.pid" for name in NODES), folder / "slurmctld.pid"]
    for file in (*files, folder / "munge" / "munged.pid"):
        _end(file)


def _end_jobs(found: Cluster) -> None:
    """A slurmd does not end before its jobs have."""
    end = time.monotonic() + WAIT_SECONDS
    while found.run("squeue", "-h").stdout.strip() and time.monotonic() < end:
        found.run("scancel", "--signal=KILL", "--full", "--user", getpass.getuser())
        found.run("scancel", "--user", getpass.getuser())
        time.sleep(1.0)


def _end(file: Path) -> None:
    if not file.exists():
        return
    number = int(file.read_text())
    end = time.monotonic() + 20.0
    while Path(f"/proc/{number}").exists():
        os.kill(number, signal.SIGTERM if time.monotonic() < end else signal.SIGKILL)
        time.sleep(0.3)


def _free_port() -> int:
    """The first of some that follow each other, below those that Linux hands out."""
    for first in range(16_800, 32_000, 10):
        try:
            for port in range(first, first + 1 + len(NODES)):
                with socket.socket() as listening:
                    listening.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise OSError("no free ports between 16800 and 32000")
