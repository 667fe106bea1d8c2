"""Frozen dataclasses read from a YAML file and `a.b=value` overrides, strictly.

The schema is the dataclasses themselves. Keys that no dataclass has are errors, values are never
converted from one type to another, and every error is one line: where, which key, what was found,
what is valid.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import reprlib
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

T = TypeVar("T")
Key = str | int

_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")


class ConfigurationError(ValueError):
    """The configuration is not valid; the message is one line for the user."""


def read_configuration(
    cls: type[T],
    path: Path,
    overrides: Sequence[str] = (),
    *,
    resolve: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> T:
    """Read the dataclass `cls` from a YAML file, changed by `overrides` from left to right.

    Args:
        cls: A frozen dataclass of plain types, other dataclasses, and containers of these.
        path: YAML 1.2 file (`1e-3` is a number; `No` and `on` are strings, `true` is not).
        overrides: `a.b=value` with the value in YAML. A mapping replaces what was there.
        resolve: Puts what the schema knows in place of what stands for it, after the overrides; a
            `ValueError` of it is one of the configuration.

    Raises:
        FileNotFoundError: No such file.
        ConfigurationError: Anything else that is wrong, in one line.
    """
    mapping = _read_yaml(Path(path))
    for override in overrides:
        mapping = _overridden(mapping, override)
    origin = f"{path} with overrides" if overrides else str(path)
    try:
        mapping = resolve(mapping)
    except ValueError as error:
        raise ConfigurationError(f"{origin}: {error}") from None
    return from_mapping(cls, mapping, origin=origin)


def from_mapping(cls: type[T], mapping: Mapping[str, Any], *, origin: str = "configuration") -> T:
    """Check a mapping of plain types, as `to_mapping` makes it, and build `cls` from it.

    Args:
        cls: As for `read_configuration`.
        mapping: Not changed.
        origin: What errors call the mapping, such as the name of its file.

    Raises:
        ConfigurationError: A key or a value is not valid.
    """
    # In a tuple, because options reach plain dataclasses only from outside. As JSON, because strict
    # validation takes objects for dataclasses and lists for tuples only there.
    schema: Any = tuple[cls]
    adapter = TypeAdapter(schema, config=ConfigDict(extra="forbid"))
    try:
        return adapter.validate_json(json.dumps([dict(mapping)], default=str), strict=True)[0]
    except ValidationError as error:
        problem = _first_problem(cls, mapping, error)
        raise ConfigurationError(f"{origin}: {problem}") from None


def to_mapping(config: Any) -> dict[str, Any]:
    """Plain types for JSON or YAML, such that `from_mapping(type(config), …)` gives `config`."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, set, frozenset)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


