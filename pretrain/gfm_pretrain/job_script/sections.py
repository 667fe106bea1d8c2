"""The parts of a job script that do not depend on the scheduler."""

import shlex
import textwrap
from collections.abc import Iterable, Iterator

from gfm_pretrain.job_script.job import Job
from gfm_pretrain.job_script.sites import Line

WIDTH = 100
TELL = """told=""
ranks=""
waiting=1
tell_ranks() {
    told=$1
    waiting=1
    [ -z "$ranks" ] || kill -USR1 "$ranks" || true
}
trap 'tell_ranks USR1' USR1
trap 'tell_ranks TERM' TERM
"""
WAIT = """ranks=$!
status=0
while ((waiting)); do  # a signal ends `wait` before the ranks have ended
    waiting=0
    status=0
    wait "$ranks" || status=$?
done
"""
INDENT = "    "


def head(job: Job, *, submit: str) -> Iterator[str]:
    """What this is, and who says so."""
    nodes = f"{job.nodes} node{'s' if job.nodes > 1 else ''}"
    yield "#!/bin/bash"
    yield from comment(f"gfm-pretrain, {job.ranks} ranks on {nodes} of {job.where.title}.")
    yield from comment(
        f"Written by `gfm plan --script {job.site}`, for {submit}. The same script continues a run."
    )
    if job.where.account_needed:
        yield from comment(
            "The settings are those of public job scripts of 2026 and could not be tried here: "
            "hold them against the guide of the site."
        )
    yield "#"


def directive(prefix: str, option: str, why: str = "") -> list[str]:
    """A line for the scheduler, with its reason above."""
    return [*comment(why), f"{prefix} {option}"]


def setup(job: Job) -> Iterator[str]:
    """Modules and the like, those of the user or else those of the site."""
    lines = tuple(Line(text, "") for text in job.setup) or job.where.setup
    yield ""
    yield "set -eo pipefail"
    for line in lines:
        yield from comment(line.why)
        yield line.text
    yield from comment("only now: modules may read variables that are not set")
    yield "set -u"


def settings(job: Job) -> Iterator[str]:
    """Variables that all ranks get."""
    yield ""
    yield from comment("threads that prepare data; on CPUs the ranks share the cores by themselves")
    yield f"export OMP_NUM_THREADS={job.cpus}"
    for line in job.where.settings:
        if job.nodes > 1 or not line.several_nodes:
            yield from comment(line.why)
            yield from _export(line.text)


def _export(text: str) -> Iterator[str]:
    """Apart from a command that finds the value: `export` would hide its failure."""
    if "$(" not in text:
        yield f"export {text}"
        return
    yield text
    yield f"export {text.partition('=')[0]}"


def site_notes(job: Job) -> Iterator[str]:
    """What only the user can choose."""
    yield ""
    yield from comment(f"Storage: {job.where.storage}.")
    if job.where.network:
        yield from comment(f"Network: {job.where.network}.")


def command(program: str, options: Iterable[str], job: Job) -> Iterator[str]:
    """What starts the ranks, one option on a line, in the background."""
    run = ['"$python"', "-m gfm_pretrain.cli", *map(shlex.quote, job.arguments)]
    lines = [program, *options, " ".join(run)]
    yield from (f"{INDENT if i else ''}{line} \\" for i, line in enumerate(lines[:-1]))
    yield f"{INDENT}{lines[-1]} &"


def wait_for_ranks(job: Job) -> Iterator[str]:
    """Until all have ended, and a question: whether the run is complete, or was told to stop."""
    yield from WAIT.splitlines()
    yield "finished() {  # the last line of what the run notes"
    yield f"    tail -n 1 {shlex.quote(job.run + '/metrics.jsonl')} | grep -q '\"finished\"'"
    yield "}"
    yield ""


def comment(text: str) -> list[str]:
    """The text as comments; nothing for nothing."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
