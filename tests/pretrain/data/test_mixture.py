from fractions import Fraction

import pytest
from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import ConfigurationError, from_mapping
from gfm_pretrain.data.mixture import batch_sizes, n_dealt, phases, steps_per_epoch, total_steps
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.mixture_options import MixtureOptions
from gfm_pretrain.training_options import TrainingOptions

SIZES = {"large": 10_000, "middle": 400, "small": 9}
HEAD = HeadOptions(train="a.extxyz", level_of_theory="PBE")
HEADS = dict.fromkeys(SIZES, HEAD)


def mixed(**options) -> dict[str, Fraction]:
    return batch_sizes(MixtureOptions(**options), HEADS, SIZES)


def test_explicit_sizes_are_those_of_the_heads():
    heads = {"a": HEAD, "b": HeadOptions(train="b.xyz", level_of_theory="PBE", batch_size=3)}
    found = batch_sizes(MixtureOptions(), heads, {"a": 5, "b": 7})
    assert found == {"a": Fraction(16), "b": Fraction(3)}


def test_by_size_all_heads_are_through_together():
    found = mixed(by="size", batch_size=32)
    assert found == {name: Fraction(32 * n, 10_409) for name, n in SIZES.items()}
    passes = {steps_per_epoch(epoch, found, SIZES) for epoch in ("all", *SIZES)}
    assert passes == {Fraction(10_409, 32)}


def test_temperature_two_is_by_square_root():
    """100 : 20 : 3."""
    expected = {"large": Fraction(41 * 100, 123), "middle": Fraction(41 * 20, 123), "small": 1}
    assert mixed(by="temperature", temperature=2.0, batch_size=41) == expected


def test_temperature_one_is_by_size():
    assert mixed(by="temperature", batch_size=64) == mixed(by="size", batch_size=64)


def test_a_high_temperature_makes_heads_alike():
    found = mixed(by="temperature", temperature=1e9, batch_size=30)
    assert [float(b) for b in found.values()] == pytest.approx([10.0] * 3, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 1.3, 2.0, 3.3, 5.0, 100.0])
def test_shares_are_exact_and_between_size_and_equal(temperature):
    found = mixed(by="temperature", temperature=temperature, batch_size=100)
    assert sum(found.values()) == 100
    weights = {name: n ** (1 / temperature) for name, n in SIZES.items()}
    for name, batch in found.items():
        assert float(batch) == pytest.approx(100 * weights[name] / sum(weights.values()), rel=1e-5)
        assert batch > 0


def test_shares_are_the_same_on_every_machine():
    """A root from the floating-point unit would differ in the last bit here and there."""
    found = mixed(by="temperature", temperature=3.3, batch_size=100)
    assert found["small"] == FOUND
    assert n_dealt(10**9, found["small"]) == 10**9 * FOUND.numerator // FOUND.denominator


FOUND = Fraction(32_434_950, 4_064_723)


BATCHES = {"large": Fraction(50), "middle": Fraction(8), "small": Fraction(3, 2)}


@pytest.mark.parametrize(
    ("epoch", "steps"),
    [
        ("largest", Fraction(200)),
        ("smallest", Fraction(6)),
        ("middle", Fraction(50)),
        ("all", Fraction(2 * 10_409, 119)),
    ],
)
def test_steps_of_an_epoch(epoch, steps):
    assert steps_per_epoch(epoch, BATCHES, SIZES) == steps


@pytest.mark.parametrize(
    ("epochs", "of_epoch", "steps"),
    [
        (1.0, Fraction(200), 200),
        (0.1, Fraction(10), 1),  # in binary a little more than one
        (0.1, Fraction(30), 3),
        (2.5, Fraction(101, 2), 127),
        (1e-9, Fraction(5), 1),
    ],
)
def test_epochs_become_steps(epochs, of_epoch, steps):
    assert total_steps(TrainingOptions(epochs=epochs), of_epoch) == steps


def test_steps_that_are_asked_for_are_taken():
    assert total_steps(TrainingOptions(steps=7), Fraction(200)) == 7


def test_one_epoch_sees_every_structure():
    found = mixed(by="temperature", temperature=2.0, batch_size=64)
    n_steps = total_steps(TrainingOptions(epochs=1.0), steps_per_epoch("largest", found, SIZES))
    assert all(n_dealt(n_steps, found[name]) >= n for name, n in SIZES.items())
    assert any(n_dealt(n_steps - 1, found[name]) < n for name, n in SIZES.items())


