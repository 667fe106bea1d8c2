"""Scripts are read by bash, and run with stand-ins for what only a cluster has."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from gfm_pretrain.job_script.job import Job
from gfm_pretrain.job_script.script import job_script
from gfm_pretrain.job_script.sites import SITES
from launch import BIN, OPEN_MPI, SOURCE_ROOTS
from tiny_run import write_run

LIMIT_SECONDS = 120
SLURM_SITES = ("frontier", "perlmutter", "slurm")


def script(site: str, **changes: Any) -> str:
    given = {"ranks": 16, "arguments": ("run.yaml",), "environment": sys.prefix, "account": "abc"}
    given["run"] = "my run"
    return job_script(Job(site=site, **(given | changes)))


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("ranks", [1, 64])
def test_bash_reads_it(site, ranks):
    text = script(site, ranks=ranks)
    assert text.startswith("#!/bin/bash\n")
    read = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("site", SITES)
def test_every_setting_of_a_site_has_its_reason_above(site):
    lines = script(site, ranks=64).splitlines()
    where = SITES[site]
    for line in (*where.settings, *where.setup, *where.directives):
        place = next(i for i, text in enumerate(lines) if line.text in text)
        assert lines[place - 1].startswith("# ")
        assert lines[place - 1].endswith(line.why.split()[-1])
        assert len(line.why) > 3
    for line in where.launch:
        assert f"# {line.text}:" in script(site, ranks=64)


def test_what_the_network_needs_is_left_out_where_there_is_none():
    assert "export NCCL_NET=OFI" in script("frontier", ranks=9)
    assert "NCCL_NET=OFI" not in script("frontier", ranks=8)


def test_the_script_asks_for_what_the_run_is():
    text = script("frontier", ranks=20, time="02:30:00", queue="extended", warn_seconds=240)
    for line in (
        "#SBATCH --account=abc",
        "#SBATCH --partition=extended",
        "#SBATCH --time=02:30:00",
        "#SBATCH --nodes=3",
        "#SBATCH --ntasks=20",
        "#SBATCH --ntasks-per-node=8",
        "#SBATCH --signal=B:USR1@240",
        "    --nodes=3 --ntasks=20 --ntasks-per-node=8 \\",
        "    --gpus-per-task=1 --gpu-bind=closest \\",
    ):
        assert f"\n{line}\n" in text
    text = script("pbs", ranks=20, ranks_per_node=16, cpus_per_rank=2, gpus_per_node=8)
    assert "\n#PBS -l select=2:ncpus=32:mpiprocs=16:ngpus=8\n" in text
    assert "\n#PBS -l select=2\n" in script("aurora", ranks=20)
    assert "\n#SBATCH --qos=regular\n" in script("perlmutter")
    assert "account" not in script("slurm", account=None)


def test_the_users_own_setup_replaces_that_of_the_site():
    text = script("frontier", setup=("module load rocm/7.1.1", "source /my/setup"))
    assert "module load rocm/7.1.1\nsource /my/setup\n" in text
    assert "rccl-net-plugin\n" not in text


def test_what_the_shell_would_change_is_quoted():
    text = script("slurm", arguments=("my run.yaml", "run=$HOME/x y"))
    assert """-m gfm_pretrain.cli 'my run.yaml' 'run=$HOME/x y' &""" in text


def test_directives_come_before_any_command():
    """sbatch and qsub read no further than the first."""
    for site in SITES:
        lines = script(site).splitlines()
        first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
        assert not [line for line in lines[first:] if re.match("#(SBATCH|PBS)", line)]


class StandIns:
    """Programs that a script finds before those of a cluster; they note what they are asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir()
        self.run = folder / "my run"
        self.run.mkdir()
        self.note_of_run("stopped")
        self.noted = folder / "noted"

    def add(self, name: str, body: str) -> None:
        program = self.bin / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >> "{self.noted}"\n{body}\n')
        program.chmod(0o755)

    def note_of_run(self, event: str) -> None:
        line = json.dumps({"kind": "event", "step": 6, "event": event})
        (self.run / "metrics.jsonl").write_text(f'{{"event": "finished"}}\n{line}\n')

    def start(self, text: str, **environ: str) -> subprocess.Popen[str]:
        path = self.folder / "job.sh"
        path.write_text(text)
        paths = os.pathsep.join([str(self.bin), str(BIN), os.environ["PATH"]])
        environment = {**os.environ, "PATH": paths, **environ}
        return subprocess.Popen(
            ["bash", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=self.folder,
            start_new_session=True,
        )

    def finish(self, job: subprocess.Popen[str]) -> str:
        return job.communicate(timeout=LIMIT_SECONDS)[0]

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + LIMIT_SECONDS
        while not (self.noted.exists() and text in self.noted.read_text()):
            assert time.monotonic() < end, f"{text} was not noted"
            time.sleep(0.05)


# A launcher whose ranks save and end when they are told. `wait` keeps bash able to hear.
UNTIL_TOLD = """
trap 'echo saved; kill $!; exit 0' USR1
echo ready >> "$0.noted"
sleep 100 & wait
"""


@pytest.fixture
def stand_ins(tmp_path) -> StandIns:
    found = StandIns(tmp_path)
    found.add("scontrol", "")
    found.add("module", "")
    found.add("sleep", 'exec /bin/sleep "$@"')
    return found


def until_told(stand_ins: StandIns, name: str) -> None:
    body = UNTIL_TOLD.replace("$0.noted", str(stand_ins.noted))
    stand_ins.add(name, body.replace("sleep 100", "/bin/sleep 100"))


@pytest.mark.parametrize("site", SLURM_SITES)
def test_a_warned_run_saves_and_goes_back_into_the_queue(stand_ins, site):
    until_told(stand_ins, "srun")
    job = stand_ins.start(script(site), SLURM_JOB_ID="77")
    stand_ins.wait_for("ready")
    job.send_signal(signal.SIGUSR1)
    assert stand_ins.finish(job) == "saved\n"
    assert job.returncode == 0
    assert stand_ins.noted.read_text().endswith("scontrol requeue 77\n")


def test_a_run_that_never_gets_further_does_not_go_round_for_ever(stand_ins):
    until_told(stand_ins, "srun")
    job = stand_ins.start(script("slurm"), SLURM_JOB_ID="77", SLURM_RESTART_COUNT="100")
    stand_ins.wait_for("ready")
    job.send_signal(signal.SIGUSR1)
    stand_ins.finish(job)
    assert "scontrol" not in stand_ins.noted.read_text()


@pytest.mark.parametrize("script_is_told", [True, False])
def test_a_preempted_or_cancelled_run_saves_and_leaves_the_rest_to_slurm(stand_ins, script_is_told):
    """Slurm tells the ranks alone when it preempts: the script sees them end."""
    stand_ins.add("sleep", "")
    stand_ins.add("srun", "echo saved")
    if script_is_told:
        until_told(stand_ins, "srun")
    job = stand_ins.start(script("slurm"), SLURM_JOB_ID="77")
    if script_is_told:
        stand_ins.wait_for("ready")
        job.send_signal(signal.SIGTERM)
    assert stand_ins.finish(job) == "saved\n"
    assert job.returncode == 0
    assert stand_ins.noted.read_text().endswith("sleep 600\n")


@pytest.mark.parametrize(("launcher", "site"), [("srun", "slurm"), ("mpiexec", "pbs")])
def test_a_finished_run_ends_the_job_also_if_it_was_told(stand_ins, launcher, site):
    until_told(stand_ins, launcher)
    stand_ins.note_of_run("finished")
    here = str(stand_ins.folder)
    job = stand_ins.start(script(site), SLURM_JOB_ID="77", PBS_O_WORKDIR=here, PBS_NODEFILE="x")
    stand_ins.wait_for("ready")
    job.send_signal(signal.SIGUSR1)
    assert stand_ins.finish(job) == "saved\n"
    assert "scontrol" not in stand_ins.noted.read_text()
    assert "sleep 600" not in stand_ins.noted.read_text()


@pytest.mark.parametrize(
    ("status", "launcher", "site"), [(3, "srun", "slurm"), (3, "mpiexec", "pbs")]
)
def test_a_run_that_fails_fails_the_job_and_is_not_repeated(stand_ins, status, launcher, site):
    stand_ins.add(launcher, f"exit {status}")
    here = str(stand_ins.folder)
    job = stand_ins.start(script(site), SLURM_JOB_ID="77", PBS_O_WORKDIR=here, PBS_NODEFILE="x")
    assert stand_ins.finish(job) == ""
    assert job.returncode == status
    assert "scontrol" not in stand_ins.noted.read_text()


def test_an_archive_is_sent_to_every_node_and_unpacked_there(stand_ins, tmp_path):
    node = tmp_path / "node"
    text = script("slurm", environment="/shared/env.tar.gz", ranks=6, ranks_per_node=2)
    stand_ins.note_of_run("finished")
    stand_ins.add("srun", "")
    stand_ins.add("sbcast", "")
    job = stand_ins.start(text.replace("/tmp/$SLURM_JOB_USER", str(node)), SLURM_JOB_ID="77")
    assert stand_ins.finish(job) == ""
    each = "srun --nodes=3 --ntasks=3 --ntasks-per-node=1 --mpi=none"
    ranks = "srun --nodes=3 --ntasks=6 --ntasks-per-node=2 --cpus-per-task=1 --mpi=none "
    ranks += "--kill-on-bad-exit=1"
    assert stand_ins.noted.read_text().splitlines() == [
        f"{each} mkdir -p {node}/gfm-77",
        f"sbcast --force /shared/env.tar.gz {node}/gfm-77.tar",
        f"{each} tar -xf {node}/gfm-77.tar -C {node}/gfm-77",
        f"{ranks} {node}/gfm-77/bin/python -m gfm_pretrain.cli run.yaml",
        f"{each} rm -rf {node}/gfm-77 {node}/gfm-77.tar",
    ]


def test_under_pbs_the_script_itself_watches_the_time(stand_ins, tmp_path):
    until_told(stand_ins, "mpiexec")
    text = script("pbs", time="00:00:05", warn_seconds=3)
    job = stand_ins.start(text, PBS_O_WORKDIR=str(tmp_path), PBS_NODEFILE="hosts")
    said = stand_ins.finish(job)
    assert said.splitlines() == [
        "saved",
        "saved before the end (USR1): submit the same script again, it continues",
    ]
    assert job.returncode == 0
    assert "sleep 2\n" in stand_ins.noted.read_text()
    assert "mpiexec -n 16 --hostfile hosts" in stand_ins.noted.read_text()


# mpiexec of PALS as its processes see it: Open MPI's starts them, under other names.
PALS = f"""
while [[ "$1" == -* ]]; do
    case "$1" in -n) ranks=$2; shift 2 ;; --ppn) shift 2 ;; *) shift ;; esac
done
rename='export PALS_RANKID=$OMPI_COMM_WORLD_RANK PALS_LOCAL_RANKID=$OMPI_COMM_WORLD_LOCAL_RANK
export PALS_LOCAL_SIZE=$OMPI_COMM_WORLD_LOCAL_SIZE
unset ${{!OMPI_COMM_WORLD_*}}
exec "$@"'
exec {BIN}/mpiexec -n "$ranks" bash -c "$rename" bash "$@"
"""


@pytest.mark.mpi
def test_the_script_for_aurora_runs_under_what_pals_sets(stand_ins, tmp_path):
    """Real ranks, a stand-in for PALS and for `module`; neither PBS nor a GPU."""
    run = write_run(tmp_path)
    stand_ins.add("mpiexec", PALS)
    settings = ("run=here", "training.steps=2", "device=cpu")
    text = script("aurora", ranks=2, arguments=(str(run), *settings))
    job = stand_ins.start(
        text,
        **OPEN_MPI,
        PBS_O_WORKDIR=str(tmp_path),
        PYTHONPATH=os.pathsep.join(map(str, SOURCE_ROOTS)),
        OMP_NUM_THREADS="1",
    )
    said = stand_ins.finish(job)
    assert job.returncode == 0, said
    assert (tmp_path / "here" / "checkpoint" / "backbone.safetensors").exists()
    assert re.search(r"^wb97x .* of 2$", said, re.MULTILINE), said
