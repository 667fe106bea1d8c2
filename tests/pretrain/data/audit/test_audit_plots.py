import matplotlib as mpl
import numpy as np
import pytest
from audit_cases import copper, springs
from gfm_pretrain.data.audit.checks import measure
from gfm_pretrain.data.audit.plots import (
    MOST_BARS,
    PLOTS,
    draw_energies,
    draw_sizes,
    place_in_table,
    plot_audit,
    styled,
)
from gfm_pretrain.data.audit.report import Audit
from gfm_pretrain.data.audit.statistics import Statistics
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch


def bars(axes):
    """Heights and edges of the one histogram."""
    [patch] = [p for p in axes.patches if isinstance(p, StepPatch)]
    heights, edges, _ = patch.get_data()
    return heights, edges


@pytest.mark.parametrize(("suffix", "first_bytes"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_an_overview_in_several_kinds_of_file(tmp_path, suffix, first_bytes):
    audit = Audit()
    for structure in (*springs(3), *copper(2)):
        audit.add(structure, measure(structure))
    before = dict(mpl.rcParams)
    plot_audit(audit, tmp_path / f"audit.{suffix}")
    assert (tmp_path / f"audit.{suffix}").read_bytes().startswith(first_bytes)
    assert dict(mpl.rcParams) == before


def test_an_unknown_kind_of_file_lists_the_known(tmp_path):
    with pytest.raises(ValueError, match=r"supported formats: .*png"):
        plot_audit(Audit(), tmp_path / "audit.odd")


def test_no_structure_is_lost_where_bins_are_joined():
    statistics = Statistics()
    energies = np.random.default_rng(0).normal(size=5000)
    statistics.add_energies(energies, {})
    axes = Figure().subplots()
    draw_energies(axes, statistics)
    heights, edges = bars(axes)
    assert heights.sum() == 5000
    assert len(heights) <= MOST_BARS
    assert edges[0] <= energies.min()
    assert edges[-1] >= energies.max()


def test_sizes_stand_at_their_numbers():
    statistics = Statistics(sizes={7: 3, 5: 2})
    axes = Figure().subplots()
    draw_sizes(axes, statistics)
    heights, edges = bars(axes)
    assert heights.tolist() == [2, 0, 3]
    assert edges.tolist() == [4.5, 5.5, 6.5, 7.5]


@pytest.mark.parametrize(
    ("number", "place"),
    [
        *((1, (1, 1)), (2, (18, 1)), (4, (2, 2)), (5, (13, 2)), (21, (3, 4)), (26, (8, 4))),
        *((56, (2, 6)), (57, (3, 8.2)), (70, (16, 8.2)), (71, (3, 6)), (79, (11, 6))),
        *((89, (3, 9.2)), (102, (16, 9.2)), (103, (3, 7)), (118, (18, 7))),
    ],
)
def test_elements_stand_in_their_group_and_period(number, place):
    assert place_in_table(number) == place


def test_no_two_elements_stand_in_one_place():
    assert len({place_in_table(number) for number in range(1, 119)}) == 118


def test_every_picture_of_nothing_can_be_drawn():
    for draw in PLOTS.values():
        with styled("black"):
            figure = Figure()
            draw(figure.subplots(), Statistics())
            figure.canvas.draw()
