import bz2
import gzip
import json
import lzma
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from gfm_pretrain.data.sources.json_stream import read_opening, stream_array, stream_object

PLAIN = {"m-1": {"a": [1, -2.5e3, None]}, "m-2": {"b": "Å"}, "m-3": []}
RANDOM = Random(0)
LARGE = {f"m-{number}": [RANDOM.random() for _ in range(200)] for number in range(100)}
"""Longer, also compressed, than what is read at a time."""
COMPRESSORS = {
    "": bytes,
    ".bz2": partial(bz2.compress, compresslevel=1),  # blocks of 100 kB, not of 900
    ".gz": gzip.compress,
    ".xz": lzma.compress,
}


@pytest.fixture
def file(tmp_path):
    def write(value: object, suffix: str = "") -> Path:
        path = tmp_path / f"set.json{suffix}"
        text = value if isinstance(value, str) else json.dumps(value)
        path.write_bytes(COMPRESSORS[suffix](text.encode()))
        return path

    return write


def cut(path: Path, part: float) -> Path:
    """Keep the first part of a file only."""
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    return path


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_values_come_in_order_as_python_has_them(file, suffix):
    items = list(stream_object(file(PLAIN, suffix)))
    assert [(item.key, item.value) for item in items] == list(PLAIN.items())
    assert [type(number) for number in items[0].value["a"]] == [int, float, type(None)]


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_done_grows_from_the_beginning_to_one(file, suffix):
    done = [item.done for item in stream_object(file(LARGE, suffix))]
    assert len(done) == len(LARGE)
    assert done[0] < 0.6
    assert all(earlier <= later for earlier, later in pairwise(done))
    assert done[-1] == 1.0


def test_several_streams_of_bz2_end_to_end_are_one(file):
    path = file(LARGE)
    text = path.read_bytes()
    whole = path.with_suffix(".bz2")
    whole.write_bytes(bz2.compress(text[:1000]) + bz2.compress(text[1000:]))
    assert {item.key: item.value for item in stream_object(whole)} == LARGE


def test_an_array_under_a_key_is_numbered(file):
    path = file({"version": 2, "other": [7], "entries": [{"x": 0.5}, [], None], "last": [8]})
    items = list(stream_array(path, "entries"))
    assert [(item.key, item.value) for item in items] == [("0", {"x": 0.5}), ("1", []), ("2", None)]
    assert items[-1].done == 1.0


@pytest.mark.parametrize(
    ("value", "opening"),
    [
        ({"entries": [1]}, ("entries", list)),
        ({"version": 2, "name": "x", "m-1": {"a": []}}, ("m-1", dict)),
    ],
)
def test_the_opening_is_the_first_key_of_an_object_or_array(file, value, opening):
    assert read_opening(file(value)) == opening


def test_the_opening_of_a_damaged_file_is_still_read(file):
    assert read_opening(cut(file(LARGE), 0.9)) == ("m-0", list)


@pytest.mark.parametrize("suffix", COMPRESSORS)
@pytest.mark.parametrize("part", [0.0, 0.6, 0.999])
def test_a_truncated_file_is_named_in_one_line(file, suffix, part):
    path = cut(file(LARGE, suffix), part)
    with pytest.raises(ValueError, match=r"damaged or not JSON: \w.*; download it again") as caught:
        list(stream_object(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".bz2", ".gz", ".xz"])
def test_damage_inside_a_compressed_file(file, suffix):
    path = file(LARGE, suffix)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged or not JSON") as caught:
        list(stream_object(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".bz2", ".gz", ".xz"])
def test_a_file_that_is_not_compressed_as_its_name_says(file, suffix):
    path = file(PLAIN)
    misnamed = path.rename(path.with_name(f"set{suffix}"))
    with pytest.raises(ValueError, match=f"set{suffix} is damaged or not JSON"):
        read_opening(misnamed)


@pytest.mark.parametrize("text", ["5 H2O molecules", '{"a": [1]} {"b": [2]}', '{"a": [1],, }'])
def test_what_is_not_json_is_named(file, text):
    with pytest.raises(ValueError, match=r"set\.json is damaged or not JSON: .* error: "):
        list(stream_object(file(text)))


def test_letters_in_another_encoding(file):
    path = file("")
    path.write_bytes('{"Å": [1]}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"set\.json is damaged or not JSON: .*UTF8"):
        list(stream_object(path))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_has_not_are_told_apart_from_damage(file, number):
    path = file(f'{{"a": [1.5, {number}]}}')
    with pytest.raises(ValueError, match=r"set\.json .* write null in their place$"):
        list(stream_object(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{}]", "must hold a JSON object, found array"),
        ("7", "must hold a JSON object, found number"),
        ("{}", "without any object or array"),
        ('{"a": 1, "b": "[]"}', "without any object or array"),
    ],
)
def test_json_of_another_form_has_no_opening(file, text, message):
    with pytest.raises(ValueError, match=message):
        read_opening(file(text))


@pytest.mark.parametrize("text", ["[{}]", "{}", "7"])
def test_no_records_are_no_silent_success(file, text):
    with pytest.raises(ValueError, match="nothing is where its records are expected"):
        list(stream_object(file(text)))
    with pytest.raises(ValueError, match="nothing is where its records are expected"):
        list(stream_array(file(text), "entries"))


def test_a_missing_file_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_opening(tmp_path / "absent.json")
    with pytest.raises(FileNotFoundError):
        list(stream_object(tmp_path / "absent.json"))
