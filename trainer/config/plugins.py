"""What installed packages add to Headway: entry points, and the config files that come with them. Imports none of them.

    [project.entry-points."headway.algorithms"]
    forest = "my_package.forest:Forest"         # algorithm=forest
    my_package/conf/algorithm/forest.yaml       # its defaults and recommended space; without it, its signature

The metadata is read as files: `importlib.metadata` alone takes longer to import than composing a config.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

NOUNS = {
    "headway.algorithms": "algorithm",
    "headway.data": "data",
    "headway.launchers": "launcher",
    "headway.trackers": "tracking",
}
OURS = "headway"


@dataclass(frozen=True)
class Plugin:
    """One entry point: `NOUN=NAME` is `target`, which comes with this package."""

    noun: str
    name: str
    target: str
    package: str
    version: str

    @property
    def origin(self) -> str:
        return f"{self.package} {self.version}".strip()


def installed(*, here: bool = True) -> tuple[Plugin, ...]:
    """Every entry point of packages other than Headway, by package and name. here: also of the working folder, where it is
    on the path because Headway puts it there."""
    folder = os.getcwd()
    given = here or folder in os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return _installed(tuple(path for path in sys.path if given or (path or folder) != folder), folder)


def named(noun: str, name: str) -> Plugin | None:
    """The plugin of this name; of several the first package counts."""
    return next((p for p in installed() if (p.noun, p.name) == (noun, name)), None)


def conf_folders(*, here: bool = True) -> dict[Path, str]:
    """The folders of config files that plugins bring along, and whose they are."""
    found = {_conf_of(plugin.target.partition(".")[0]): plugin.origin for plugin in installed(here=here)}
    return {folder: origin for folder, origin in found.items() if folder is not None}


def _conf_of(package: str) -> Path | None:
    try:
        spec = find_spec(package)  # of a top-level name: runs nothing
    except (ValueError, ImportError):
        return None
    places = [Path(place, "conf") for place in (spec.submodule_search_locations or ())] if spec else []
    return next((place for place in places if place.is_dir()), None)


@lru_cache(maxsize=8)
def _installed(path: tuple[str, ...], folder: str) -> tuple[Plugin, ...]:
    seen: set[str] = set()
    found: list[Plugin] = []
    for metadata in (metadata for entry in path for metadata in _metadata(entry or folder)):
        name, _, version = metadata.name.rpartition(".")[0].partition("-")
        name = re.sub(r"[-_.]+", "-", name).lower()
        if name in seen:  # the first on the path counts
            continue
        seen.add(name)
        try:
            text = (metadata / "entry_points.txt").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if name != OURS and "[headway." in text:
            found += _entries(text, name, version.partition("-")[0])
    return tuple(sorted(found, key=lambda p: (p.package, p.noun, p.name)))


def _metadata(entry: str) -> list[Path]:
    try:
        with os.scandir(entry) as inside:
            return [Path(e.path) for e in inside if e.name.endswith((".dist-info", ".egg-info"))]
    except OSError:
        return []


def _entries(text: str, package: str, version: str) -> Iterator[Plugin]:
    noun = None
    for line in map(str.strip, text.splitlines()):
        if section := re.fullmatch(r"\[(.+)\]", line):
            noun = NOUNS.get(section[1].strip())
        elif noun and (match := re.fullmatch(r"([^=#;]+?)\s*=\s*([\w.]+)\s*(?::\s*([\w.]+))?\s*(?:\[.*\])?", line)):
            yield Plugin(noun, match[1], ".".join(filter(None, match.groups()[1:])), package, version)
