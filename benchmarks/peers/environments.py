"""A virtual environment for each peer, made from PyPI when it is first asked for.

    python benchmarks/peers/environments.py

Below build/peers/, which git ignores. torch comes first and alone, in the version that this project
is developed with, and the peer afterwards with torch held fast: asked for together, pip may take
gigabytes of CUDA. Remove the folder to make an environment again.
"""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CACHE = REPOSITORY / "build" / "peers"
PACKAGES = {
    "mace": "mace-torch==0.3.16",
    "nequip": "nequip==0.19.1",
    "sevennet": "sevenn==0.13.0",
}
"""The newest release of each on 2026-11-27."""


def make_environment(name: str) -> Path:
    """Python of the environment of a peer, made if it is not there yet.

    Args:
        name: One of `PACKAGES`, or "own" for the Python that runs this.

    Raises:
        ValueError: there is no such peer.
        RuntimeError: pip failed; its last lines are in the message.
    """
    if name == "own":
        return Path(sys.executable)
    if name not in PACKAGES:
        raise ValueError(f"peer must be own or one of {', '.join(PACKAGES)}, got '{name}'")
    folder = CACHE / name
    python, done = folder / "bin" / "python", folder / PACKAGES[name]
    if not done.exists():
        torch = pinned("torch")
        print(f"making {folder.relative_to(REPOSITORY)} ({torch}, {PACKAGES[name]})", flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        held = folder / "constraints.txt"
        held.write_text(f"{torch}\n", encoding="utf-8")
        _run([str(python), "-m", "pip", "install", torch])
        _run([str(python), "-m", "pip", "install", "--constraint", str(held), PACKAGES[name]])
        done.touch()
    return python


def pinned(package: str) -> str:
    """What this project pins of a package, such as "torch==2.13.0"."""
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"{package}=="))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join(done.stderr.splitlines()[-5:])
        raise RuntimeError(f"{' '.join(command)} failed:\n{last}")


if __name__ == "__main__":
    for peer in PACKAGES:
        print(make_environment(peer))
