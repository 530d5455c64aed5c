"""Which targets are installed on this machine: those of Headway's own choices, and those that packages bring.

What a stranger's job or model names is built only if it is one of these. What lies in the working folder is installed by
nobody, unless PYTHONPATH names that folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.config import plugins
from trainer.config.conf_files import conf_folder

OWN = {"launcher": ("launchers.hosts.Hosts",)}  # chosen by no file


def targets(noun: str) -> set[str]:
    """The classes that `NOUN=…` may mean without code of a user's own."""
    entries = {plugin.target for plugin in plugins.installed(here=False) if plugin.noun == noun}
    named = {target for path in _files(noun) if (target := _target(path))}
    return {*OWN.get(noun, ()), *entries, *named}


def nested(noun: str, target: str) -> set[str]:
    """The targets that the config files of an installed one name among its settings."""
    import yaml

    files = [path for path in _files(noun) if _target(path) == target]
    return {name for path in files for name in inner_targets(yaml.safe_load(path.read_text(encoding="utf-8")))}


def inner_targets(node: Any) -> Iterator[str]:
    """The targets that a config's node names below its own."""
    inside = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for value in inside:
        if isinstance(value, dict) and "_target_" in value:
            yield str(value["_target_"])
        yield from inner_targets(value)


def _files(noun: str) -> list[Path]:
    folders = [conf_folder(), *plugins.conf_folders(here=False)]
    return [path for folder in folders for path in sorted((folder / noun).glob("*.yaml"))]


def _target(path: Path) -> str:
    found = re.search(r"^_target_: *['\"]?([\w.]+)", path.read_text(encoding="utf-8"), flags=re.M)
    return found[1] if found else ""
