import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from audit_cases import copper, springs
from gfm_pretrain.data.audit.checks import Finding, measure
from gfm_pretrain.data.audit.page import write_page
from gfm_pretrain.data.audit.report import Audit


@pytest.fixture(scope="module")
def audit():
    audit = Audit()
    for structure in (*springs(12), *copper(3)):
        audit.add(structure, measure(structure))
    audit.note(Finding("close", "<mp-1 & 2>", "nearer than <0.5 Å>"), action="refuse")
    audit.add_energies(np.array([0.1, -0.2, 0.15, np.nan]), {1: -13.6, 29: -4.25})
    return audit


@pytest.fixture(scope="module")
def page(audit, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "audit.html"
    write_page(audit, path, title="copper & <springs>", facts={"level <of>": "PBE & co"})
    return path.read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Counts how often a tag is open, and what it refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_everything_is_escaped(page):
    for text in (
        *("&lt;mp-1 &amp; 2&gt;", "nearer than &lt;0.5 Å&gt;", "copper &amp; &lt;springs&gt;"),
        *("level &lt;of&gt;", "PBE &amp; co"),
    ):
        assert text in page
    assert "<mp-1" not in page
    assert "<springs>" not in page


def test_the_page_needs_nothing_else(page):
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.references
    assert all(reference.startswith(("#", "data:")) for reference in tags.references)
    assert "<script" not in page
    assert "@import" not in page


def test_it_shows_what_is_known(page):
    assert "left out" in page
    assert "energies and forces agree" in page
    assert "-13.6000" in page
    assert "-4.2500" in page
    assert "12 molecules, 3 crystals" in page


def test_pictures_are_valid_and_take_the_colour_of_the_text(page):
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(pictures) == 5
    names = [e.get("id") for p in pictures for e in ElementTree.fromstring(p).iter() if e.get("id")]
    assert len(names) == len(set(names))
    assert all("currentColor" in picture for picture in pictures)
    assert "#010203" not in page
    for picture in pictures:
        used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', picture))
        assert used <= set(re.findall(r' id="([^"]+)"', picture))


def test_the_page_of_nothing(tmp_path):
    write_page(Audit(), tmp_path / "audit.html", title="empty", facts={})
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "Nothing was found." in text
    assert text.count("<svg") == 5