def config(**changes) -> RunConfig:
    heads = {"a": {"train": "a.xyz", "level_of_theory": "PBE"}, "b": {"store": "stores/b"}}
    mapping = {"run": "run", "heads": heads, "training": {"steps": 1}}
    return from_mapping(RunConfig, mapping | changes)


@pytest.mark.parametrize(
    "mixture",
    [
        {},
        {"by": "size", "batch_size": 2},
        {"by": "temperature", "batch_size": 64, "temperature": 3.0, "epoch": "b"},
    ],
)
def test_mixtures_that_are_right(mixture):
    assert config(mixture=mixture).mixture == MixtureOptions(**mixture)


@pytest.mark.parametrize(
    ("mixture", "said"),
    [
        ({"by": "size"}, r"mixture\.batch_size is missing with mixture\.by=size"),
        ({"batch_size": 8}, r"mixture\.batch_size cannot be given with mixture\.by=explicit"),
        ({"temperature": 2.0}, r"mixture\.temperature=2\.0 goes with mixture\.by=temperature"),
        (
            {"by": "temperature", "batch_size": 8, "temperature": 0.5},
            r"mixture\.temperature must be at least 1, got 0\.5",
        ),
        (
            {"by": "size", "batch_size": 1},
            r"mixture\.batch_size must be at least the number of heads, 2, .* got 1",
        ),
        ({"epoch": "c"}, r"mixture\.epoch must be one of all, largest, smallest, a, b, got 'c'"),
    ],
)
def test_mixtures_that_are_wrong(mixture, said):
    with pytest.raises(ConfigurationError, match=said):
        config(mixture=mixture)


def test_a_head_has_no_batch_size_of_its_own_in_a_shared_one():
    heads = {"a": {"store": "a", "batch_size": 4}}
    with pytest.raises(ConfigurationError, match=r"heads\.a\.batch_size cannot be given with"):
        config(heads=heads, mixture={"by": "size", "batch_size": 8})


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"level_of_theory": "PBE"}, r"'heads\.a': .* either train, a file, or store, .* neither"),
        ({"train": "a", "store": "b"}, "either train, a file, or store, a folder; got both"),
        ({"train": "a"}, "level_of_theory is missing, such as"),
        ({"store": "a", "valid": "b"}, "valid cannot be given with store"),
        ({"store": "a", "valid_fraction": 0.1}, "valid_fraction cannot be given with store"),
        ({"store": "a", "test": "b", "energy_key": "E"}, "test, energy_key cannot be given with"),
        ({"store": "a", "batch_size": 0}, "batch_size of a head must be at least 1, got 0"),
    ],
)
def test_data_of_a_head_that_are_wrong(head, said):
    with pytest.raises(ConfigurationError, match=said):
        config(heads={"a": head})


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({}, r"either training\.steps or training\.epochs must be given, got neither"),
        ({"steps": 1, "epochs": 1.0}, r"training\.epochs must be given, got both"),
        ({"epochs": 0.0}, r"training\.epochs must be positive, got 0\.0"),
        ({"epochs": float("inf")}, r"training\.epochs must be finite"),
        ({"steps": 0}, r"training\.steps must be positive, got 0"),
    ],
)
def test_lengths_that_are_wrong(training, said):
    with pytest.raises(ConfigurationError, match=said):
        config(training=training)


@pytest.mark.parametrize("n_heads", [2, 5, 16, 60])
def test_heads_with_equal_fractions_have_their_odd_structures_in_turn(n_heads):
    """A quarter of a structure each: within three of a quarter of the heads in every step."""
    of_head = phases(f"head{n}" for n in range(n_heads))
    assert all(0 <= phase < 1 for phase in of_head.values())
    batch = Fraction(1, 4)
    per_step = [
        sum(n_dealt(s + 1, batch, p) - n_dealt(s, batch, p) for p in of_head.values())
        for s in range(8)
    ]
    assert sum(per_step) == 2 * n_heads
    assert max(per_step) - min(per_step) <= 3
    without = [sum(n_dealt(s + 1, batch) - n_dealt(s, batch) for _ in of_head) for s in range(8)]
    assert set(without) == {0, n_heads}


def test_a_phase_shifts_and_loses_nothing():
    for phase in phases("abcde").values():
        assert n_dealt(0, FOUND, phase) == 0
        assert n_dealt(10**9, FOUND, phase) - n_dealt(10**9, FOUND) in (0, 1)
        whole = n_dealt(FOUND.denominator, FOUND, phase)
        assert whole == FOUND.numerator
