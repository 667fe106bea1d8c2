from typing import Any

import pytest
from gfm_pretrain.job_script.job import Job
from gfm_pretrain.job_script.sites import SITES
from gfm_pretrain.plan.machine import read_machine


def job(site: str = "slurm", **changes: Any) -> Job:
    given = {"ranks": 20, "arguments": ("run.yaml",), "environment": "/venv", "account": "abc"}
    given["run"] = "run"
    return Job(site=site, **(given | changes))


@pytest.mark.parametrize(
    ("site", "options", "nodes", "ranks_on_node", "cpus"),
    [
        ("frontier", {}, 3, 8, 7),
        ("frontier", {"ranks": 64}, 8, 8, 7),
        ("frontier", {"ranks": 3}, 1, 3, 7),
        ("frontier", {"ranks": 6, "ranks_per_node": 2, "cpus_per_rank": 14}, 3, 2, 14),
        ("perlmutter", {}, 5, 4, 32),
        ("aurora", {}, 2, 12, 8),
        ("aurora", {"ranks": 1}, 1, 1, 8),
        ("slurm", {}, 1, 20, 1),
        ("slurm", {"ranks_per_node": 8, "gpus_per_node": 4}, 3, 8, 1),
        ("pbs", {"ranks_per_node": 16}, 2, 16, 1),
    ],
)
def test_nodes_follow_from_ranks(site, options, nodes, ranks_on_node, cpus):
    found = job(site, **options)
    assert (found.nodes, found.ranks_on_node, found.cpus) == (nodes, ranks_on_node, cpus)
    assert (found.nodes - 1) * ranks_on_node < found.ranks <= found.nodes * ranks_on_node


@pytest.mark.parametrize("name", ["frontier", "perlmutter", "aurora"])
def test_sites_have_as_many_ranks_on_a_node_as_the_machines_of_predictions(name):
    assert SITES[name].ranks_per_node == read_machine(name).ranks_per_node


@pytest.mark.parametrize(
    ("time", "seconds"), [("01:00:00", 3600), ("00:20:30", 1230), ("100:00:00", 360_000)]
)
def test_the_limit_of_time_in_seconds(time, seconds):
    assert job(time=time).seconds == seconds


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"site": "summit"}, "--script must be one of frontier, .*, slurm, pbs, got 'summit'"),
        ({"site": "frontier", "account": None}, "--script frontier needs --account NAME"),
        ({"site": "aurora", "account": ""}, "--script aurora needs --account NAME"),
        ({"account": "two words"}, "--account must be one word, got 'two words'"),
        ({"queue": "batch\n#SBATCH --wrap=x"}, "--queue must be one word"),
        ({"name": ""}, "--name must be one word, got ''"),
        ({"ranks": 0}, "--ranks must be at least 1, got 0"),
        ({"ranks_per_node": -2}, "--ranks-per-node must be at least 1, got -2"),
        ({"cpus_per_rank": 0}, "--cpus-per-rank must be at least 1, got 0"),
        (
            {"site": "frontier", "ranks_per_node": 16},
            "--ranks-per-node must be at most 8, the devices of a node of frontier, got 16",
        ),
        ({"site": "frontier", "gpus_per_node": 8}, "--gpus-per-node is known for frontier"),
        ({"time": "60"}, "--time must be HH:MM:SS, got '60'"),
        ({"time": "00:61:00"}, "--time must be HH:MM:SS, got '00:61:00'"),
        ({"time": "00:05:00"}, "--warn must be between 0 and the 300 s of --time, got 300"),
        ({"warn_seconds": 0}, "--warn must be between 0 and the 3600 s of --time, got 0"),
        (
            {"site": "pbs", "environment": "env.tar.gz"},
            "--environment env.tar.gz: archives are sent to the nodes by Slurm's sbcast and pbs",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_option(changes, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        job(**changes)
