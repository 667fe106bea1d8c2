"""What a store holds and what can be imported, as tables on a terminal."""

from pathlib import Path

from rich.columns import Columns
from rich.console import Console
from rich.table import Table

from gfm_pretrain.data.audit.report import audit_table
from gfm_pretrain.data.sources.registry import source_named, source_names
from gfm_pretrain.data.store.finish import read_audit
from gfm_pretrain.data.store.manifest import Manifest, describe_store, read_manifest
from gfm_pretrain.data.store.store import check_sizes


def show_store(folder: Path) -> None:
    """Print what a store says of itself, its reference energies, and what its audit found.

    Raises:
        StoreError: the folder is no store, or a file is missing or truncated.
    """
    manifest = read_manifest(folder)
    check_sizes(folder, manifest)
    console = Console(highlight=False)
    console.print(_facts(folder, manifest))
    console.print(_elements(manifest))
    console.print(audit_table(read_audit(folder)))


def show_sources() -> None:
    """Print every source that can be imported: its files, units, level of theory and options."""
    table = Table("source", "files and units", "options", show_lines=True)
    for name in source_names():
        source = source_named(name)
        options = (
            f"{key} = {' | '.join(o.choices) or 'text'}: {o.help}"
            for key, o in source.options.items()
        )
        table.add_row(name, source.layout, "\n".join(options))
    Console(highlight=False).print(table)


def _facts(folder: Path, manifest: Manifest) -> Table:
    table = Table(show_header=False, box=None, title=str(folder), title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in describe_store(manifest).items():
        if text:
            table.add_row(name, text)
    n_bytes = sum(facts.bytes for facts in manifest.files.values())
    n_structures = sum(facts.n_structures for facts in manifest.splits.values())
    table.add_row("size", f"{n_bytes:,} bytes, {n_bytes / n_structures:,.0f} per structure")
    return table


def _elements(manifest: Manifest) -> Columns:
    """Reference energies and scales, in as many columns as the terminal is wide."""
    cells = []
    for symbol, scale in manifest.scales.items():
        energy = manifest.reference_energies.get(symbol)
        cells.append(f"{symbol:<3}{'-' if energy is None else f'{energy:.6f}':>16}{scale:>9.4f}")
    title = "[bold]element, reference energy E0 (eV), force scale (eV/Å)"
    return Columns(cells, title=title, padding=(0, 4), column_first=True)
