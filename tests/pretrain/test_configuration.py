import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from gfm_pretrain.configuration import (
    ConfigurationError,
    from_mapping,
    read_configuration,
    to_mapping,
)


@dataclass(frozen=True, kw_only=True)
class Head:
    batch_size: int = 4
    weight: float = 1.0
    reference_energies: dict[int, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Constant:
    kind: Literal["constant"] = "constant"
    value: float


@dataclass(frozen=True, kw_only=True)
class Decay:
    kind: Literal["decay"]
    start: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class Training:
    steps: int = 100
    learning_rate: float = 1e-3
    schedule: Constant | Decay | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | Literal["off"] = 10.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"`steps` must be at least 1,\ngot {self.steps}")


@dataclass(frozen=True, kw_only=True)
class Run:
    name: str
    precision: Literal["float32", "float64"] = "float32"
    heads: dict[str, Head] = field(default_factory=dict)
    training: Training = Training()
    elements: tuple[str, ...] = ()
    layers: tuple[Head, ...] = ()
    snapshots: Path | None = None
    resume: bool | str = False


FULL = """
name: first            # a comment
precision: float64
heads:
  rmd17: {batch_size: 8, weight: 2}
  mptrj:
    reference_energies: {1: -13.6, 8: -2041.8}
training:
  learning_rate: 1e-4
  schedule: {kind: decay, start: 1, steps: 10}
  clip: off
elements: [H, N, No, Y]
layers: [{}, {weight: .5}]
snapshots: runs/1
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(text, *overrides, cls=Run):
        Path("run.yaml").write_text(text, encoding="utf-8")
        return read_configuration(cls, Path("run.yaml"), overrides)

    return read


def test_every_kind_of_value_is_read(read):
    assert read(FULL) == Run(
        name="first",
        precision="float64",
        heads={
            "rmd17": Head(batch_size=8, weight=2.0),
            "mptrj": Head(reference_energies={1: -13.6, 8: -2041.8}),
        },
        training=Training(
            learning_rate=1e-4, schedule=Decay(kind="decay", start=1, steps=10), clip="off"
        ),
        elements=("H", "N", "No", "Y"),
        layers=(Head(), Head(weight=0.5)),
        snapshots=Path("runs/1"),
    )


def test_plain_types_and_back(read):
    config = read(FULL, "training.clip=.inf")
    plain = to_mapping(config)
    assert plain["elements"] == ["H", "N", "No", "Y"]
    assert plain["snapshots"] == "runs/1"
    assert from_mapping(Run, plain) == config


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "0.001", ".001", "1.0e-3", "+1e-3"])
def test_floats_of_yaml_1_2(read, number):
    assert read("name: a", f"training.learning_rate={number}").training.learning_rate == 1e-3


def test_infinity_and_nan(read):
    assert read("name: a", "training.clip=.inf").training.clip == math.inf
    assert math.isnan(read("name: a", "training.clip=.nan").training.clip)


@pytest.mark.parametrize("text", ["2026-01-01", "1:30:00", "on", "010", "No", "0x10"])
def test_what_yaml_1_1_would_convert_stays_a_string(read, text):
    assert read(f"name: {text}").name == text


def test_overrides_are_merged_left_to_right(read):
    text = "name: a\nheads: {rmd17: {weight: 3}}\ntraining:"
    config = read(
        text,
        "heads.rmd17.batch_size=2",
        "heads.rmd17.batch_size=8",
        "heads.new.weight=0.5",
        "training.steps=7",
        "resume=true",
        "training.betas=[0.5, 0.6]",
        "name=a=b",
    )
    assert config == Run(
        name="a=b",
        heads={"rmd17": Head(weight=3, batch_size=8), "new": Head(weight=0.5)},
        training=Training(steps=7, betas=(0.5, 0.6)),
        resume=True,
    )


def test_the_given_mapping_is_not_changed():
    mapping = {"name": "a", "heads": {"x": {"weight": 1}}}
    from_mapping(Run, mapping)
    assert mapping == {"name": "a", "heads": {"x": {"weight": 1}}}


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        # keys
        ("name: a\ntrainin: {steps: 1}", [], "unknown key 'trainin'; did you mean 'training'?"),
        (
            "name: a\ntraining: {step: 1}",
            [],
            "unknown key 'training.step'; did you mean 'training.steps'?",
        ),
        ("names: a", [], "unknown key 'names'; did you mean 'name'?"),
        (
            "name: a\nheads: {x: {zzz: 1}}",
            [],
            "unknown key 'heads.x.zzz'; valid here: batch_size, reference_energies, weight",
        ),
        (
            "name: a\nlayers: [{}, {weights: 1}]",
            [],
            "unknown key 'layers.1.weights'; did you mean 'layers.1.weight'?",
        ),
        (
            "name: a\ntraining: {schedule: {kind: decay, start: 1, stps: 1}}",
            [],
            "unknown key 'training.schedule.stps'; did you mean 'training.schedule.steps'?",
        ),
        ("precision: float32", [], "'name' is missing"),
        ("name: a\nname: b", [], "line 2: duplicate key 'name'"),
        # values
        (
            "name: a\ntraining: {learning_rate: abc}",
            [],
            "'training.learning_rate' must be a number, found 'abc'",
        ),
        (
            "name: a\ntraining: {learning_rate: '1e-3'}",
            [],
            "'training.learning_rate' must be a number, found '1e-3'",
        ),
        ("name: a\ntraining: {steps: true}", [], "'training.steps' must be an integer, found True"),
        ("name: a\ntraining: {steps: 3.5}", [], "'training.steps' must be an integer, found 3.5"),
        ("name: a\ntraining: {steps: 1e5}", [], "must be an integer, found 100000.0"),
        ("name: a\ntraining: {learning_rate: true}", [], "must be a number, found True"),
        ("name: 5", [], "'name' must be a string, found 5"),
        ("name:", [], "'name' must be a string, found None"),
        ("name: a\nresume: 1", [], "'resume' must be true or false or a string, found 1"),
        (
            "name: a\nprecision: float16",
            [],
            "'precision' must be 'float32' or 'float64', found 'float16'",
        ),
        (
            "name: a\ntraining: {clip: x}",
            [],
            "'training.clip' must be a number or 'off', found 'x'",
        ),
        ("name: a\nheads: [x]", [], "'heads' must be a mapping, found ['x']"),
        ("name: a\nheads: {x: 3}", [], "'heads.x' must be a mapping, found 3"),
        ("name: a\nelements: H", [], "'elements' must be a list, found 'H'"),
        ("name: a\nelements: [H, 1]", [], "'elements.1' must be a string, found 1"),
        ("name: a\nheads: {x: {reference_energies: {H: 1}}}", [], "must be an integer, found 'H'"),
        ("name: a\ntraining: {steps: 0}", [], "'training': `steps` must be at least 1, got 0"),
        (
            "name: a\ntraining: {schedule: {kind: decya, start: 1, steps: 1}}",
            [],
            "'training.schedule.kind' must be 'constant' or 'decay', found 'decya'",
        ),
        (
            "name: a\ntraining: {schedule: {kind: constant, value: 1, steps: 1}}",
            [],
            "'training.schedule.kind' must be 'decay', found 'constant'",
        ),
        # files
        ("", [], "is empty"),
        ("# nothing", [], "is empty"),
        ("- a\n- b", [], "must hold `key: value` lines, found ['a', 'b']"),
        ("just text", [], "must hold `key: value` lines, found 'just text'"),
        ("name: [a", [], "line 1: expected ',' or ']', but got"),
        ("name: !!python/name:os.system", [], "could not determine a constructor for the tag"),
        # overrides
        ("name: a", ["training"], "override 'training': must be key=value or a.b=value"),
        ("name: a", [".x=1"], "override '.x=1': must be key=value or a.b=value"),
        ("name: a", ["name=[1"], "override 'name=[1': line 1: expected ',' or ']'"),
        ("name: a", ["name.x=1"], "override 'name.x=1': 'name' has no keys, it is 'a'"),
        (
            "name: a",
            ["training.stps=1"],
            "run.yaml with overrides: unknown key 'training.stps'; did you mean 'training.steps'?",
        ),
    ],
)
def test_an_error_is_one_line_with_file_key_finding_and_way_out(read, text, overrides, message):
    with pytest.raises(ConfigurationError) as caught:
        read(text, *overrides)
    said = str(caught.value)
    assert message in said
    assert said.startswith(("run.yaml", "override "))
    assert "\n" not in said


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.yaml: no such configuration file"):
        read_configuration(Run, tmp_path / "absent.yaml")


def test_not_text(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigurationError, match=r"is not UTF-8 text \(byte 6\)"):
        read_configuration(Run, path)


def test_origin_is_named():
    with pytest.raises(ConfigurationError, match=r"^model\.json: 'name' is missing$"):
        from_mapping(Run, {}, origin="model.json")
