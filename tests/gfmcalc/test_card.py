"""The model card says what the two files of a checkpoint say, and no more."""

import copy

import pytest

from gfmcalc.card import error_rows, model_card

HEAD = {
    "description": "small molecules",
    "level_of_theory": "PBE/def2-SVP",
    "source": "Revised MD17",
    "licence": "CC0 1.0",
    "citation": "Christensen and von Lilienfeld 2020",
    "elements": ["H", "C", "O"],
    "reference_energies": {"H": -13.57, "C": -1027.5, "O": -2041.8},
    "reference_origin": "Least squares over the training energies.",
    "labels": ["energy", "forces"],
    "stale": False,
}
CONFIG = {
    "architecture": {"channels": 4},
    "elements": ["C", "H", "O", "Si"],
    "heads": {
        "rmd17": HEAD,
        "mptrj": {
            **HEAD,
            "level_of_theory": "PBE+U",
            "licence": "MIT",
            "elements": ["Si", "O"],
            "labels": ["energy", "forces", "stress"],
        },
    },
}
TRAINING = {
    "code_version": "0.1.0",
    "n_ranks": 2,
    "seed": 7,
    "steps": 1200,
    "wall_seconds": 283.1,
    "heads": {
        "rmd17": {
            "n_train": 1000,
            "n_test": 150,
            "data": {"train": {"path": "/home/anna/secret/rmd17.extxyz", "sha256": "ab" * 32}},
            "test": {
                "energy_mae_per_atom": 0.0012345,
                "energy_rmse_per_atom": 0.002,
                "forces_mae": 0.0345,
                "forces_rmse": 0.05,
            },
            "test_before": {"energy_mae_per_atom": 0.004, "energy_rmse_per_atom": 0.005},
            "baseline": {
                "energy_mae_per_atom": 0.2,
                "energy_rmse_per_atom": 0.3,
                "forces_mae": 1.234,
                "forces_rmse": 1.8,
            },
        },
        "mptrj": {
            "n_test": 10,
            "test": {"stress_mae": 0.00012, "stress_rmse": 0.0002},
            "baseline": {"stress_mae": 0.0001, "stress_rmse": 0.0002},
        },
    },
}


@pytest.fixture
def config() -> dict:
    return copy.deepcopy(CONFIG)


def limits(card: str) -> str:
    return card[card.index("## What it is not for") :]


def front_matter(card: str) -> dict:
    """What the hub's own client reads from the card."""
    from huggingface_hub import ModelCard

    return ModelCard(card).data.to_dict()


def test_errors_in_thousandths_with_baseline_and_before() -> None:
    assert error_rows(CONFIG, TRAINING) == [
        ["rmd17", "energy", "meV/atom", "150", "1.23", "2.00", "200", "300", "4.00"],
        ["rmd17", "forces", "meV/Å", "150", "34.5", "50.0", "1234", "1800", "-"],
        ["mptrj", "stress", "meV/Å³", "10", "0.120", "0.200", "0.100", "0.200", "-"],
    ]


def test_errors_are_in_the_card() -> None:
    row = "| rmd17 | forces | meV/Å | 150 | 34.5 | 50.0 | 1234 | 1800 | - |"
    assert row in model_card(CONFIG, TRAINING)


def test_same_files_same_card() -> None:
    config, training = copy.deepcopy(CONFIG), copy.deepcopy(TRAINING)
    assert model_card(config, training) == model_card(CONFIG, TRAINING)
    assert (config, training) == (CONFIG, TRAINING)


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        (("CC BY 4.0", "cc-by-4.0"), "cc-by-4.0"),
        (("MIT", "MIT"), "mit"),
        (("MIT", "CC BY 4.0"), "other"),
        (("ask the authors", "ask the authors"), "other"),
        (("", ""), "other"),
    ],
)
def test_licence_of_the_front_matter(
    licences: tuple[str, str], expected: str, config: dict
) -> None:
    for head, licence in zip(config["heads"].values(), licences, strict=True):
        head["licence"] = licence
    assert front_matter(model_card(config, None))["license"] == expected


def test_front_matter_names_the_library() -> None:
    data = front_matter(model_card(CONFIG, TRAINING))
    assert data["library_name"] == "gfmcalc"
    assert "interatomic-potential" in data["tags"]


def test_every_fact_about_a_head_is_there() -> None:
    card = model_card(CONFIG, TRAINING)
    for fact in ("PBE/def2-SVP", "Revised MD17", "CC0 1.0", "Christensen", "Least squares"):
        assert fact in card


def test_facts_that_are_missing_are_said_to_be(config: dict) -> None:
    empty = dict.fromkeys(("description", "source", "licence", "citation", "reference_origin"), "")
    config["heads"] = {"rmd17": {**HEAD, **empty}}
    card = model_card(config, None)
    assert "| `rmd17` | not stated | not stated | not stated |" in card
    assert "- `rmd17`: not stated" in card
    assert "None are recorded" in card
    assert "Not recorded" in card


def test_use_names_model_and_head() -> None:
    card = model_card(CONFIG, TRAINING, location="org/name")
    assert 'GFMCalculator("org/name", head="rmd17")' in card
    assert "\n# name\n" in card


def test_how_it_was_trained() -> None:
    card = model_card(CONFIG, TRAINING)
    for fact in ("optimizer steps: 1200", "(ranks): 2", "seed: 7", "wall time: 5 min"):
        assert fact in card
    assert "| rmd17 | train | 1000 | rmd17.extxyz | `abababababababab…` |" in card


def test_folders_of_the_trainer_stay_private() -> None:
    assert "anna" not in model_card(CONFIG, TRAINING)


def test_limits_name_the_elements_and_the_labels_never_seen() -> None:
    text = limits(model_card(CONFIG, TRAINING))
    assert "`rmd17`: no elements but H, C, O;" in text
    assert "`rmd17`: no labels of stress were seen" in text
    assert "`mptrj`: no labels" not in text


def test_limits_name_what_was_not_tested() -> None:
    text = limits(model_card(CONFIG, TRAINING))
    assert "`mptrj`: no test errors are recorded for energy or forces." in text
    assert "`rmd17`: no test errors" not in text


def test_limits_name_what_is_no_better_than_nothing() -> None:
    text = limits(model_card(CONFIG, TRAINING))
    assert "`mptrj`: in the test it is no better than the baseline for stress." in text
    assert "`rmd17`: in the test" not in text


def test_heads_are_not_to_be_compared_unless_there_is_one(config: dict) -> None:
    assert "Comparing energies" in limits(model_card(config, None))
    del config["heads"]["mptrj"]
    assert "Comparing energies" not in limits(model_card(config, None))


def test_stale_head_is_marked(config: dict) -> None:
    assert "stale" not in model_card(config, TRAINING)
    config["heads"]["mptrj"]["stale"] = True
    card = model_card(config, TRAINING)
    assert "`mptrj` (stale)" in card
    assert "`mptrj`: stale: the shared network was changed" in limits(card)


def test_text_cannot_break_the_table(config: dict) -> None:
    config["heads"]["rmd17"]["description"] = "a | b\n# c"
    assert "| a \\| b # c |" in model_card(config, None)
