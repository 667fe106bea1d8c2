import pytest
from gfm_pretrain.plan.dealing import deal_steps
from gfm_pretrain.plan.ownership import head_table, rank_ranges, rank_table, summary
from gfm_pretrain.plan.ownership_picture import head_colours, plot_ownership
from plan_cases import make_workload

OWNERS = {"a": (0, 1, 2), "b": (2, 3), "c": (4,), "d": (4,), "e": (5, 6, 7)}


def test_neighbouring_ranks_with_the_same_heads_are_one_range() -> None:
    found = [(run.first, run.last, run.heads) for run in rank_ranges(OWNERS, 8)]
    assert found == [
        (0, 1, ("a",)),
        (2, 2, ("a", "b")),
        (3, 3, ("b",)),
        (4, 4, ("c", "d")),
        (5, 7, ("e",)),
    ]


def test_tables_of_even_heads() -> None:
    workload = make_workload({"a": 12, "b": 12})
    owners = workload.place(4, method="whole-ranks")
    steps = deal_steps(workload, owners, n_ranks=4, n_steps=2)
    rows = [line.split() for line in head_table(workload, owners, steps).splitlines()[2:]]
    # 10 atoms of 4 edges' cost and 100 edges; half the cost; two ranks with 6 structures each.
    n_head, n_backbone = workload.heads["a"].size.n_parameters, workload.backbone.n_parameters
    tail = ["2", "6.0", f"{n_head:,}"]
    assert rows[0] == ["a", "50", "12", "140", "50.00", "0–1", *tail]
    assert rows[1] == ["b", "50", "12", "140", "50.00", "2–3", *tail]
    rows = [line.split() for line in rank_table(workload, owners, steps).splitlines()[2:]]
    held = n_backbone + n_head
    assert rows[0] == ["0–1", "a", "1.00", f"{held:,}", f"{24 * held / 2**20:.2f}"]
    text = summary(workload, owners, steps, method="whole-ranks")
    assert text.startswith("4 ranks, placement whole-ranks, 24 structures per step")
    assert text.endswith("1.000, from 1.000 to 1.000")
    assert "in 2 pieces" in summary(workload, owners, steps, method="whole-ranks", n_shards=2)


@pytest.mark.parametrize("n_heads", [1, 10, 11, 20, 21, 60])
def test_every_head_has_a_colour_of_its_own(n_heads) -> None:
    names = [f"head{n}" for n in range(n_heads)]
    colours = head_colours(names)
    assert list(colours) == names
    assert len({tuple(colour) for colour in colours.values()}) == n_heads


@pytest.mark.parametrize("n_ranks", [2, 40, 3000])
def test_pictures_of_few_and_of_thousands_of_ranks(n_ranks, tmp_path) -> None:
    workload = make_workload({"a": 100, "b": 3, "c": 30})
    owners = workload.place(n_ranks, method="wrap-around")
    steps = deal_steps(workload, owners, n_ranks=n_ranks, n_steps=1)
    path = tmp_path / "plan.png"
    plot_ownership(owners, steps, path, title="a plan")
    assert path.stat().st_size < 200_000
