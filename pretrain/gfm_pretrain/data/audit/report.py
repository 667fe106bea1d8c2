"""The audit of a data set: what was left out, what is suspicious, and what the rest is like."""

import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gfm_pretrain.data.audit.checks import KINDS, Action, Finding
from gfm_pretrain.data.audit.consistency import Consistency
from gfm_pretrain.data.audit.measures import Measures
from gfm_pretrain.data.audit.statistics import Statistics
from gfm_pretrain.data.audit.summary import summarise
from gfm_pretrain.data.audit.verdicts import Verdict, judge_consistency, judge_energies
from gfm_pretrain.data.structure import LabelledStructure

MOST_EXAMPLES = 10
"""Of each kind of finding; those that come first in the order of their identifiers."""
EXAMPLES_IN_TABLE = 3
WORDS: Mapping[str, str] = {"refuse": "left out", "keep": "kept", "stop": "import stopped"}
"""What was done, for people."""
COLOURS: Mapping[str, str] = {"good": "green", "suspicious": "bold red", "unknown": "dim"}
"""Of the marks of verdicts, in a terminal."""


@dataclass(eq=False)
class Tally:
    """How often one kind of finding was dealt with in one way."""

    count: int = 0
    """Records."""
    examples: list[tuple[str, str]] = field(default_factory=list)
    """Identifier and reason of some, in order, so that merging in any order keeps the same."""

    def add(self, count: int, examples: list[tuple[str, str]]) -> None:
        """Take in further records."""
        self.count += count
        for example in examples:
            bisect.insort(self.examples, example)
        del self.examples[MOST_EXAMPLES:]


@dataclass(eq=False)
class Audit:
    """What an import has seen; grows with every record, and merges with that of others."""

    statistics: Statistics = field(default_factory=Statistics)
    """Of the structures that passed all checks of single structures."""
    consistency: Consistency = field(default_factory=Consistency)
    """Of configurations that followed each other."""
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    """Findings by kind and action."""
    _previous: LabelledStructure | None = None

    @property
    def n_structures(self) -> int:
        """Number of structures that were added."""
        return self.statistics.n_structures

    @property
    def refused(self) -> dict[str, int]:
        """Number of records that were left out, by kind, in the order of `KINDS`."""
        found = {kind: self.tallies.get((kind, "refuse"), Tally()).count for kind in KINDS}
        return {kind: count for kind, count in found.items() if count}

    def note(self, finding: Finding, *, action: Action) -> None:
        """Count a finding and what was done about it."""
        assert finding.kind in KINDS
        example = (finding.identifier, finding.reason)
        self.tallies.setdefault((finding.kind, action), Tally()).add(1, [example])

    def add(self, structure: LabelledStructure, measures: Measures) -> None:
        """Take in a structure that is kept; it is compared with the one before where it can be."""
        self.statistics.add(structure, measures)
        if self._previous is not None:
            self.consistency.add(self._previous, structure)
        self._previous = structure

    def add_energies(
        self, energies: Float[np.ndarray, " structures"], reference_values: Mapping[int, float]
    ) -> None:
        """Take in what is known when all structures are: the energies without E0.

        Args:
            energies: eV per atom; NaN where there is no energy.
            reference_values: E0 in eV by atomic number.
        """
        self.statistics.add_energies(energies, reference_values)

    def merge(self, other: "Audit") -> None:
        """Take in what another has seen; pairs across the border of the two are not compared."""
        self._previous = None
        self.statistics.merge(other.statistics)
        self.consistency.merge(other.consistency)
        for key, tally in other.tallies.items():
            self.tallies.setdefault(key, Tally()).add(tally.count, tally.examples)

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "statistics": self.statistics.to_mapping(),
            "consistency": self.consistency.to_mapping(),
            "findings": [
                {"kind": k, "action": a, "count": t.count, "examples": [*map(list, t.examples)]}
                for k, a, t in self.findings()
            ],
        }

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Audit":
        """From what `to_mapping` gave."""
        audit = cls(
            statistics=Statistics.from_mapping(mapping["statistics"]),
            consistency=Consistency.from_mapping(mapping["consistency"]),
        )
        for found in mapping["findings"]:
            examples = [(identifier, reason) for identifier, reason in found["examples"]]
            audit.tallies[found["kind"], found["action"]] = Tally(found["count"], examples)
        return audit

    def findings(self) -> Iterator[tuple[str, str, Tally]]:
        """Kind, action and tally: first what was left out, each in the order of `KINDS`."""
        for action in ("refuse", "stop", "keep"):
            for kind in KINDS:
                if (kind, action) in self.tallies:
                    yield kind, action, self.tallies[kind, action]

    def verdicts(self) -> list[Verdict]:
        """Whether units and signs are as they should be."""
        interaction = self.statistics.interaction
        spread = interaction.spread if interaction.n else None
        return [*judge_consistency(self.consistency), judge_energies(spread)]


def audit_table(audit: Audit) -> Group:
    """What a terminal shows of an audit."""
    return Group(_numbers(audit), _verdicts(audit), *_findings(audit))


def _numbers(audit: Audit) -> Table:
    table = Table(title="Structures that passed", title_justify="left", show_header=False)
    for name, value in summarise(audit.statistics):
        table.add_row(Text(name), Text(value))
    return table


def _verdicts(audit: Audit) -> Table:
    table = Table(title="Units and signs", title_justify="left", show_header=False)
    for verdict in audit.verdicts():
        colour = COLOURS[verdict.mark]
        table.add_row(Text(verdict.mark, style=colour), Text(verdict.text))
    return table


def _findings(audit: Audit) -> list[Table]:
    """One table, or none where nothing was found."""
    table = Table("kind", "what was done", "records", "such as", title="Findings")
    table.title_justify = "left"
    table.columns[2].justify = "right"
    table.columns[3].overflow = "fold"  # an identifier is of use only whole
    for kind, action, tally in audit.findings():
        examples = [f"{name}: {reason}" for name, reason in tally.examples[:EXAMPLES_IN_TABLE]]
        cells = (kind, WORDS[action], f"{tally.count:,}", "\n".join(examples))
        table.add_row(*map(Text, cells))
    return [table] if table.row_count else []
