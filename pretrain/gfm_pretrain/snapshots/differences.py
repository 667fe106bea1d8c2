"""What a run is asked to do differently when it is continued, and what becomes of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from gfm_pretrain.snapshots.options import Word

FREE, REFUSED = "free", "refused"

FATES: tuple[tuple[str, str], ...] = (
    # What the data are is compared by their content; see `continuation.py`.
    *((f"heads.*.{name}", FREE) for name in ("train", "store", "valid", "test", "labels")),
    *(
        (f"heads.*.{name}", FREE)
        for name in ("level_of_theory", "description", "source", "licence", "citation")
    ),
    ("heads.*.batch_size", "mixture"),
    ("heads.*.weight", "loss"),
    ("heads.*", REFUSED),
    ("precision", "precision"),
    ("mixture.epoch", FREE),
    ("mixture.*", "mixture"),
    ("loss.*", "loss"),
    *(
        (f"training.{name}", "optimizer")
        for name in (
            "learning_rate",
            "final_learning_rate",
            "warmup_steps",
            "weight_decay",
            "clip_norm",
            "ema_decay",
            "freeze_backbone",
        )
    ),
    ("training.*", FREE),
    *((name, FREE) for name in ("run", "device", "stage")),
    *((f"{name}.*", FREE) for name in ("resume", "snapshots", "monitor", "guard", "faults")),
    *((name, FREE) for name in ("init_from", "model", "model.*")),  # architectures are compared
    ("*", REFUSED),
)
"""What becomes of a changed setting, the first pattern that fits: it may change, it may not, or it
takes a word in `resume.accept`."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that is not as it was."""

    name: str
    """Such as `training.steps`."""
    old: Any
    """What it was."""
    new: Any
    """What it is to be."""
    fate: str
    """`free`, `refused`, or the word that accepts it."""

    def __str__(self) -> str:
        """Such as `seed 3 → 5`."""
        return f"{self.name} {_shown(self.old)} → {_shown(self.new)}"


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """The settings that both have and that differ, in the order of `new`.

    Settings that only one of them has come with another version of the program, or with heads that
    only one of them has. Both are as `to_mapping` gives them, heads by their names of now.
    """
    before, after = _flat(old), _flat(new)
    return [
        Difference(name=name, old=before[name], new=value, fate=fate_of(name))
        for name, value in after.items()
        if name in before and before[name] != value
    ]


def fate_of(name: str) -> str:
    """What becomes of a setting that is changed."""
    return next(fate for pattern, fate in FATES if fnmatchcase(name, pattern))


def problem_with(
    differences: Iterable[Difference], accepted: Sequence[Word], *, run: object, step: int
) -> str | None:
    """One line with everything that keeps a run from being continued, and the ways out."""
    found = list(differences)
    refused = [str(d) for d in found if d.fate == REFUSED]
    asked = [d for d in found if d.fate not in (FREE, REFUSED) and d.fate not in accepted]
    if not refused and not asked:
        return None
    words = list(dict.fromkeys([*accepted, *(d.fate for d in asked)]))
    ways = ["choose another folder with run=FOLDER"]
    if refused:
        ways.insert(0, "put back what cannot change")
    if asked:
        ways.insert(0, f"say resume.accept=[{', '.join(words)}] if the changes are meant")
    listed = "; ".join(
        [*(f"{text} (cannot change)" for text in refused), *(f"{d} ({d.fate})" for d in asked)]
    )
    return f"{run} cannot be continued from step {step}: {listed}. Either {', or '.join(ways)}"


def _flat(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted names: a section deep, of heads two; what lies deeper is one value."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        depth = 2 if key == "heads" else 1
        flat |= _flattened(value, key, depth)
    return flat


def _flattened(value: Any, name: str, depth: int) -> dict[str, Any]:
    if depth == 0 or not isinstance(value, Mapping):
        return {name: value}
    parts = (_flattened(inner, f"{name}.{key}", depth - 1) for key, inner in value.items())
    return {key: inner for part in parts for key, inner in part.items()}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(v)}" for key, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    return "nothing" if value is None else str(value)
