"""Scripts for `qsub` of PBS Pro and OpenPBS."""

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

BEFORE = """
# PBS has no warning before the end of the time: this script counts for itself, and tells mpiexec,
# which tells the ranks, which save at the same step and end. PBS asks with TERM before it kills.
"""

CLOCK = """(sleep {seconds} && kill -USR1 $$) > /dev/null 2>&1 &
clock=$!
"""

AFTER = """kill "$clock" 2> /dev/null || true
if ((status == 0)) && ! finished; then
    echo "saved before the end (${told:-told by PBS}): submit the same script again, it continues"
fi
exit "$status"
"""


def pbs_script(job: Job) -> Iterator[str]:
    """The lines of a script for `qsub`."""
    yield from head(job, submit="qsub")
    for lines in _directives(job):
        yield from lines
    yield from setup(job)
    yield ""
    yield from comment("PBS starts in the home folder.")
    yield 'cd "$PBS_O_WORKDIR"'
    yield f"python={shlex.quote(job.environment)}/bin/python"
    yield from settings(job)
    yield from site_notes(job)
    yield from BEFORE.splitlines()
    yield from TELL.splitlines()
    yield from CLOCK.format(seconds=job.seconds - job.warn_seconds).splitlines()
    yield ""
    for line in job.where.launch:
        yield from comment(f"{line.text}: {line.why}")
    yield from command("mpiexec", _options(job), job)
    yield from wait_for_ranks(job)
    yield from AFTER.splitlines()


def _directives(job: Job) -> Iterator[list[str]]:
    yield _option(f"-N {job.name}")
    yield _option("-j oe", "one file for output and errors")
    if job.account:
        yield _option(f"-A {job.account}")
    if queue := job.queue or job.where.queue:
        yield _option(f"-q {queue}")
    yield _option(f"-l walltime={job.time}")
    yield _option(f"-l select={job.nodes}{_chunk(job)}")
    for line in job.where.directives:
        yield _option(line.text, line.why)


def _option(text: str, why: str = "") -> list[str]:
    return directive("#PBS", text, why)


def _chunk(job: Job) -> str:
    """What each node has to give; sites with whole nodes do not ask."""
    if job.where.ranks_per_node is not None:
        return ""
    gpus = f":ngpus={job.gpus_per_node}" if job.gpus_per_node else ""
    return f":ncpus={job.ranks_on_node * job.cpus}:mpiprocs={job.ranks_on_node}{gpus}"


def _options(job: Job) -> list[str]:
    # The file of nodes says how many ranks each has; PALS, on whole nodes, is told.
    per_node = f" --ppn {job.ranks_on_node}" if job.where.ranks_per_node is not None else ""
    return [f"-n {job.ranks}{per_node}", *(line.text for line in job.where.launch)]
