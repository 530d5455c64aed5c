"""What `conf/`, the folders of plugins and of --config-dir hold: groups, choices, keys with their comments. Read as text, without Hydra."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path

from trainer.config import plugins
from trainer.process.interpreter import ROOT


@dataclass(frozen=True)
class Key:
    """A key of a config file, as its comment describes it."""

    name: str
    default: str
    comment: str


def conf_folder() -> Path:
    return ROOT / "conf"


_joined: list[Path] = []  # the folders of the command at hand


def added(arguments: Sequence[str]) -> list[Path]:
    """The folders of configs that a command line adds."""
    found: list[Path] = []
    for argument, value in zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, own = argument.partition("=")
        if name in ("--config-dir", "-cd") and (own if equals else value):
            found.append(Path(own if equals else value).absolute())
        elif name.lstrip("+") == "hydra.searchpath":
            found.extend(Path(folder) for folder in re.findall(r"file://([^,'\"\]]+)", own))
    return found


def join(arguments: Sequence[str]) -> None:
    """Has the folders that a command line adds looked into from here on, in place of those of the one before."""
    _joined[:] = added(arguments)


def joined() -> list[Path]:
    """What `join` was given."""
    return list(_joined)


def folders() -> list[Path]:
    """All that hold choices; of two of a name the first one counts, as with Hydra."""
    return [conf_folder(), *plugins.conf_folders(), *_joined]


def groups() -> list[str]:
    """The config groups of a job, in the order of the primary config, others after; at the end those that only a folder of the
    command line has."""
    own = _own_groups()
    known = (*own, *study_groups(), "hydra")
    added = {p.name for folder in _joined if folder.is_dir() for p in folder.iterdir() if any(p.glob("*.yaml"))}
    return [*own, *sorted(added.difference(known))]


@lru_cache(maxsize=1)
def _own_groups() -> list[str]:
    folder = conf_folder()
    present = [p.name for p in sorted(folder.iterdir()) if p.is_dir() and p.name != "hydra" and any(p.glob("*.yaml"))]
    named = [group for group in _named("config") if group in present]
    return named + [group for group in present if group not in (*named, *study_groups())]


@lru_cache(maxsize=1)
def study_groups() -> list[str]:
    """The config groups that a study has beside a job's."""
    return [group for group in _named("tune") if group not in _named("config")]


def _named(primary: str) -> list[str]:
    """The groups that a primary config names."""
    path = conf_folder() / f"{primary}.yaml"
    return re.findall(r"^  - (\w+):", path.read_text(encoding="utf-8"), flags=re.M)


def own_choices(group: str) -> list[str]:
    """The files of a group, without `.yaml`; [] if there is no such group."""
    return sorted(p.stem for p in (conf_folder() / group).glob("*.yaml"))


def choices(group: str, *, made: bool = True) -> list[str]:
    """The choices of a group, those of plugins and of --config-dir included. made: also those that bring no file."""
    found = {
        path.relative_to(folder / group).with_suffix("").as_posix()
        for folder in folders()
        for path in (folder / group).rglob("*.yaml")
    }
    return sorted(found | {p.name for p in plugins.installed() if made and p.noun == group})


def file_of(group: str, choice: str) -> Path | None:
    """A choice's file: Headway's own, else a plugin's, else of --config-dir; None if there is none."""
    places = (folder / group / f"{choice}.yaml" for folder in folders())
    return next((place for place in places if place.is_file()), None)


def summary(group: str, choice: str) -> str:
    """The first comment of a choice's file."""
    path = file_of(group, choice)
    for line in path.read_text(encoding="utf-8").splitlines() if path else ():
        if line.startswith("#") and not line.startswith("# @package") and not line.startswith("# headway"):
            return line.lstrip("# ").rstrip()
    return ""


def keys(group: str, choice: str) -> list[Key]:
    """The keys of a choice, dotted, with their defaults and comments; those it inherits come first."""
    path = file_of(group, choice)
    if path is None:
        return []
    found: dict[str, Key] = {}
    for base in bases(group, choice, path.read_text(encoding="utf-8").splitlines()):
        found.update({key.name: key for key in keys(group, base)})
    for key in keys_of(path):
        known = found.get(key.name)
        found[key.name] = Key(key.name, key.default, key.comment or (known.comment if known else ""))
    return list(found.values())


def bases(group: str, choice: str, lines: list[str]) -> list[str]:
    """The choices of the same group that a choice's file, given as lines, starts from."""
    defaults = re.search(r"^defaults:((?:.|\n +- |\n- )*)", "\n".join(lines), flags=re.M)
    named = re.findall(r"\w+", defaults.group(1)) if defaults else []
    return [base for base in named if base in choices(group) and base != choice]


def keys_of(path: Path) -> list[Key]:
    """The keys that stand in one file, each with the comment above it or behind it."""
    found: list[Key] = []
    comment: list[str] = []
    parents: list[tuple[int, str]] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for line in (text for number, text in enumerate(lines) if number not in _space_lines(lines)):
        if match := re.match(r" *# ?(.*)", line):
            comment.append(match.group(1))
            continue
        if match := re.match(r"( *)([A-Za-z]\w*): *(.*)", line):
            indent, name, default = len(match.group(1)), match.group(2), match.group(3)
            parents = [p for p in parents if p[0] < indent]
            dotted = ".".join([*(p[1] for p in parents), name])
            default, _, aside = default.partition("  #")
            if not default:
                parents.append((indent, name))
            elif dotted.split(".")[0] not in ("defaults", "hydra"):
                found.append(Key(dotted, default.strip(), " ".join(comment) or aside.strip()))
        comment = []
    return found


def searched(group: str, choice: str) -> list[str]:
    """The keys that a choice recommends to search, as it writes them; of those it inherits what it doesn't take out."""
    path = file_of(group, choice)
    lines = path.read_text(encoding="utf-8").splitlines() if path else []
    found: dict[str, None] = {}
    for base in bases(group, choice, lines):
        found.update(dict.fromkeys(searched(group, base)))
    for line in (lines[number] for number in sorted(_space_lines(lines))):
        if match := re.match(r"  ([A-Za-z][\w.]*): *(null\b)?", line):
            found[match[1]] = None
            if match[2]:
                del found[match[1]]
    return list(found)


def _space_lines(lines: list[str]) -> range:
    """Where in a file its recommended space stands: the line `_space_:` and those set in below it."""
    start = next((number for number, line in enumerate(lines) if line.startswith("_space_:")), len(lines))
    rest = range(start + 1, len(lines))
    return range(start, next((n for n in rest if lines[n].strip() and not lines[n].startswith(" ")), len(lines)))


def known_keys() -> list[str]:
    """Every dotted key that some choice has, for messages that name the nearest."""
    known = [group for group in (*groups(), *study_groups()) if group != "experiment"]
    return sorted(
        {f"{group}.{key.name}" for group in known for choice in choices(group) for key in keys(group, choice)}
    )
