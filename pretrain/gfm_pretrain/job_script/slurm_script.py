"""Scripts for `sbatch`."""

import shlex
from collections.abc import Iterator

from gfm_pretrain.job_script.job import Job
from gfm_pretrain.job_script.sections import (
    TELL,
    command,
    comment,
    directive,
    head,
    settings,
    setup,
    site_notes,
    wait_for_ranks,
)

MOST_RESTARTS = 100
"""A run that never gets further in its time must not go round for ever."""

BEFORE = """
# Slurm tells this script that its time is nearly over (USR1); the script tells srun, and srun tells
# the ranks, which save at the same step and end. To make room Slurm tells the ranks itself (TERM).
"""

AFTER = f"""if ((status == 0)) && ! finished; then
    if [ "$told" = USR1 ] && ((${{SLURM_RESTART_COUNT:-0}} < {MOST_RESTARTS})); then
        scontrol requeue "$SLURM_JOB_ID"
    elif [ "$told" != USR1 ]; then
        # Preempted or cancelled. Slurm, which said so, puts this job back into the queue or ends
        # it; if the script ended now, Slurm would take the job to be complete.
        sleep 600
    fi
fi
exit "$status"
"""


def slurm_script(job: Job) -> Iterator[str]:
    """The lines of a script for `sbatch`."""
    yield from head(job, submit="sbatch")
    for lines in _directives(job):
        yield from lines
    yield from setup(job)
    yield from _interpreter(job)
    yield from settings(job)
    yield from site_notes(job)
    yield from BEFORE.splitlines()
    yield from TELL.splitlines()
    yield ""
    for line in job.where.launch:
        yield from comment(f"{line.text}: {line.why}")
    yield from comment("--kill-on-bad-exit: a rank that dies ends the others, which wait for it")
    yield from command("srun", _options(job), job)
    yield from wait_for_ranks(job)
    yield from AFTER.splitlines()


def _directives(job: Job) -> Iterator[list[str]]:
    site, option = job.where, _option
    yield option(f"--job-name={job.name}")
    yield option("--output=%x-%j.out")
    if job.account:
        yield option(f"--account={job.account}")
    if queue := job.queue or site.queue:
        yield option(f"{site.queue_option}={queue}")
    yield option(f"--time={job.time}")
    yield option(f"--nodes={job.nodes}")
    yield option(f"--ntasks={job.ranks}")
    yield option(f"--ntasks-per-node={job.ranks_on_node}")
    yield option(f"--cpus-per-task={job.cpus}")
    if job.gpus_per_node:
        yield option(f"--gpus-per-node={job.gpus_per_node}")
    for line in site.directives:
        yield option(line.text, line.why)
    yield option(f"--signal=B:USR1@{job.warn_seconds}", "tell this script, before time is over")
    yield option("--requeue", "it may go back into the queue")
    yield option("--open-mode=append", "and then writes on in the same file")


def _option(text: str, why: str = "") -> list[str]:
    return directive("#SBATCH", text, why)


def _interpreter(job: Job) -> Iterator[str]:
    yield ""
    if not job.is_archive:
        yield f"python={shlex.quote(job.environment)}/bin/python"
        return
    yield from comment(
        "Python on the nodes themselves: thousands of ranks that read it from a shared file system "
        "start in minutes. Slurm sends one copy to each node, which unpacks it."
    )
    yield f'environment="{job.where.node_folder}/gfm-$SLURM_JOB_ID"'
    yield "on_each_node() {"
    yield f'    srun --nodes={job.nodes} --ntasks={job.nodes} --ntasks-per-node=1 --mpi=none "$@"'
    yield "}"
    yield """trap 'on_each_node rm -rf "$environment" "$environment.tar"' EXIT"""
    yield 'on_each_node mkdir -p "$environment"'
    yield f'sbcast --force {shlex.quote(job.environment)} "$environment.tar"'
    yield 'on_each_node tar -xf "$environment.tar" -C "$environment"'
    yield 'python="$environment/bin/python"'
    yield from comment("conda-pack leaves paths to be put right")
    yield 'if [ -x "$environment/bin/conda-unpack" ]; then'
    yield '    on_each_node "$python" "$environment/bin/conda-unpack"'
    yield "fi"


def _options(job: Job) -> list[str]:
    numbers = f"--nodes={job.nodes} --ntasks={job.ranks} --ntasks-per-node={job.ranks_on_node}"
    # srun does not take --cpus-per-task from sbatch, since Slurm 22.05.
    return [
        numbers,
        f"--cpus-per-task={job.cpus}",
        *(line.text for line in job.where.launch),
        "--kill-on-bad-exit=1",
    ]
