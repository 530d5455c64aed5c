"""Classes of the user's own as choices of a config group: Hydra gets a choice that is made from the class's signature.

algorithm=./my_algorithm.py:Mine     a file, whose folder joins the path
algorithm._target_=my_package.Mine   what can be imported
algorithm=its_name                   a plugin that brings no config file
"""

from __future__ import annotations

import ast
import difflib
import importlib
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainer.config import plugins
from trainer.config.code.base_classes import kind
from trainer.config.code.signature import UNKNOWN, settings_of
from trainer.config.code.source import Source, locate
from trainer.config.code.static_check import refuse
from trainer.config.conf_files import choices, own_choices
from trainer.config.conversion import Mismatch, convert
from trainer.config.schema import TARGETS
from trainer.errors import UserError

FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<name>[\w.]*))?")
CHOICE = re.compile(rf"(?P<plus>\+{{0,2}})(?P<noun>{'|'.join(TARGETS)})(?P<target>\._target_)?=(?P<value>.+)")


def portable(arguments: Sequence[str]) -> list[str]:
    """The arguments with files named as what can be imported, `algorithm._target_=my_algorithm.Mine`: in any folder
    where the job's code is found they mean the same. Raises UserError."""
    found = []
    for argument in arguments:
        match = CHOICE.fullmatch(argument)
        is_file = match is not None and not match["target"] and FILE.fullmatch(_unquoted(match["value"]))
        if match is not None and is_file:
            argument = f"{match['noun']}._target_={from_file(match['noun'], _unquoted(match['value']))}"
        found.append(argument)
    return found


def resolved(arguments: Sequence[str]) -> list[str]:
    """The arguments as Hydra understands them, choices made known to it. A class's settings need no `+`, and may have one.

    Raises UserError for a file or class that isn't there, or is none to choose.
    """
    open_nouns: set[str] = set()
    found: list[str] = []
    for argument in arguments:
        match = CHOICE.fullmatch(argument)
        if match is None:
            found.append(argument)
            continue
        noun, value = match["noun"], _unquoted(match["value"])
        values = [value] if FILE.fullmatch(value) and Path(value.rpartition(":")[0]).is_file() else value.split(",")
        try:
            targets = [_target(noun, v.strip(), bool(match["target"])) for v in values]
        except UserError:
            if not match["target"]:
                raise
            targets = [None]  # composed all the same; the check says what is wrong
        if any(targets):
            names = [store(noun, t) if t else v for t, v in zip(targets, values, strict=True)]
            found = [a for a in found if not a.startswith(f"{noun}=")] if match["target"] else found
            found.append(f"{noun}={','.join(names)}")
        else:
            found.append(argument)
        if any(targets) or match["target"] or any(v not in own_choices(noun) for v in values):
            open_nouns.add(noun)
    return [_opened(argument, open_nouns) for argument in found]


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def _target(noun: str, value: str, is_target: bool) -> str | None:
    """What a value names, if it names a class; None for what Hydra itself finds."""
    if is_target:
        return _checked(value, noun, f"{noun}._target_") if re.fullmatch(r"\w+(\.\w+)+", value) else None
    if FILE.fullmatch(value):
        return from_file(noun, value)
    if value in choices(noun, made=False):
        return None
    plugin = plugins.named(noun, value)
    return _checked(plugin.target, noun, f"{noun}={value} of {plugin.origin}") if plugin else None


def target_of(argument: str) -> str | None:
    """The class that `algorithm=./file.py:Mine` and the like name; None if the argument names none."""
    match = CHOICE.fullmatch(argument)
    return _target(match["noun"], _unquoted(match["value"]), bool(match["target"])) if match else None


def _opened(argument: str, nouns: set[str]) -> str:
    """A key of the user's own class may be set whether its signature tells it or not."""
    key = argument.partition("=")[0]
    bare = key.lstrip("+")
    noun, dot, name = bare.partition(".")
    if "=" in argument and dot and noun in nouns and name != "_target_" and not key.startswith("~"):
        return f"++{bare}{argument[len(key) :]}"
    return argument


def from_file(noun: str, text: str) -> str:
    """The target of `FILE.py:NAME`, its folder made to be one in which Python looks. Raises UserError."""
    match = FILE.fullmatch(text)
    assert match is not None
    where, path = f"{noun}={text}", Path(match["path"]).expanduser().absolute()
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, near, n=1)
        raise UserError(f"{where}: there is no file {path}" + (f"; did you mean {close[0]!r}?" if close else ""))
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():  # a module of a package: its imports are relative to that
        root, parts = root.parent, [root.name, *parts]
    if not all(part.isidentifier() for part in parts):
        wrong = next(part for part in parts if not part.isidentifier())
        raise UserError(f"{where}: {wrong!r} can't be a module's name; rename it, with letters, digits and _ alone")
    if str(root) not in sys.path:
        sys.path.append(str(root))
        importlib.invalidate_caches()
    _check_is_first(where, root, parts)
    module = ".".join(parts)
    if not match["name"]:
        raise UserError(
            f"{where}: name the class or function in it too, as {noun}={match['path']}:{_any_of(noun, module)}"
        )
    return _checked(f"{module}.{match['name']}", noun, where)


def _check_is_first(where: str, root: Path, parts: list[str]) -> None:
    """Raises UserError if Python finds another module of that name."""
    spec = find_spec(parts[0])
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    there = places[0] if places else Path(spec.origin) if spec and spec.origin else None
    here = root / (parts[0] if len(parts) > 1 else f"{parts[0]}.py")
    if there is None or there.resolve() != here.resolve():
        raise UserError(
            f"{where}: Python knows another module {parts[0]!r} ({there or 'built in'}); give the file another name"
        )


def _any_of(noun: str, module: str) -> str:
    source, _ = locate(f"{module}._")
    names = source.classes() if source else []
    of_kind = [n for n in names if noun != "algorithm" or kind(f"{module}.{n}") in ("Module", "Estimator")]
    return next(iter([*of_kind, *(_loops(source) if source and noun == "algorithm" else [])]), "NAME")


def _loops(source: Source) -> list[str]:
    """The functions of a module whose first argument is called context."""
    found = [s for s in source.top.values() if isinstance(s, ast.FunctionDef)]
    return [s.name for s in found if s.args.args and s.args.args[0].arg == "context"]


def _checked(target: str, noun: str, where: str) -> str:
    """The target. Raises UserError if it isn't there, or an algorithm that is none."""
    try:
        settings_of(target, noun)
        refuse(target, noun)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return target


def store(noun: str, target: str) -> str:
    """Makes a choice of a target known to Hydra. Returns its name."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(group=noun, name=target, node=node(noun, target), provider="headway")
    return target


def node(noun: str, target: str) -> dict[str, Any]:
    """A target and its defaults, as its config file would have them; `???` where a value is needed.

    Defaults that a config can't hold, or that aren't what their hint says, stay its own.
    """
    signature = settings_of(target, noun)
    found: dict[str, Any] = {"_target_": target}
    for parameter in signature.parameters if signature else ():
        if parameter.required:
            found[parameter.name] = "???"
        elif is_plain(parameter.default):
            try:
                found[parameter.name] = convert(parameter.default, parameter.type)
            except Mismatch:
                continue
    return found


def is_plain(value: Any) -> bool:
    """Whether a config can hold a default, and gives it back as it was."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, str):
        return value not in (UNKNOWN, "???") and "${" not in value
    return value is None or isinstance(value, bool | int | float)
