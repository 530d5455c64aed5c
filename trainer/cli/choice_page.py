"""A choice told in full: its settings with types, bounds, defaults and what they are, from what checks them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from trainer.algorithm import Algorithm, Range
from trainer.config.code import docstring
from trainer.config.code.base_classes import doc, kind
from trainer.config.code.signature import class_constant, settings_of
from trainer.config.conf_files import bases, file_of, keys
from trainer.config.conversion import describe, shown


@dataclass(frozen=True)
class Setting:
    """One key. default: `…` for one that its source alone doesn't tell. range: in words, empty if all values go."""

    name: str
    type: str
    default: Any
    required: bool
    range: str
    doc: str


def settings(target: str, noun: str, choice: str = "") -> list[Setting]:
    """What a target takes; where a choice's file says more of a key, what that says."""
    import yaml

    signature = settings_of(target, noun)
    told = {key.name: key for key in keys(noun, choice)} if choice else {}
    found = []
    for p in signature.parameters if signature else ():
        key = told.get(p.name)
        type_, bounds = described(p.type)
        default = yaml.safe_load(key.default) if key else p.default
        required = p.required and default in (None, "???")
        comment = (key.comment if key else "") or p.doc
        found.append(Setting(p.name, type_, None if required else default, required, bounds, comment))
    names = {s.name for s in found}
    if signature is None or signature.open:
        others = [key for key in told.values() if key.name not in names]
        found += [Setting(k.name, "", yaml.safe_load(k.default), False, "", k.comment) for k in others]
    return found


def described(type_: Any) -> tuple[str, str]:
    """A type, and the bounds within it, in a person's words."""
    if type_ is Any:
        return "anything", ""
    return describe(type_), ", ".join(dict.fromkeys(_bounds(type_)))


def _bounds(type_: Any) -> list[str]:
    if get_origin(type_) is Literal:
        return []
    found = []
    if get_origin(type_) is Annotated:
        found += [_words(note) for note in get_args(type_)[1:] if isinstance(note, Range)]
    return found + [text for part in get_args(type_) for text in _bounds(part)]


def _words(bounds: Range) -> str:
    pairs = (("above", bounds.above), ("from", bounds.min), ("below", bounds.below), ("up to", bounds.max))
    return " ".join(f"{word} {value:g}" for word, value in pairs if value is not None)


def facts(target: str, noun: str, choice: str = "") -> dict[str, Any]:
    """All about a choice, as `--json` prints it."""
    takes = class_constant(target, "takes")
    supervised = class_constant(target, "supervised")
    whole = docstring.summary(doc(target))
    found: dict[str, Any] = {"target": target, "kind": kind(target), "summary": whole, "doc": doc(target)}
    if noun == "algorithm" and found["kind"] in ("Module", "Estimator"):
        found["takes"] = sorted(Algorithm.takes if takes is None else takes)
        found["supervised"] = Algorithm.supervised if supervised is None else supervised
    found["settings"] = [asdict(setting) for setting in settings(target, noun, choice)]
    found["space"] = space(noun, choice) if choice else {}
    return found


def space(noun: str, choice: str) -> dict[str, Any]:
    """What a choice's file recommends to search, that of the choices it starts from included."""
    import yaml

    path = file_of(noun, choice)
    if path is None:
        return {}
    text = path.read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    for base in bases(noun, choice, text.splitlines()):
        found.update(space(noun, base))
    found.update((yaml.safe_load(text) or {}).get("_space_") or {})
    return {key: value for key, value in found.items() if value is not None}


def page(title: str, noun: str, target: str, choice: str = "") -> str:
    """It as a person reads it."""
    told = facts(target, noun, choice)
    lines = [f"{title}: {told['summary']}" if told["summary"] else title]
    lines += [f"  {told['kind'] or 'class'} {target}"]
    if "takes" in told:
        label = "with a label" if told["supervised"] else "with or without a label"
        lines += [f"  takes {', '.join(told['takes'])} data, {label}"]
    lines += ["", "Settings" if told["settings"] else "It has no settings."]
    for setting in told["settings"]:
        default = setting["default"]
        value = "=…  (needed)" if setting["required"] else f"={default if isinstance(default, str) else shown(default)}"
        kind_ = ", ".join(filter(None, (setting["type"], setting["range"])))
        lines += [f"  {noun}.{setting['name']}{value}" + (f"  {kind_}" if kind_ else "")]
        lines += textwrap.wrap(setting["doc"], 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    if told["space"]:
        lines += ["", "`headway tune` searches"]
        lines += [f"  {key}: {re.sub(chr(10), ' ', str(value))}" for key, value in told["space"].items()]
    return "\n".join(lines)
