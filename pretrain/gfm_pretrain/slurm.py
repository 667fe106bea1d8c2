"""What Slurm's variables say of a job step: its nodes, the tasks on each, and where to meet.

Source: "OUTPUT ENVIRONMENT VARIABLES" of srun(1).
"""

import re
from collections.abc import Mapping

# Below 32768, where Linux begins to hand out ports to whoever connects.
_FIRST_PORT = 15_000
_N_PORTS = 16_384
_STEPS_APART = 31


def tasks_on_node(environ: Mapping[str, str]) -> int | None:
    """How many tasks of this step run on this node."""
    node = environ.get("SLURM_NODEID", "")
    counts = _expand_counts(environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return counts[int(node)] if node.isdigit() and int(node) < len(counts) else None


def first_node(nodes: str) -> str:
    """Name of the first node of a list as Slurm writes it.

    >>> first_node("frontier[00012-00015,00020],login1")
    'frontier00012'
    """
    name = re.match(r"(?:[^,[]|\[[^]]*\])+", nodes)
    return re.sub(r"\[(\d+)[^]]*\]", r"\1", name.group()) if name else ""


def meeting_port(environ: Mapping[str, str]) -> int:
    """A port for this step alone, the same for all its tasks and another one for the next step."""
    job, step = (int(environ.get(name, "0")) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return _FIRST_PORT + (job * _STEPS_APART + step) % _N_PORTS


def _expand_counts(counts: str) -> list[int]:
    """`"2(x3),1"` → `[2, 2, 2, 1]`."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", counts)
    return [int(count) for count, times in found for _ in range(int(times or "1"))]
