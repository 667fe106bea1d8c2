"""What the operating system says of the machine that a benchmark ran on."""

import os
import platform
from pathlib import Path

import torch

CPU_FILE = Path("/proc/cpuinfo")


def describe_machine() -> str:
    """Processor, number of cores this process may use, vector instructions, torch and threads."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{_processor()}, {n_cores} cores, {torch.backends.cpu.get_cpu_capability()}; "
        f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), "
        f"Python {platform.python_version()}"
    )


def _processor() -> str:
    lines = CPU_FILE.read_text(encoding="utf-8").splitlines() if CPU_FILE.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
