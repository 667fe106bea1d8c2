"""The model card: what a checkpoint is, how good it is, and what it is not for."""

import json
from collections.abc import Iterator
from pathlib import PureWindowsPath

from gfm_pretrain.table import markdown_table

TAGS = ("interatomic-potential", "graph-neural-network", "equivariant", "ase")

LICENCE_IDS = frozenset(
    {
        "apache-2.0",
        "bsd-3-clause",
        "cc-by-4.0",
        "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-sa-4.0",
        "cc0-1.0",
        "mit",
    }
)
"""Licences by the names the Hugging Face hub knows; it refuses a card that holds another word."""

QUANTITIES = {
    "energy": ("energy_{}_per_atom", "meV/atom"),
    "forces": ("forces_{}", "meV/Å"),
    "stress": ("stress_{}", "meV/Å³"),
}
"""Label → (its metric in training.json, with `mae` or `rmse` left open; the unit shown).

The file holds eV, eV/Å and eV/Å³; a thousand times that is shown."""

NOT_STATED = "not stated"

ERROR_HEADER = (
    "head",
    "quantity",
    "unit",
    "n_test",
    "MAE",
    "RMSE",
    "baseline MAE",
    "baseline RMSE",
    "MAE before",
)


def model_card(config: dict, training: dict | None, *, location: str = "path/to/model") -> str:
    """Describe a checkpoint in Markdown, with the front matter that model hubs read.

    Everything is taken from the two files of the checkpoint: the same files give the same card.

    Args:
        config: the content of `config.json`.
        training: the content of `training.json`; None where it is unknown how it was trained.
        location: what a reader passes as `model`: `org/name` on a hub, or a folder.

    Returns:
        The text of `README.md`.
    """
    training = training or {}
    sections = (
        _front_matter(config),
        _introduction(config, location),
        _heads_section(config),
        _errors_section(config, training),
        _usage_section(config, location),
        _training_section(training),
        _sources_section(config),
        _limits_section(config, training),
    )
    return "\n\n".join(sections) + "\n"


def error_rows(config: dict, training: dict | None) -> list[list[str]]:
    """Test errors under `ERROR_HEADER`, one row per head and label; empty if none are recorded."""
    return [
        _error_row(name, quantity, _record(training, name))
        for name in config["heads"]
        for quantity in _tested(_record(training, name))
    ]


def _error_row(name: str, quantity: str, record: dict) -> list[str]:
    metric, unit = QUANTITIES[quantity]
    mae, rmse = metric.format("mae"), metric.format("rmse")
    columns = (
        ("test", mae),
        ("test", rmse),
        ("baseline", mae),
        ("baseline", rmse),
        ("test_before", mae),
    )
    errors = [_milli(record.get(group, {}).get(key)) for group, key in columns]
    return [name, quantity, unit, str(record.get("n_test", "-")), *errors]


def _tested(record: dict) -> list[str]:
    """The labels this head has test errors for."""
    test = record.get("test", {})
    return [label for label, (metric, _) in QUANTITIES.items() if metric.format("mae") in test]


def _record(training: dict | None, name: str) -> dict:
    return (training or {}).get("heads", {}).get(name, {})


def _milli(value: float | None) -> str:
    """Three significant digits of a thousand times `value`, never in exponent form above one."""
    if value is None:
        return "-"
    scaled = 1000 * value
    return f"{scaled:.0f}" if abs(scaled) >= 100 else f"{scaled:#.3g}"


def _front_matter(config: dict) -> str:
    lines = [f"license: {_licence_id(config)}", "library_name: gfmcalc", "tags:"]
    return "\n".join(["---", *lines, *(f"- {tag}" for tag in TAGS), "---"])


def _licence_id(config: dict) -> str:
    """The one licence that all heads share, by its name on the hub; `other` if there is none."""
    names = {head["licence"].strip().lower().replace(" ", "-") for head in config["heads"].values()}
    (licence,) = names if len(names) == 1 else {"other"}
    return licence if licence in LICENCE_IDS else "other"


def _introduction(config: dict, location: str) -> str:
    heads = config["heads"]
    count = f"{len(heads)} head{'' if len(heads) == 1 else 's'}"
    return (
        f"# {location.rstrip('/').rsplit('/', 1)[-1]}\n\n"
        "An E(3)-equivariant interatomic potential for [ASE](https://wiki.fysik.dtu.dk/ase): one "
        f"shared network and {count}, each for one level of theory as one source published it. "
        "Energies in eV, forces in eV/Å, stress in eV/Å³."
    )