class _Loader(yaml.SafeLoader):
    """YAML with the plain scalars of version 1.2, and duplicate keys as errors.

    In version 1.1, PyYAML's, `1e-3` is a string, `No` (nobelium) is false and 1:30 is 90.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        seen = set()
        for key_node in (key for key in keys if isinstance(key, yaml.ScalarNode)):
            if key_node.value in seen:
                problem = f"duplicate key {key_node.value!r}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?[0-9]+[eE][-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?\.inf|\.nan", list("-+.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such configuration file")
    try:
        value = _parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {_yaml_problem(error)}") from None
    if value is None:
        raise ConfigurationError(f"{path}: is empty, must hold `key: value` lines")
    if not isinstance(value, dict):
        raise ConfigurationError(f"{path}: must hold `key: value` lines, found {_shown(value)}")
    return value


def _parse(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # a SafeLoader


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 text (byte {error.start})"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    line = f"line {mark.line + 1}: " if mark else ""
    return " ".join(f"{line}{problem}".split())


def _overridden(mapping: Mapping[str, Any], override: str) -> dict[str, Any]:
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ConfigurationError(f"override {override!r}: must be key=value or a.b=value")
    try:
        value = _parse(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"override {override!r}: {_yaml_problem(error)}") from None
    return _with_value(mapping, keys, value, override)


def _with_value(
    mapping: Mapping[str, Any], keys: Sequence[str], value: Any, override: str
) -> dict[str, Any]:
    first, rest = keys[0], keys[1:]
    if rest:
        inner = mapping.get(first)
        inner = {} if inner is None else inner
        if not isinstance(inner, Mapping):
            raise ConfigurationError(
                f"override {override!r}: {first!r} has no keys, it is {_shown(inner)}"
            )
        value = _with_value(inner, rest, value, override)
    return {**mapping, first: value}


def _first_problem(cls: type, mapping: Mapping[str, Any], error: ValidationError) -> str:
    """Unknown keys first, since a misspelt key is also missing where it should be."""
    problems = [(_path_in(mapping, item), item) for item in error.errors(include_url=False)]
    for path, item in problems:
        if item["type"] in _UNKNOWN and path[-1] not in _valid_keys(cls, path[:-1]):
            return _unknown_key(cls, path)
    # The members of a union complain one by one: the deepest complaint is of the nearest member.
    problems = [(p, item) for p, item in problems if item["type"] not in _UNKNOWN] or problems
    start = problems[0][0]
    path = max((path for path, _ in problems if path[: len(start)] == start), key=len)
    return _invalid_value(path, [item for other, item in problems if other == path])


def _path_in(mapping: Mapping[str, Any], item: Any) -> tuple[Key, ...]:
    """The keys to the value; pydantic's location also names the members of unions."""
    path: list[Key] = []
    value: Any = mapping
    for key in item["loc"][1:]:
        keys = list(value) if isinstance(value, Mapping) else range(len(_items(value)))
        found = next((k for k in keys if str(k) == str(key)), None)
        if found is not None:
            path.append(key)
            value = value[found]
    if item["type"] == "missing":
        path.append(item["loc"][-1])
    return tuple(path)


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _unknown_key(cls: type, path: Sequence[Key]) -> str:
    valid = sorted(_valid_keys(cls, path[:-1]))
    near = difflib.get_close_matches(str(path[-1]), valid, n=1)
    unknown = f"unknown key {_dotted(path)!r}"
    if near:
        return f"{unknown}; did you mean {_dotted([*path[:-1], near[0]])!r}?"
    return f"{unknown}; valid here: {', '.join(valid)}"


def _valid_keys(annotation: Any, path: Sequence[Key]) -> set[str]:
    """The keys that the schema has at `path`."""
    if dataclasses.is_dataclass(annotation):
        names = {field.name for field in dataclasses.fields(annotation)}
        if not path:
            return names
        hints = typing.get_type_hints(annotation)
        return _valid_keys(hints.get(str(path[0])), path[1:])
    arguments = typing.get_args(annotation)
    container = typing.get_origin(annotation)
    steps = isinstance(container, type) and issubclass(container, (Mapping, tuple, list))
    inner = path[1:] if steps else path
    return set().union(*(_valid_keys(argument, inner) for argument in arguments))


def _invalid_value(path: Sequence[Key], items: Sequence[Any]) -> str:
    if items[0]["type"] == "missing":
        return f"{_dotted(path)!r} is missing"
    if items[0]["type"] in ("value_error", "assertion_error"):
        where = f"{_dotted(path)!r}: " if path else ""
        return f"{where}{' '.join(str(items[0]['ctx']['error']).split())}"
    if items[0]["type"] in _UNKNOWN:
        return f"key {_dotted(path)!r} does not go with the others given there"
    expected = " or ".join(dict.fromkeys(_expected(item["msg"]) for item in items))
    return f"{_dotted(path)!r} must be {expected}, found {_shown(items[0]['input'])}"


def _expected(message: str) -> str:
    words = {
        "a valid dictionary": "a mapping",
        "an object": "a mapping",
        "a valid array": "a list",
        "a valid number": "a number",
        "a valid integer": "an integer",
        "a valid boolean": "true or false",
        "a valid string": "a string",
    }
    text = re.sub(r"^Input should (be )?", "", message)
    return words.get(text.split(",")[0], text)


def _dotted(path: Sequence[Key]) -> str:
    return ".".join(map(str, path))


def _shown(value: Any) -> str:
    return " ".join(reprlib.repr(value).split())
