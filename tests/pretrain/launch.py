"""Start a program of several ranks as a user would, and collect what it said."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = [REPOSITORY / part for part in (".", "models", "pretrain", "tests/pretrain")]
BIN = Path(sys.executable).parent

# Open MPI refuses root and more ranks than cores unless told otherwise; other MPIs ignore this.
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}


def launch(
    program: str | Path,
    *args: str,
    n_ranks: int = 1,
    launcher: Literal["mpiexec", "torchrun", "alone"] = "mpiexec",
    environ: Mapping[str, str] | None = None,
    timeout_seconds: float = 120,
    meanwhile: Callable[[subprocess.Popen[str]], object] = lambda _: None,
) -> subprocess.CompletedProcess[str]:
    """Run the Python file `program` on `n_ranks` ranks until they end.

    `environ` is added to the environment; `meanwhile` is called with the launcher. A hung job is
    ended and raises TimeoutExpired.
    """
    command = [*_launcher_command(launcher, n_ranks), str(program), *args]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **OPEN_MPI, "PYTHONPATH": _python_path(), **(environ or {})},
    )
    meanwhile(process)
    try:
        stdout, stderr = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        process.terminate()  # lets the launcher end its ranks
        process.communicate(timeout=30)
        raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def _launcher_command(launcher: str, n_ranks: int) -> list[str]:
    if launcher == "mpiexec":
        return [str(BIN / "mpiexec"), "-n", str(n_ranks), sys.executable]
    if launcher == "torchrun":
        return [str(BIN / "torchrun"), "--standalone", "--nproc-per-node", str(n_ranks)]
    assert n_ranks == 1, f"{n_ranks} ranks need a launcher, got {launcher!r}"
    return [sys.executable]


def _python_path() -> str:
    return os.pathsep.join(map(str, SOURCE_ROOTS))
