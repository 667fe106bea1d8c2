"""Streams of JSON: one value of a file of any size at a time, as published or compressed."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import ijson

Stream = BinaryIO | bz2.BZ2File | gzip.GzipFile | lzma.LZMAFile
"""The JSON itself, in bytes."""

DECOMPRESSORS: Mapping[str, Callable[[BinaryIO], Stream]] = {
    ".bz2": bz2.BZ2File,
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".xz": lzma.LZMAFile,
}
"""How a file is decompressed, by its last suffix; a file with another one is not."""

# What damaged files make the decompressors and ijson raise.
_DAMAGES = (OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError, ijson.JSONError)


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One value of the object or array that a file holds."""

    key: str
    """Its key, or its place in the array from "0"."""
    value: Any
    """Objects are dicts, arrays lists, numbers int or float."""
    done: float
    """Part of the file, compressed where it is, that was read for it: 0 to 1, 1 for the last."""


def read_opening(path: Path) -> tuple[str, type]:
    """The first key of the object in a file whose value is an object or array: (key, dict or list).

    Raises:
        ValueError: the file is damaged, or holds anything else; the message names it.
    """
    with path.open("rb") as raw, _naming_damage(path):
        events = ijson.basic_parse(_decompress(raw, path))
        event, _ = next(events)
        if event != "start_map":
            raise ValueError(
                f"{path} must hold a JSON object, found {event.removeprefix('start_')}"
            )
        key = ""
        for event, value in events:
            if event == "map_key":
                key = value
            elif event in ("start_map", "start_array"):
                return key, dict if event == "start_map" else list
    raise ValueError(f"{path} holds a JSON object without any object or array in it")


def stream_object(path: Path) -> Iterator[Item]:
    """Go through the keys and values of the object that a file holds; two are in memory.

    Raises:
        ValueError: the file is damaged, or holds no object or an empty one; the message names it.
    """
    return _stream(path, lambda stream: ijson.kvitems(stream, "", use_float=True))


def stream_array(path: Path, key: str) -> Iterator[Item]:
    """Go through the array under a key of the object that a file holds; two items are in memory.

    Raises:
        ValueError: the file is damaged, or there is no array or an empty one; the message names it.
    """
    return _stream(path, lambda stream: _number(ijson.items(stream, f"{key}.item", use_float=True)))


def _stream(path: Path, items_of: Callable[[Stream], Iterator[tuple[str, Any]]]) -> Iterator[Item]:
    """One item is held back, since only what comes after it tells whether it is the last."""
    size, held = path.stat().st_size, None
    with path.open("rb") as raw, _naming_damage(path):
        for key, value in items_of(_decompress(raw, path)):
            if held is not None:
                yield held
            held = Item(key=key, value=value, done=raw.tell() / size)
    if held is None:
        raise ValueError(f"{path} is JSON, but nothing is where its records are expected")
    yield replace(held, done=1.0)


def _number(values: Iterator[Any]) -> Iterator[tuple[str, Any]]:
    return ((str(place), value) for place, value in enumerate(values))


def _decompress(raw: BinaryIO, path: Path) -> Stream:
    decompressor = DECOMPRESSORS.get(path.suffix)
    return raw if decompressor is None else decompressor(raw)


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGES as error:
        raise ValueError(f"{path} is damaged or not JSON: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    """What went wrong and the way out, in one line; yajl adds lines that show the place."""
    message = error.args[0] if isinstance(error, ijson.JSONError) else str(error)
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    found = text.partition("\n")[0].rstrip(". ")
    if "NaN" in text or "Infinity" in text:
        return f"{found}; NaN and Infinity are not JSON, write null in their place"
    return f"{found}; download it again"