def _heads_section(config: dict) -> str:
    header = ("head", "level of theory", "labels", "elements", "licence of the data", "description")
    rows = [
        (
            f"`{name}`" + (" (stale)" if head["stale"] else ""),
            head["level_of_theory"],
            ", ".join(head["labels"]),
            ", ".join(head["elements"]),
            head["licence"] or NOT_STATED,
            head["description"] or NOT_STATED,
        )
        for name, head in config["heads"].items()
    ]
    origins = (
        f"- `{name}`: {head['reference_origin'] or NOT_STATED}"
        for name, head in config["heads"].items()
    )
    return _section(
        "Heads",
        markdown_table(header, rows),
        "Where the reference energies of the isolated atoms come from:",
        "\n".join(origins),
    )


def _errors_section(config: dict, training: dict) -> str:
    rows = error_rows(config, training)
    if not rows:
        return _section("Test errors", "None are recorded in this checkpoint.")
    return _section(
        "Test errors",
        markdown_table(ERROR_HEADER, rows),
        "The baseline predicts the reference energies alone, no forces and no stress. *MAE before* "
        "is the error before this training, where the head already existed.",
    )


def _usage_section(config: dict, location: str) -> str:
    name = next(iter(config["heads"]), "")
    code = (
        "from ase.io import read\n"
        "from gfmcalc import GFMCalculator\n\n"
        'atoms = read("structure.xyz")\n'
        f"atoms.calc = GFMCalculator({json.dumps(location)}, head={json.dumps(name)})\n"
        "print(atoms.get_potential_energy(), atoms.get_forces())"
    )
    return _section("Use", f"```python\n{code}\n```")


def _training_section(training: dict) -> str:
    facts = (
        ("optimizer steps", training.get("steps")),
        ("parallel processes (ranks)", training.get("n_ranks")),
        ("seed", training.get("seed")),
        ("wall time", _duration(training.get("wall_seconds"))),
        ("code version", training.get("code_version")),
    )
    known = [f"- {name}: {value}" for name, value in facts if value is not None]
    if not known:
        return _section("How it was trained", "Not recorded in this checkpoint.")
    parts = ["\n".join(known)]
    if rows := list(_data_rows(training)):
        header = ("head", "part", "structures", "file", "SHA-256")
        parts.append(markdown_table(header, rows))
    return _section("How it was trained", *parts)


def _data_rows(training: dict) -> Iterator[tuple[str, ...]]:
    for name, record in training.get("heads", {}).items():
        for part, file in record.get("data", {}).items():
            # The folder is the trainer's own; only the name of the file concerns the reader.
            # PureWindowsPath splits at both kinds of slash.
            path = PureWindowsPath(file["path"]).name
            yield name, part, str(record.get(f"n_{part}", "-")), path, f"`{file['sha256'][:16]}…`"


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _sources_section(config: dict) -> str:
    keys = ("source", "licence", "citation")
    rows = [
        (f"`{name}`", *(head[key] or NOT_STATED for key in keys))
        for name, head in config["heads"].items()
    ]
    return _section(
        "Data, licences and citations",
        "The weights were learned from these data: cite them with the results, and keep to their "
        "licences.",
        markdown_table(("head", *keys), rows),
    )


def _limits_section(config: dict, training: dict) -> str:
    limits = []
    if len(config["heads"]) > 1:
        limits.append("- Comparing energies of different heads: their references differ.")
    for name, head in config["heads"].items():
        limits += [f"- `{name}`: {limit}" for limit in _limits(head, _record(training, name))]
    return _section("What it is not for", "\n".join(limits))


def _limits(head: dict, record: dict) -> Iterator[str]:
    """What the recorded facts say against using one head, a sentence each."""
    yield f"no elements but {', '.join(head['elements'])}; a structure with another is refused."
    yield (
        f"it learned from {record.get('n_train', 'an unrecorded number of')} structures; systems "
        "and conditions unlike them are extrapolation, to be checked against the level of theory."
    )
    if unseen := [label for label in QUANTITIES if label not in head["labels"]]:
        yield f"no labels of {' or '.join(unseen)} were seen: what it gives for them is untested."
    if untested := [label for label in head["labels"] if label not in _tested(record)]:
        yield f"no test errors are recorded for {' or '.join(untested)}."
    if useless := list(_no_better_than_baseline(record)):
        yield f"in the test it is no better than the baseline for {' or '.join(useless)}."
    if head["stale"]:
        yield (
            "stale: the shared network was changed by fine-tuning after this head was trained; "
            "take the original model for this level of theory."
        )


def _no_better_than_baseline(record: dict) -> Iterator[str]:
    for label in _tested(record):
        key = QUANTITIES[label][0].format("mae")
        baseline = record.get("baseline", {}).get(key)
        if baseline is not None and not record["test"][key] < baseline:
            yield label


def _section(title: str, *paragraphs: str) -> str:
    return "\n\n".join((f"## {title}", *paragraphs))
