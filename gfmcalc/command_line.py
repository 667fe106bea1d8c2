"""What the commands have in common: how options are written, and reference energies given."""

import json
from collections.abc import Sequence
from pathlib import Path

E0S = "auto|isolated|fit|FILE"


def with_dashes(argv: Sequence[str]) -> list[str]:
    """The same words with `-` for `_` in the names of long options: `--a_b=c_d` → `--a-b=c_d`."""
    return [_with_dashes(word) if word.startswith("--") else word for word in argv]


def read_reference_energies(choice: str) -> dict[str, float] | str:
    """The choice itself, or the energies in the JSON file of that name.

    Raises:
        FileNotFoundError: neither a choice nor a file.
        ValueError: the file does not hold energies in eV by chemical symbol.
    """
    if choice in ("auto", "isolated", "fit"):
        return choice
    try:
        energies = json.loads(Path(choice).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"--E0s must be auto, isolated, fit or a JSON file, and there is no file '{choice}'"
        ) from None
    except ValueError as error:
        raise ValueError(f"{choice} is not JSON: {error}") from None
    numbers = energies.values() if isinstance(energies, dict) else [None]
    if not all(isinstance(energy, int | float) for energy in numbers):
        raise ValueError(f'{choice} must hold {{"H": -13.6, …}}, eV by chemical symbol')
    return energies


def _with_dashes(option: str) -> str:
    name, equals, value = option.partition("=")
    return name.replace("_", "-") + equals + value
