"""What a configuration says of a head."""

from dataclasses import dataclass
from typing import Literal

from gfm_models.heads import HEAD_WIDTH


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """One head: its data, what they are, and its part in the mixture."""

    train: str | None = None
    """File with the training structures, extended XYZ, gzipped or not."""

    store: str | None = None
    """Folder that `gfm data import` made, in place of `train`: it has splits and labels."""

    valid: str | None = None
    """File whose errors are followed during training."""

    valid_fraction: float = 0.0
    """Part of the training file, in runs of neighbouring structures, that is set aside for
    validation where there is no `valid`. A store divides by molecule or material instead."""

    test: str | None = None
    """File whose errors are reported before and after training."""

    level_of_theory: str = ""
    """Such as `PBE/def2-SVP`. Needed with files; a store knows its own."""

    description: str = ""
    """What the head is good for, in one sentence."""

    source: str = ""
    """The data set as published."""

    licence: str = ""
    """Licence of the data."""

    citation: str = ""
    """How the data wants to be cited."""

    labels: tuple[Literal["energy", "forces", "stress"], ...] = ("energy", "forces")
    """Labels that the training file must have. Others that are found are trained on, too."""

    energy_key: str | None = None
    """Key of the energy where it is not found by itself."""

    forces_key: str | None = None
    """Key of the forces where they are not found by themselves."""

    stress_key: str | None = None
    """Key of the stress (eV/Å³, ASE's sign) where it is not found by itself."""

    reference_energies: dict[str, float] | Literal["auto", "isolated", "fit"] = "auto"
    """E0 by chemical symbol in eV; or from isolated atoms in the file; or by least squares; or
    `auto`: from isolated atoms if there are any, else by least squares."""

    batch_size: int | None = None
    """Structures of this head in every step, over all ranks, where the mixture is explicit; 16 if
    nothing is said."""

    weight: float = 1.0
    """Weight of this head in the loss."""

    width: int = HEAD_WIDTH
    """Hidden width of the readout."""

    inherit: str | None = None
    """Head of the checkpoint in `init_from` whose weights this head starts from."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: naming the option.
        """
        self._check_data()
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size of a head must be at least 1, got {self.batch_size}")
        if not 0 <= self.valid_fraction < 1:
            raise ValueError(f"valid_fraction must lie in 0 to 1, got {self.valid_fraction}")
        if self.valid_fraction and self.valid is not None:
            raise ValueError("valid and valid_fraction exclude each other; leave one of them out")
        if not self.weight > 0:
            raise ValueError(f"weight of a head must be positive, got {self.weight}")

    def _check_data(self) -> None:
        if (self.train is None) == (self.store is None):
            found = "neither" if self.train is None else "both"
            raise ValueError(f"a head has either train, a file, or store, a folder; got {found}")
        given = [name for name in _OF_FILES if getattr(self, name)]
        if self.store is not None and given:
            raise ValueError(
                f"{', '.join(given)} cannot be given with store, which was imported with all of "
                "it; leave it out, or give files with train"
            )
        if self.train is not None and not self.level_of_theory:
            raise ValueError(
                "level_of_theory is missing, such as PBE/def2-SVP; only a store brings its own"
            )


_OF_FILES = ("valid", "valid_fraction", "test", "energy_key", "forces_key", "stress_key")
