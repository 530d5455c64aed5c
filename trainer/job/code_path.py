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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trainer.errors import DamagedFile
from trainer.job.directory import read_hint, read_json
from trainer.job.records import list_of, maybe, text, wrong
from trainer.job.records import record as record_of
from trainer.process.safe_path import below

CODE, RECORD = "code", "submission/submission.json"


def home(directory: Path) -> Path:
    """The directory that holds the code of a job: its own, or that of its study."""
    of = read_hint(directory / RECORD).get("of")
    return Path(os.path.normpath(directory / of)) if isinstance(of, str) else directory


def record(directory: Path) -> dict[str, Any]:
    """What is known of a job's submission; {} if nothing is. Raises DamagedFile."""
    path = home(directory) / RECORD
    found = read_json(path) or {}
    pieces = list_of(record_of({"folder": text, "from": text, "paths": list_of(text)}))
    if problem := wrong(found, {}, {"code": pieces, "archive": maybe(text)}):
        raise DamagedFile(path, problem)
    return found


def known(directory: Path) -> dict[str, Any]:
    """The same; {} too if it is damaged, for whoever takes the code anew."""
    with suppress(DamagedFile):
        return record(directory)
    return {}


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


def last(*directories: Path) -> None:
    """From now on the own code of these jobs or studies is found too, if nothing else of its name is, and if its record can be
    read. A folder that a command line adds may be one of them: the config beside a study's report names code that lies there.
    """
    for directory in directories:
        with suppress(DamagedFile):
            sys.path += [folder for folder in folders(directory) if folder not in sys.path]
    importlib.invalidate_caches()
