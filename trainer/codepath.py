"""Where a job's own code lies: in the copy that its submission took, whatever has become of the place it came from.

    code/PROJECT/…               what was copied, a folder for each tree it came from
    submission/submission.json   which folders of it Python looked for code in, and what else is known of the submission

A trial of a study has no copy: its record names the study's directory instead. Standard library only.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.below import below
from trainer.job import read_json

CODE, RECORD = "code", "submission/submission.json"


def home(directory: Path) -> Path:
    """The directory that holds the code of a job: its own, or that of its study."""
    of = (read_json(directory / RECORD) or {}).get("of")
    return Path(os.path.normpath(directory / of)) if of else directory


def record(directory: Path) -> dict[str, Any]:
    """What is known of a job's submission; {} if nothing is."""
    return read_json(home(directory) / RECORD) or {}


def folders(directory: Path) -> list[str]:
    """The folders in which Python looks for a job's own code; none if it has none."""
    code = home(directory.absolute()) / CODE
    pieces = record(directory).get("code", ())
    names = [os.path.normpath(f"{piece['folder']}/{path}") for piece in pieces for path in piece["paths"]]
    return [str(folder) for folder in (below(code, name) for name in names) if folder.is_dir()]


def copy_of(directory: Path, folder: Path) -> Path | None:
    """The job's copy of a folder that travels with it as a whole; None if it has none."""
    pieces = [p for p in record(directory).get("code", ()) if p.get("whole") and p["from"] == str(folder)]
    copies = [below(home(directory.absolute()) / CODE, piece["folder"]) for piece in pieces]
    return next((copy for copy in copies if copy.is_dir()), None)


@contextmanager
def first(own: Sequence[str]) -> Iterator[None]:
    """Meanwhile these folders come first on the path, and on that of the workers this process starts."""
    sys.path[:0] = own
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in own:
            sys.path.remove(folder)


def last(directory: Path) -> None:
    """From now on a job's own code is found too, if nothing else of its name is."""
    sys.path += [folder for folder in folders(directory) if folder not in sys.path]
    importlib.invalidate_caches()
