"""Python processes of ours start in a person's working folder: what lies there hides none of our modules, nor of Python's."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

SAFE_PATH = "PYTHONSAFEPATH"  # Python from 3.11 on then doesn't look in the working folder first
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("algorithms", "conf", "launchers")


def safe() -> dict[str, str]:
    """What the environment of such a process needs; nothing in our own checkout, from where it may well run uninstalled."""
    return {} if Path.cwd() == ROOT else {SAFE_PATH: "1"}


def pin() -> None:
    """Sees that `algorithms`, `conf` and `launchers` are ours, whatever lies beside a person's script or notebook. One of
    these names that they have imported already stays theirs."""
    for package in PACKAGES:
        if package not in sys.modules and (spec := PathFinder.find_spec(package, [str(ROOT)])) and spec.loader:
            sys.modules[package] = module_from_spec(spec)
            spec.loader.exec_module(sys.modules[package])


def working_folder_last() -> None:
    """Puts the working folder last on the path: a user's code is found there, and no `trainer` or `conf` hides ours. For
    the beginning of a process."""
    os.environ.pop(SAFE_PATH, None)  # not for what is started from here
    folder = os.getcwd()
    if Path(folder) == ROOT:
        return
    sys.path[:] = [path for path in sys.path if path not in ("", folder)]
    for package in PACKAGES:
        import_module(package)
    sys.path.append(folder)
