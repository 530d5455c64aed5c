"""Python processes of ours start in a person's working folder: what lies there hides none of our modules, nor of Python's."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

SAFE_PATH = "PYTHONSAFEPATH"  # Python from 3.11 on then doesn't look in the working folder first
ROOT = Path(__file__).resolve().parents[1]


def safe() -> dict[str, str]:
    """What the environment of such a process needs; nothing in our own checkout, from where it may well run uninstalled."""
    return {} if Path.cwd() == ROOT else {SAFE_PATH: "1"}


def working_folder_last() -> None:
    """Puts the working folder last on the path: a user's code is found there, and no `trainer` or `conf` hides ours. For
    the beginning of a process."""
    os.environ.pop(SAFE_PATH, None)  # not for what is started from here
    folder = os.getcwd()
    if Path(folder) == ROOT:
        return
    sys.path[:] = [path for path in sys.path if path not in ("", folder)]
    for package in ("algorithms", "conf", "launchers"):
        import_module(package)
    sys.path.append(folder)
