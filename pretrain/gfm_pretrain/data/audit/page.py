"""One page about a data set: a single file that any browser shows, without a network."""

import io
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from ase.data import atomic_numbers
from matplotlib.figure import Figure

from gfm_pretrain.data.audit.checks import KINDS
from gfm_pretrain.data.audit.plots import PLOTS, styled
from gfm_pretrain.data.audit.report import WORDS, Audit
from gfm_pretrain.data.audit.statistics import Statistics
from gfm_pretrain.data.audit.summary import elements_in, summarise

PLACEHOLDER = "#010203"
"""Stands for the colour of text, which the page gives the pictures in light and in dark."""
CAPTIONS: Mapping[str, str] = {
    "elements": "Periodic table coloured by the number of structures that have an element.",
    "energies": "Histogram of the energy per atom that remains without reference energies.",
    "forces": "Histogram of the length of the force on an atom.",
    "sizes": "Histogram of the number of atoms in a structure.",
    "distances": "Histogram of the distances between two atoms up to 6 Å.",
}
"""What each picture shows, for those who do not see it."""
LOOK = """
:root { color-scheme: light dark; --line: #8884; --good: #2a7d3f; --bad: #c0392b; }
@media (prefers-color-scheme: dark) { :root { --good: #6fce87; --bad: #ff7b6b; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .8rem .3rem 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1rem; }
.plots .elements { grid-column: 1 / -1; }
figure { margin: 0; }
svg { width: 100%; height: auto; }
.good { color: var(--good); } .suspicious { color: var(--bad); font-weight: 600; }
.unknown, .explained { opacity: .7; }
code { font-size: .9em; }
"""


def write_page(audit: Audit, path: Path, *, title: str, facts: Mapping[str, str]) -> None:
    """Write the page of an audit.

    Args:
        audit: What is shown.
        path: The HTML file.
        title: Of the page, as plain text.
        facts: What else is known of the data, by name, as plain text.
    """
    sections = [
        _section("The data", _rows(_known(facts))) if facts else "",
        _section("Structures that passed", _rows(summarise(audit.statistics))),
        _section("Units and signs", _verdicts(audit)),
        _section("Findings", _findings(audit)),
        _section("Pictures", _pictures(audit.statistics)),
        _section("Elements", _elements(audit.statistics)),
    ]
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{LOOK}</style>\n</head>\n"
    )
    body = f"<body>\n<h1>{escape(title)}</h1>\n{''.join(sections)}</body>\n</html>\n"
    path.write_text(head + body, encoding="utf-8")


def _known(facts: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, text) for name, text in facts.items() if text]


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{content}\n"


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    lines = [f'<tr><th scope="row">{escape(n)}</th><td>{escape(v)}</td></tr>' for n, v in rows]
    return f"<table>{''.join(lines)}</table>"


def _verdicts(audit: Audit) -> str:
    lines = [
        f'<tr><td class="{verdict.mark}">{verdict.mark}</td><td>{escape(verdict.text)}</td></tr>'
        for verdict in audit.verdicts()
    ]
    return f"<table>{''.join(lines)}</table>"


def _findings(audit: Audit) -> str:
    lines = []
    for kind, action, tally in audit.findings():
        examples = "<br>".join(
            f"<code>{escape(name)}</code> {escape(reason)}" for name, reason in tally.examples
        )
        what = f'{kind}<br><span class="explained">{escape(KINDS[kind])}</span>'
        number = f'<td class="number">{tally.count:,}</td>'
        lines.append(f"<tr><td>{what}</td><td>{WORDS[action]}</td>{number}<td>{examples}</td></tr>")
    head = "<tr><th>kind</th><th>what was done</th><th>records</th><th>such as</th></tr>"
    return f"<table>{head}{''.join(lines)}</table>" if lines else "<p>Nothing was found.</p>"


def _elements(statistics: Statistics) -> str:
    lines = []
    for symbol, (n_structures, n_atoms) in elements_in(statistics).items():
        energy = statistics.reference.get(atomic_numbers[symbol])
        cells = (f"{n_structures:,}", f"{n_atoms:,}", "" if energy is None else f"{energy:.4f}")
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        lines.append(f'<tr><th scope="row">{symbol}</th>{numbers}</tr>')
    names = ("structures", "atoms", "E0 (eV)")
    head = "".join(f'<th class="number">{name}</th>' for name in names)
    table = f"<table><tr><th>element</th>{head}</tr>{''.join(lines)}</table>"
    return f"<details><summary>Numbers</summary>{table}</details>"


def _pictures(statistics: Statistics) -> str:
    figures = [
        f'<figure class="{name}" role="img" aria-label="{escape(CAPTIONS[name])}">'
        f"{_picture(name, statistics)}</figure>"
        for name in PLOTS
    ]
    return f'<div class="plots">{"".join(figures)}</div>'


def _picture(name: str, statistics: Statistics) -> str:
    """SVG in the colour of the text around it, its names told apart from those of others."""
    with styled(PLACEHOLDER):
        size = (9, 4.9) if name == "elements" else (4.5, 2.8)
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        PLOTS[name](figure.subplots(), statistics)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    return svg.replace(PLACEHOLDER, "currentColor")
