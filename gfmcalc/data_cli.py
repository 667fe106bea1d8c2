"""The command `gfm data`: published data in, a store out; and what is in a store."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfm_pretrain.extras import packages_for

from gfmcalc.command_line import E0S, read_reference_energies

if TYPE_CHECKING:
    from gfm_pretrain.data.store.job import ImportOptions
    from gfm_pretrain.process import World

PROGRAM = "gfm data import"
LONGEST_WAIT = 30 * 24 * 3600.0
"""Seconds that a rank waits for the others: one may read the largest file alone."""
IMPORT = """\
Import a data set as it was published, or files of your own. Every record is converted to eV and Å
and audited; what is broken is left out, and the audit says what and why. The same command continues
an import that was interrupted. Under mpiexec the ranks share the work."""
FACTS = ("level_of_theory", "description", "licence", "citation")


# argparse has no public name for the type of what `add_subparsers` returns.
def add_data(commands) -> None:
    """Add `data` and its own commands to the parser of `gfm`."""
    text = "import data sets into stores, and look at them"
    parser = commands.add_parser("data", help=text, description=text)
    own = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_import(own)
    _add_command(own, "sources", _sources, "list what can be imported, and the options of each")
    info = _add_command(own, "info", _info, "show what a store holds and what its audit found")
    verify = _add_command(own, "verify", _verify, "compare every file with its SHA-256")
    plot = _add_command(own, "plot", _plot, "draw the audit as one picture")
    export = _add_command(own, "export", _export, "write structures as extended XYZ")
    for command in (info, verify, plot, export):
        command.add_argument("store", metavar="STORE", type=Path, help="folder of a store")
    plot.add_argument("--out", required=True, type=Path, metavar="FILE", help=".png, .svg or .pdf")
    _add_export_options(export)


def _add_command(commands, name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=run)
    return parser


def _add_import(commands) -> None:
    parser = commands.add_parser(
        "import", help="turn published files into a store", description=IMPORT
    )
    parser.set_defaults(command=_import)
    add = parser.add_argument
    add("source", metavar="SOURCE", help="what the files are; see `gfm data sources`")
    add("files", nargs="+", metavar="FILE", help="the files, as they were downloaded")
    add("--out", required=True, type=Path, metavar="STORE", help="folder that is made")
    add("--option", nargs="+", action="extend", metavar="NAME=VALUE", help="choice of the source")
    add("--processes", type=int, default=1, metavar="N", help="processes side by side (1)")
    for name in FACTS:
        text = "where the source does not say it, or to say it better"
        add(f"--{name.replace('_', '-')}", metavar="TEXT", help=text)
    _add_decisions(parser)


def _add_decisions(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--refuse", nargs="+", action="extend", metavar="KIND", help="findings to leave out, too")
    add("--keep", nargs="+", action="extend", metavar="KIND", help="findings to keep nonetheless")
    add("--budget", type=int, metavar="N", help="most edges of a structure inside 6 Å (500 000)")
    add("--valid-fraction", type=float, metavar="F", help="for validation, by group (0.05)")
    add("--test-fraction", type=float, metavar="F", help="for test, by group (0.05)")
    add("--split-seed", type=int, metavar="N", help="another one chooses other groups (0)")
    text = "reference energies: from isolated atoms, by least squares, or a JSON file"
    add("--E0s", dest="reference_energies", default="auto", metavar=E0S, help=text)


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", required=True, type=Path, metavar="FILE", help=".extxyz, or .extxyz.gz")
    add("--split", choices=("train", "valid", "test"), help="only this one (default: all)")
    add(
        "--id", nargs="+", action="extend", metavar="ID", help="only these, as the audit names them"
    )
    add("--most", type=int, metavar="N", help="at most so many of each split, evenly spread")


def _import(arguments: argparse.Namespace) -> int:
    from gfm_pretrain.failure import run_main  # brings torch, which `gfm --help` need not wait for

    chosen = vars(arguments)
    return run_main(
        lambda world: _import_on(chosen, world),
        program=PROGRAM,
        device="cpu",
        timeout_seconds=LONGEST_WAIT,
    )


def _import_on(chosen: dict[str, Any], world: World) -> None:
    with packages_for("gfm data", extra="data"):
        from gfm_pretrain.data.store.importer import import_source

        asked = _import_options(chosen)
    out: Path = chosen["out"]
    if chosen["processes"] < 1:
        raise ValueError(f"--processes must be at least 1, got {chosen['processes']}")
    imported = import_source(asked, out, world=world, processes=chosen["processes"])
    if imported is not None:
        _show(out)
        sys.stdout.write(f"\n{out} is complete; plots of the audit are in {out}/audit.html\n")


def _import_options(chosen: dict[str, Any]) -> ImportOptions:
    from gfm_pretrain.data.store.job import ImportOptions
    from gfm_pretrain.data.store.splits import Fractions

    names = {"valid": "valid_fraction", "test": "test_fraction", "seed": "split_seed"}
    fractions = {own: chosen[name] for own, name in names.items() if chosen[name] is not None}
    given = {name: chosen[name] for name in (*FACTS, "budget") if chosen[name] is not None}
    return ImportOptions(
        source=chosen["source"],
        files=tuple(chosen["files"]),
        options=_name_values(chosen["option"] or ()),
        refuse=tuple(chosen["refuse"] or ()),
        keep=tuple(chosen["keep"] or ()),
        fractions=Fractions(**fractions),
        reference_energies=read_reference_energies(chosen["reference_energies"]),  # pyright: ignore[reportArgumentType] (checked there)
        **given,
    )


def _name_values(words: Sequence[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    for name, equals, _ in pairs:
        if not equals:
            raise ValueError(f"--option must be NAME=VALUE, got '{name}'")
    return {name: value for name, _, value in pairs}


def _sources(_: argparse.Namespace) -> int:
    with packages_for("gfm data", extra="data"):
        from gfm_pretrain.data.store.show import show_sources

    show_sources()
    return 0


def _info(arguments: argparse.Namespace) -> int:
    _show(arguments.store)
    return 0


def _show(store: Path) -> None:
    with packages_for("gfm data", extra="data"):
        from gfm_pretrain.data.store.show import show_store

    show_store(store)


def _verify(arguments: argparse.Namespace) -> int:
    with packages_for("gfm data", extra="data"):
        from gfm_pretrain.data.store.store import open_store

    manifest = open_store(arguments.store).manifest
    n_bytes = sum(facts.bytes for facts in manifest.files.values())
    n_files = len(manifest.files)
    sys.stdout.write(f"{arguments.store}: {n_files} files, {n_bytes:,} bytes, all as imported\n")
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    with packages_for("gfm data", extra="data"):
        from gfm_pretrain.data.audit.plots import plot_audit
        from gfm_pretrain.data.store.finish import read_audit

    plot_audit(read_audit(arguments.store), arguments.out)
    sys.stdout.write(f"{arguments.out}\n")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    with packages_for("gfm data", extra="data"):
        from gfm_pretrain.data.store.export import export_extxyz
        from gfm_pretrain.data.store.store import open_store

    n_structures = export_extxyz(
        open_store(arguments.store),
        arguments.out,
        split=arguments.split,
        identifiers=arguments.id,
        most=arguments.most,
    )
    sys.stdout.write(f"{arguments.out}: {n_structures} structures\n")
    return 0
