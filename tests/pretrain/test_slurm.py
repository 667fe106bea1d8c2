import pytest
from gfm_pretrain.slurm import first_node, meeting_port, tasks_on_node

# Linux gives ports from 32768 on to whoever connects; root's own end at 1023.
PORTS = range(1024, 32768)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n[1-2]", "n1"),
        ("frontier[00012-00015,00020],login1", "frontier00012"),
        ("nid001,nid[007-009]", "nid001"),
        ("rack[2,4]node[3-7]", "rack2node3"),
        ("a-b[5]-c,d", "a-b5-c"),
        ("", ""),
    ],
)
def test_the_first_node_of_a_list(nodes, first):
    assert first_node(nodes) == first


@pytest.mark.parametrize(
    ("counts", "node", "n_tasks"),
    [
        ("2,1", 0, 2),
        ("2,1", 1, 1),
        ("8(x3)", 2, 8),
        ("4(x2),3,1(x2)", 2, 3),
        ("4(x2),3,1(x2)", 4, 1),
        ("2,1", 2, None),
        ("", 0, None),
    ],
)
def test_tasks_on_a_node(counts, node, n_tasks):
    environ = {"SLURM_NODEID": str(node), "SLURM_STEP_TASKS_PER_NODE": counts}
    assert tasks_on_node(environ) == n_tasks


def test_without_a_step_nothing_is_said_of_tasks():
    assert tasks_on_node({}) is None


def test_steps_and_jobs_that_follow_each_other_meet_at_different_ports():
    steps = [(job, step) for job in range(4_000_000, 4_000_500) for step in range(30)]
    ports = {
        (job, step): meeting_port({"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)})
        for job, step in steps
    }
    assert all(port in PORTS for port in ports.values())
    near = [ports[job, step] for job in range(4_000_000, 4_000_100) for step in range(30)]
    assert len(set(near)) == len(near)
