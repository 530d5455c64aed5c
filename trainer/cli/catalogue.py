"""`headway algorithms`: what there is to train, where it comes from, and all about one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.config import plugins
from trainer.config.choices import FILE, from_file
from trainer.config.code import docstring
from trainer.config.code.base_classes import doc, kind
from trainer.config.code.signature import check, read_signature
from trainer.config.code.static_check import refuse
from trainer.config.conf_files import added, choices, conf_folder, file_of, join, joined, summary
from trainer.errors import UserError, did_you_mean
from trainer.job import code_path

NOUN = "algorithm"


@dataclass(frozen=True)
class Entry:
    """One algorithm of the table. origin: `headway`, or a package and its version. problem: why it can't be used."""

    name: str
    kind: str
    summary: str
    origin: str
    target: str
    problem: str | None = None


def entries() -> list[Entry]:
    """Headway's own by name, then those of plugins; one that is broken, or hidden by another, says so."""
    found = [_entry(name, "headway", _target_of(conf_folder() / NOUN / f"{name}.yaml")) for name in _own()]
    seen = {entry.name: entry.origin for entry in found}
    for plugin in (p for p in plugins.installed() if p.noun == NOUN):
        entry = _entry(plugin.name, plugin.origin, plugin.target)
        if plugin.name in seen and entry.problem is None:
            entry = Entry(**{**asdict(entry), "problem": f"not used: {seen[plugin.name]} has one of this name"})
        seen.setdefault(plugin.name, plugin.origin)
        found.append(entry)
    added = {folder: str(folder) for folder in joined()}
    for folder, origin in {**plugins.conf_folders(), **added}.items():  # presets that only a file names
        for path in sorted((folder / NOUN).rglob("*.yaml")):
            name = path.relative_to(folder / NOUN).with_suffix("").as_posix()
            if name not in seen:
                seen[name] = origin
                found.append(_entry(name, origin, _target_of(path)))
    return found


def _own() -> list[str]:
    return sorted(path.stem for path in (conf_folder() / NOUN).glob("*.yaml"))


def _entry(name: str, origin: str, target: str) -> Entry:
    path = file_of(NOUN, name)
    try:
        content = _read(path) if path else {}
        target = target or str(content.get("_target_", ""))
        signature = read_signature(target)
        refuse(target, NOUN)
        if path and origin != "headway" and content.get("_target_") == target and signature:
            check(content, target, f"{path}: {NOUN}")
    except UserError as error:
        return Entry(name, "", "", origin, target, f"broken: {error}")
    told = (summary(NOUN, name) if path else "") or docstring.summary(doc(target))
    return Entry(name, kind(target) or "", told, origin, target)


def _read(path: Path) -> dict[str, Any]:
    """A config file. Raises UserError for one that isn't YAML."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: it has no keys")
    return content


def _target_of(path: Path) -> str:
    """The class that a choice's file names, itself or by the choice it starts from; empty if none can be told."""
    try:
        content = _read(path)
    except UserError:
        return ""
    if content.get("_target_"):
        return str(content["_target_"])
    bases = [str(base) for base in content.get("defaults") or () if base != "_self_"]
    files = [file for base in bases if base != path.stem and (file := file_of(NOUN, base))]
    return next((target for file in files if (target := _target_of(file))), "")


def listed(*, as_json: bool) -> None:
    """Prints the table."""
    found = entries()
    if as_json:
        print(json.dumps([asdict(entry) for entry in found], indent=2))
        return
    from rich.table import Table
    from rich.text import Text

    from trainer.job.view.summary import make_console

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("algorithm", "kind", "from"):
        table.add_column(column, no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for entry in found:
        told = Text(entry.problem, "red") if entry.problem else Text(entry.summary)
        table.add_row(Text(entry.name, "bold"), Text(entry.kind), Text(entry.origin), told)
    make_console().print(table)


def told(name: str, *, as_json: bool) -> None:
    """Prints all about one: a name, a file's class, or what can be imported. Raises UserError if there is none."""
    from trainer.cli.choice_page import facts, page

    choice, target, origin = "", "", ""
    if FILE.fullmatch(name):
        target, title = from_file(NOUN, name), f"{NOUN}={name}"
    elif name in choices(NOUN):
        entry = next(entry for entry in entries() if entry.name == name)
        if entry.problem:
            raise UserError(f"{name} of {entry.origin} is {entry.problem}")
        choice = name if file_of(NOUN, name) else ""
        target, origin, title = entry.target, entry.origin, f"{NOUN}={name}"
    elif re.fullmatch(r"\w+(\.\w+)+", name):
        read_signature(name)
        refuse(name, NOUN)
        target, title = name, f"{NOUN}._target_={name}"
    else:
        raise UserError(f"{name}: there is no such algorithm; {did_you_mean(name, choices(NOUN))}")
    if as_json:
        print(json.dumps({"name": name, "from": origin or None, **facts(target, NOUN, choice)}, indent=2))
        return
    lines = page(title, NOUN, target, choice).splitlines()
    if origin:
        lines.insert(1, f"  from {origin}")
    print("\n".join(lines))


def algorithms(arguments: Sequence[str]) -> int:
    """Runs the verb. Returns the exit code."""
    from trainer.cli.arguments import Parser

    parser = Parser("algorithms", "Lists the algorithms that are installed, or tells all about one.")
    parser.add_argument("name", nargs="?", help="its name, ./FILE.py:CLASS, or package.module.Class")
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="a folder of your own config files")
    parser.add_json()
    args = parser.parse_args(list(arguments))
    command_line = ["--config-dir", args.config_dir or ""]
    join(command_line)
    code_path.last(*added(command_line))
    if args.name is None:
        listed(as_json=args.json)
    else:
        told(args.name.removeprefix(f"{NOUN}="), as_json=args.json)
    return 0
