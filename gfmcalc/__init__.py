"""Graph foundation models of atomistic modelling: use them, fine-tune them, share them.

from gfmcalc import GFMCalculator

atoms.calc = GFMCalculator("path/to/checkpoint", head="mptrj")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfmcalc.calculator import GFMCalculator

__all__ = ["GFMCalculator"]


def __getattr__(name: str) -> Any:
    """Load torch only when the calculator is asked for: `gfm --help` does not need it."""
    if name != "GFMCalculator":
        raise AttributeError(f"module 'gfmcalc' has no attribute '{name}'")
    from gfmcalc.calculator import GFMCalculator

    return GFMCalculator
