import io
import json

import numpy as np
import pytest
from audit_cases import copper, crystal, pair, rescaled, springs
from gfm_pretrain.data.audit.checks import Finding, measure
from gfm_pretrain.data.audit.report import MOST_EXAMPLES, Audit, audit_table
from rich.console import Console


def audit_of(structures) -> Audit:
    audit = Audit()
    for structure in structures:
        audit.add(structure, measure(structure))
    return audit


def printed(audit: Audit) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(audit_table(audit))
    return console.export_text()


def test_findings_are_counted_by_kind_and_action():
    audit = Audit()
    for number in range(15):
        audit.note(Finding("close", f"frame {number:02d}", "0.1 Å"), action="refuse")
    audit.note(Finding("remote", "far", "300 Å"), action="keep")
    audit.note(Finding("remote", "farther", "400 Å"), action="refuse")
    audit.note(Finding("invalid", "odd", "no cell"), action="refuse")
    assert audit.refused == {"invalid": 1, "close": 15, "remote": 1}
    assert audit.n_structures == 0
    tallies = {(kind, action): tally for kind, action, tally in audit.findings()}
    assert tallies["close", "refuse"].count == 15
    assert len(tallies["close", "refuse"].examples) == MOST_EXAMPLES
    assert tallies["remote", "keep"].examples == [("far", "300 Å")]


def test_configurations_are_compared_with_the_one_before():
    audit = audit_of([*springs(12), *copper(2), *springs(3)])
    assert audit.n_structures == 17
    assert len(audit.consistency.forces) == 11 + 2


def test_parts_merge_to_the_whole_in_any_order():
    def noted(audit: Audit, numbers: range) -> Audit:
        for n in numbers:
            audit.note(Finding("close", f"frame {n:02d}", "0.1 Å"), action="refuse")
        return audit

    whole = Audit()
    runs = [[*springs(8)], [*copper(5)], [pair(), pair(0.8)]]
    parts = []
    for place, structures in enumerate(runs):
        parts.append(noted(audit_of(structures), range(place, 40, 3)))
        for structure in structures:
            whole.add(structure, measure(structure))
    expected = noted(whole, range(40)).to_mapping()
    for order in (parts, parts[::-1]):
        merged = Audit()
        for part in order:
            merged.merge(Audit.from_mapping(json.loads(json.dumps(part.to_mapping()))))
        mapping = merged.to_mapping()
        assert mapping["findings"] == expected["findings"]
        assert mapping["consistency"] == expected["consistency"]
        assert mapping["statistics"]["energy"] == pytest.approx(expected["statistics"]["energy"])
        assert mapping["statistics"]["sizes"] == expected["statistics"]["sizes"]


def test_merging_does_not_join_the_ends_of_two_parts():
    first, second, third, last = springs(4)
    audit = audit_of([first])
    audit.merge(audit_of([second, third]))
    audit.add(last, measure(last))
    assert len(audit.consistency.forces) == 1


def test_plain_values_give_the_same_back():
    audit = audit_of([*springs(4), *copper(3)])
    audit.note(Finding("close", "a [bold]b[/bold]", "reason"), action="refuse")
    audit.add_energies(np.array([0.1, np.nan]), {1: -13.6})
    mapping = json.loads(json.dumps(audit.to_mapping(), allow_nan=False))
    again = Audit.from_mapping(mapping)
    assert again.to_mapping() == audit.to_mapping()
    assert again.refused == {"close": 1}
    assert again.n_structures == 7


def test_energies_are_judged_when_they_are_known():
    audit = audit_of([pair()])
    assert audit.verdicts()[-1].mark == "unknown"
    audit.add_energies(np.array([0.0, 200.0]), {1: 0.0})
    assert audit.verdicts()[-1].mark == "suspicious"


def test_the_table_shows_numbers_findings_and_verdicts():
    audit = audit_of(rescaled(s, forces=-1) for s in springs(20))
    audit.note(Finding("close", "set.xyz[/3]", "two atoms are 0.300 Å apart"), action="refuse")
    audit.note(Finding("remote", "far", "a coordinate of 300 Å"), action="keep")
    text = printed(audit)
    assert "the sign of the forces is wrong" in text
    assert "set.xyz[/3]: two atoms are 0.300 Å apart" in text
    assert "left out" in text
    assert "kept" in text
    assert "1: H" in text


def test_the_table_of_a_clean_set_has_no_findings():
    text = printed(audit_of([crystal(3.0)]))
    assert "Structures that passed" in text
    assert "Findings" not in text
