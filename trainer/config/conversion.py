"""A config's value as a type hint wants it: YAML leaves `1e-3` a string, and 1 may stand for 1.0."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from trainer.algorithm import Range
from trainer.errors import did_you_mean


class Mismatch(ValueError):
    """A value that is not of its type; the message says what it is not."""


def convert(value: Any, type_: Any) -> Any:
    """`value` as `type_`, a type hint of plain data; anything passes for a hint that isn't one of those.

    Raises Mismatch: `'abc' is not a number`.
    """
    origin, args = get_origin(type_), get_args(type_)
    if origin is Annotated:
        return _in_range(convert(value, args[0]), args[1:])
    if origin in (Union, types.UnionType):
        return _one_of(value, args)
    if origin is Literal:
        return _choice(value, args)
    if type_ is None or type_ is type(None):
        if value is None:
            return None
        raise Mismatch(f"{shown(value)} is not null")
    kind = origin or type_
    if kind in _CONVERT:
        return _CONVERT[kind](value, args)
    return value


def shown(value: Any) -> str:
    """A value as a config spells it."""
    return {None: "null", True: "true", False: "false"}[value] if _is_word(value) else repr(value)


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _in_range(value: Any, annotations: Sequence[Any]) -> Any:
    for bounds in annotations:
        if isinstance(bounds, Range) and isinstance(value, int | float) and not isinstance(value, bool):
            problem = bounds.problem(value)
            if problem:
                raise Mismatch(f"{value} {problem}")
    return value


def _one_of(value: Any, options: Sequence[Any]) -> Any:
    """The first option that takes the value as it is, else the first that can convert it."""
    problems = []
    converted = []
    for option in options:
        try:
            result = convert(value, option)
        except Mismatch as mismatch:
            problems.append((option, mismatch))
            continue
        if type(result) is type(value) and result == value:
            return result
        converted.append(result)
    if converted:
        return converted[0]
    telling = [p for o, p in problems if _takes(o, value)] or [p for o, p in problems if get_origin(o) is Literal]
    if telling and not _is_word(value):
        raise telling[0]
    raise Mismatch(f"{shown(value)} is not {' or '.join(dict.fromkeys(map(describe, options)))}")


def _takes(option: Any, value: Any) -> bool:
    """Whether the value has an option's type and fails on its bounds alone."""
    if get_origin(option) is not Annotated:
        return False
    try:
        convert(value, get_args(option)[0])
    except Mismatch:
        return False
    return True


def _choice(value: Any, choices: Sequence[Any]) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    names = [c if isinstance(c, str) else shown(c) for c in choices]
    raise Mismatch(f"{shown(value)} is not one of its choices; {did_you_mean(str(value), names)}")


def describe(type_: Any) -> str:
    """A type in a person's words: `a number`."""
    origin, args = get_origin(type_), get_args(type_)
    if origin is Annotated:
        return describe(args[0])
    if origin is Literal:
        return " or ".join(map(shown, args))
    if origin in (Union, types.UnionType):
        return " or ".join(map(describe, args))
    if type_ is None or type_ is type(None):
        return "null"
    return _WORDS.get(origin or type_, str(type_))


def _to_bool(value: Any, _: Sequence[Any]) -> bool:
    if isinstance(value, bool):
        return value
    raise Mismatch(f"{shown(value)} is not true or false")


def _to_int(value: Any, _: Sequence[Any]) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(value)
    if number is None or not number.is_integer():
        raise Mismatch(f"{shown(value)} is not a whole number")
    return int(number)


def _to_float(value: Any, _: Sequence[Any]) -> float:
    number = _number(value)
    if number is None or number != number:
        raise Mismatch(f"{shown(value)} is not a number")
    return value if isinstance(value, int) else number


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _to_str(value: Any, _: Sequence[Any]) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise Mismatch(f"{shown(value)} is not text")


def _to_list(value: Any, items: Sequence[Any]) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise Mismatch(f"{shown(value)} is not a list: write [{value}]")
    return [_inside(f"item {i}", v, items[0]) for i, v in enumerate(value)] if items else list(value)


def _to_tuple(value: Any, items: Sequence[Any]) -> list[Any]:
    """Stays a list, which is what YAML has."""
    if not items or items[-1] is Ellipsis:
        return _to_list(value, items[:1])
    values = _to_list(value, ())
    if len(values) != len(items):
        raise Mismatch(f"{values} has {len(values)} values where {len(items)} are asked for")
    return [_inside(f"item {i}", v, t) for i, (v, t) in enumerate(zip(values, items, strict=True))]


def _to_dict(value: Any, items: Sequence[Any]) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise Mismatch(f"{shown(value)} is not a mapping: write {{key: value}}")
    if len(items) != 2:
        return dict(value)
    return {_inside("key", k, items[0]): _inside(repr(k), v, items[1]) for k, v in value.items()}


def _inside(where: str, value: Any, type_: Any) -> Any:
    try:
        return convert(value, type_)
    except Mismatch as mismatch:
        raise Mismatch(f"{where}: {mismatch}") from None


_CONVERT: dict[Any, Any] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    str: _to_str,
    list: _to_list,
    Sequence: _to_list,
    tuple: _to_tuple,
    dict: _to_dict,
    Mapping: _to_dict,
}
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    Sequence: "a list",
    tuple: "a list",
    dict: "a mapping",
    Mapping: "a mapping",
}
