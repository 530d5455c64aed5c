"""What is set from Python, in strings, dicts and keywords, as the overrides that a command line has."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from trainer.errors import UserError

Overrides = Sequence[str] | Mapping[str, Any]

_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)  # what needs no quotes, if it isn't one of these
_MEANT_OTHERWISE = {"null", "true", "false", "nan", "inf"}
_AS_IT_IS = object()  # in place of the value of what was given as a whole override
_IN_KEYS = re.compile(r"([\\()\[\]{}:=, \t])")  # of a mapping, whose keys Hydra takes without quotes


def settings(overrides: Overrides, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys and their values, in order, of two of a key the last one. A string stays whole, as a key: it is as on a
    command line. Raises UserError for what is neither strings nor a dict."""
    if isinstance(overrides, str):
        raise UserError(f'overrides: {overrides!r} is one text; write a list, ["KEY=VALUE", …], or a dict')
    found: dict[str, Any] = {}
    if isinstance(overrides, Mapping):
        found.update(_flat(overrides, ""))
    elif not isinstance(overrides, Sequence):
        raise UserError(
            f'overrides: they are a list, ["KEY=VALUE", …], or a dict, not a {type(overrides).__name__}; rows are data=…'
        )
    else:
        for one in overrides:
            if not isinstance(one, str):
                raise UserError(f'overrides: {one!r} is no text such as "KEY=VALUE"; of values write a dict')
            found[one] = _AS_IT_IS
    for key, value in _flat(keywords, ""):
        for earlier in [one for one in found if one.partition("=")[0] == key]:
            del found[earlier]
        found[key] = value
    return found


def written(found: Mapping[str, Any]) -> list[str]:
    """The settings as Hydra's overrides: each value is what it is in Python, text in quotes where it would be read otherwise."""
    return [key if value is _AS_IT_IS else _override(key, value, _quoted) for key, value in found.items()]


def written_as_yaml(found: Mapping[str, Any]) -> list[str]:
    """The same with values in YAML, as `headway resume` reads them."""
    return [key if value is _AS_IT_IS else _override(key, value, json.dumps) for key, value in found.items()]


def plain(value: Any, key: str) -> Any:
    """A value as files of a config have it: NumPy's numbers and arrays as Python's, paths as text. Raises UserError for what
    can't be in one."""
    if value is None or isinstance(value, (bool, int, float, str)):
        for kind in (bool, float, str):  # also of NumPy's, which are subclasses of these two
            if isinstance(value, kind):
                return kind(value)
        return value if value is None else int(value)
    if isinstance(value, os.PathLike) and isinstance(path := os.fspath(value), str):
        return path
    if isinstance(value, Mapping):
        return {name: plain(one, f"{key}.{name}") for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one, key) for one in value]
    if hasattr(value, "tolist"):  # of NumPy
        return plain(value.tolist(), key)
    hint = "; write its place, 'FILE.py:NAME'" if isinstance(value, type) or callable(value) else ""
    hint = "; rows are data, data.train, data.validation or data.test" if hasattr(value, "iloc") else hint
    raise UserError(
        f"{key}: a config can't hold a value of type {type(value).__name__}, but numbers, text, lists and dicts{hint}"
    )


def _flat(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """What a nested dict sets, key by key. A key of the config that is itself a mapping keeps its dict."""
    for name, value in node.items():
        if not isinstance(name, str) or "=" in name:
            raise UserError(f"{prefix}{name!r}: a key is text such as 'train.epochs', with its value beside it")
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value and not _is_mapping(key):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _is_mapping(key: str) -> bool:
    from trainer.config.conf_files import known_keys

    return key.lstrip("+") in known_keys()


def _override(key: str, value: Any, quoted: Callable[[str], str]) -> str:
    value = plain(value, key)
    if isinstance(value, dict) and value and not key.startswith("+"):
        key = f"++{key}"  # without it Hydra takes no keys that the default doesn't have
    return f"{key}={_text(value, quoted)}"


def _text(value: Any, quoted: Callable[[str], str]) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return re.sub(r"^(-?\d+)e", r"\1.0e", repr(value))  # YAML's numbers with an exponent have a point
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return f"[{','.join(_text(one, quoted) for one in value)}]"
    if isinstance(value, dict):
        names = {_key(str(name), quoted): _text(one, quoted) for name, one in value.items()}
        return "{" + ",".join(f"{name}: {one}" for name, one in names.items()) + "}"
    return str(value)


def _key(name: str, quoted: Callable[[str], str]) -> str:
    return _IN_KEYS.sub(_escaped, name) if quoted is _quoted else quoted(name)


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match[1]}"


def _quoted(text: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    if _WORD.fullmatch(text) and text.lower() not in _MEANT_OTHERWISE:
        return text
    # what a config would take for a reference to another key
    meant = re.sub(r"(\\*)\$\{", lambda match: f"{match[1] * 2}\\${{", text)
    return QuotedString(meant, Quote.single if '"' in meant else Quote.double).with_quotes()
