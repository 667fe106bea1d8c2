"""The options of `gfm plan --script`: a job script instead of a plan."""

from __future__ import annotations

import argparse
import sys

from gfm_pretrain.job_script.job import Job
from gfm_pretrain.job_script.script import job_script
from gfm_pretrain.job_script.sites import SITES


# argparse has no public name for the type of a group of arguments.
def add_job_script(group) -> None:
    """Add the options to a parser or a group of it."""
    add = group.add_argument
    text = "write the script of a job with --ranks N for this site, to standard output"
    add("--script", choices=tuple(SITES), help=text)
    add("--account", metavar="NAME", help="the project that pays")
    add("--time", default=Job.time, metavar="HH:MM:SS", help=f"limit ({Job.time})")
    add("--queue", metavar="NAME", help="partition or QOS of Slurm, queue of PBS")
    add("--name", default=Job.name, help=f"of the job ({Job.name})")
    add("--ranks-per-node", type=int, metavar="N", help="(as many as a node has devices)")
    add("--cpus-per-rank", type=int, metavar="N", help="logical CPUs of each rank")
    add("--gpus-per-node", type=int, metavar="N", help="for slurm and pbs, whose nodes differ")
    text = "Python environment: a folder (the one in use), or its archive, sent to every node"
    add("--environment", default=sys.prefix, metavar="FOLDER|FILE.tar.gz", help=text)
    text = "run this first, such as 'module load rocm/7.1.1'; replaces the site's own modules"
    add("--setup", action="append", default=[], metavar="COMMAND", help=text)
    text = f"seconds before its end at which the run saves ({Job.warn_seconds})"
    add("--warn", type=int, default=Job.warn_seconds, metavar="S", help=text)


def write_job_script(arguments: argparse.Namespace, *, run: str) -> str:
    """The script that was asked for.

    Args:
        arguments: of `gfm plan`.
        run: folder of the run, from its configuration.

    Raises:
        ValueError: an option that is missing or does not fit the site.
    """
    if arguments.ranks is None:
        raise ValueError(f"--script {arguments.script} needs --ranks N")
    job = Job(
        site=arguments.script,
        ranks=arguments.ranks,
        arguments=(str(arguments.config), *arguments.overrides),
        run=run,
        environment=arguments.environment,
        account=arguments.account,
        time=arguments.time,
        queue=arguments.queue,
        name=arguments.name,
        ranks_per_node=arguments.ranks_per_node,
        cpus_per_rank=arguments.cpus_per_rank,
        gpus_per_node=arguments.gpus_per_node,
        setup=tuple(arguments.setup),
        warn_seconds=arguments.warn,
    )
    return job_script(job)
