"""What travels with a submission, so that the job runs the same on another day, and elsewhere.

    code/                        the user's own code, as `trainer.config.code.own_code` tells it; agents and workers import it first
    submission/submission.json   when, by which command, where and with which Python; what `code/` is a copy of
    submission/diff.patch        what differs there from its commit
    submission/requirements.lock every installed distribution
    submission/code.zip          `code/` in one file, for a job on S3

Each submission takes the code anew, so that a correction counts when the job goes on. Code that isn't found any more, on
another day or in another folder, stays what it was.
"""

from __future__ import annotations

import filecmp
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.config import secret
from trainer.config.code import git, own_code
from trainer.errors import UserError
from trainer.job.code_archive import pack, replace
from trainer.job.code_path import CODE, RECORD, home, known
from trainer.job.directory import write_json
from trainer.job.private import as_umask_says
from trainer.process.format import size
from trainer.process.safe_path import below

LOCK, DIFF = "submission/requirements.lock", "submission/diff.patch"
DIFF_BYTES = 10_000_000  # at most
SHOWN = 3


def take(directory: Path, configs: Sequence[Mapping[str, Any]], *, archived: bool = False) -> list[str]:
    """Copies the user's own code of these configs into the directory of a job or study, and begins its record.

    archived: also into one file. Returns lines that a person should read. Raises UserError if it can't be written.
    """
    try:
        return _take(directory, configs, archived)
    except OSError as error:
        raise _refused(directory, error) from None


def _refused(directory: Path, error: OSError) -> UserError:
    words = error.strerror or str(error)
    return UserError(f"job.dir: the job's code can't be copied to {directory}: {words} ({error.filename})")


def _take(directory: Path, configs: Sequence[Mapping[str, Any]], archived: bool) -> list[str]:
    before, old = known(directory), home(directory) / CODE
    found = dict.fromkeys(module for config in configs for module in own_code.modules(config))
    there = Path(os.path.realpath(old))
    fresh = [module for module in found if not module.folder.is_relative_to(there)]
    kept = {module.folder.relative_to(there).parts[0] for module in found if module.folder.is_relative_to(there)}
    named = dict.fromkeys(path for config in configs if (path := own_code.whole(config)) is not None)
    whole = [path for path in named if path.is_dir()]
    gone = [str(path) for path in named if path not in whole]
    kept |= {piece["folder"] for piece in before.get("code", ()) if piece.get("whole") and piece["from"] in gone}
    pieces = [piece for piece in before.get("code", ()) if piece["folder"] in kept]
    told: list[str] = []
    if fresh or whole or not pieces or home(directory) != directory:
        beside = directory / f".{CODE}.partial"
        shutil.rmtree(beside, ignore_errors=True)
        for piece in pieces:
            source, target = below(old, piece["folder"]), below(beside, piece["folder"])
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        names = {piece["folder"] for piece in pieces}
        data = configs[0].get("data") or {}
        found_whole = [own_code.whole_project(path, data) for path in whole]
        for project in [*own_code.projects(fresh, data), *found_whole]:
            folder = _unused(project.root.name or "code", names)
            names.add(folder)
            piece = _copy(project, beside / folder, folder)
            if project in found_whole:
                piece["whole"] = True
            told += _changes(piece, before, beside, old)
            pieces.append(piece)
        replace(directory / CODE, beside)
    _begin_record(directory, pieces, archived)
    return told


def point(directory: Path, study: Path) -> None:
    """A trial runs the code of its study."""
    write_json(directory / RECORD, {"of": os.path.relpath(study, directory)}, durable=True)


def share(taken: Path, directory: Path) -> None:
    """Gives another job of the same submission what one has taken: the same files, without the room they take.

    Raises UserError if its directory can't be written.
    """
    try:
        beside = directory / f".{CODE}.partial"
        shutil.rmtree(beside, ignore_errors=True)
        if (taken / CODE).is_dir():
            shutil.copytree(taken / CODE, beside, copy_function=_link, ignore=shutil.ignore_patterns("__pycache__"))
        replace(directory / CODE, beside)
        submission = (directory / RECORD).parent
        shutil.rmtree(submission, ignore_errors=True)
        if (taken / RECORD).parent.is_dir():
            shutil.copytree((taken / RECORD).parent, submission, copy_function=_link)
    except OSError as error:
        raise _refused(directory, error) from None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def complete(directory: Path) -> list[str]:
    """Adds to the record what takes longer and no worker needs: commits, what differs from them, the installed
    distributions. To be called once the job has been submitted. Returns lines that a person should read."""
    try:
        _complete(directory)
    except OSError as error:  # the job itself runs
        return [f"{directory / RECORD} is not complete: {error.strerror} ({error.filename})"]
    return []


def _complete(directory: Path) -> None:
    from trainer.submission.requirements import (
        lock,  # what reads metadata takes a while to import: agents start meanwhile
    )

    told = known(directory)
    trees: dict[str, dict[str, Any] | None] = {}
    for piece in told.get("code", ()):
        tree = piece.get("tree")
        if "git" in piece:  # of an earlier submission
            continue
        if tree is not None and tree not in trees:
            trees[tree] = git.state(Path(tree), skip=own_code.SKIPPED)
            _write_diff(directory, Path(tree), trees[tree], piece["folder"])
        piece["git"] = trees.get(tree) if tree else None
    own = git.root_of(Path(os.path.realpath(os.getcwd())))
    told["git"] = trees[str(own)] if str(own) in trees else own and git.state(own, untracked=False)
    told["headway"] = _headway()
    lines = [f"# Python {platform.python_version()}, {sys.platform}, {platform.machine()}", *lock()]
    (directory / LOCK).unlink(missing_ok=True)  # it may be another job's too
    (directory / LOCK).write_text(secret.masked("\n".join(lines) + "\n"), encoding="utf-8")
    write_json(directory / RECORD, told, durable=True)


def _unused(name: str, names: set[str]) -> str:
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(names) + 3))) if n not in names)


def _copy(project: own_code.Project, target: Path, folder: str) -> dict[str, Any]:
    """Copies a project's files. Returns what the record says of it. Raises OSError if they can't be written."""
    made: set[Path] = set()
    files = 0
    for name in project.files:
        try:
            content = (project.root / name).read_bytes()
        except OSError as error:
            project.left_out.append({"path": name, "why": f"it can't be read: {error.strerror}"})
            continue
        path = target / name
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        path.write_bytes(content)
        shutil.copystat(project.root / name, path)
        as_umask_says(path)
        files += 1
    return {
        "folder": folder,
        "from": str(project.root),
        "tree": str(project.tree) if project.tree else None,
        "paths": [path for path in project.paths if (target / path).is_dir()],
        "files": files,
        "bytes": project.bytes,
        "left_out": project.left_out,
    }


def _changes(piece: Mapping[str, Any], before: Mapping[str, Any], beside: Path, old: Path) -> list[str]:
    """What a person should know of a copy: what isn't in it, and how it differs from the one before."""
    told = []
    missing = [f"{entry['path']} ({entry['why']})" for entry in piece["left_out"]]
    if missing:
        told.append(f"left out of the job's copy of {piece['from']}: {_some(missing)}")
    earlier = next((p for p in before.get("code", ()) if p["folder"] == piece["folder"]), None)
    if earlier is None:
        return told
    if earlier["from"] != piece["from"]:
        return [*told, f"the job's code is now that of {piece['from']}, before it was that of {earlier['from']}"]
    differing = _differing(below(old, piece["folder"]), beside / piece["folder"])
    return [*told, f"code that has changed since: {_some(differing)}"] if differing else told


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _differing(old: Path, new: Path) -> list[str]:
    """The files that are not the same in both."""
    names = {
        str(path.relative_to(root))
        for root in (old, new)
        for path in root.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    _, differing, missing = filecmp.cmpfiles(old, new, names, shallow=False)
    return sorted([*differing, *missing])


def _begin_record(directory: Path, pieces: list[dict[str, Any]], archived: bool) -> None:
    (directory / RECORD).parent.mkdir(exist_ok=True)
    if not any("git" in piece for piece in pieces):
        for path in (directory / RECORD).parent.glob("diff*.patch"):
            path.unlink()
    told = {
        "time": time.time(),
        "command": shlex.join(secret.masked_arguments(sys.orig_argv)),
        "folder": os.getcwd(),
        "host": platform.node(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "code": pieces,
    }
    if archived and pieces:
        told["archive"] = pack(directory)
    write_json(directory / RECORD, told, durable=True)


def _write_diff(directory: Path, tree: Path, state: dict[str, Any] | None, folder: str) -> None:
    """Keeps what differs from the commit in a file, which the state then names; that of a second tree has the folder's
    name in its own."""
    if state is None or not state["dirty"] or state["commit"] is None:
        return
    content = secret.masked_diff(git.diff(tree))
    if len(content) > DIFF_BYTES:
        state["diff"] = f"left out: {size(len(content))}, over {size(DIFF_BYTES)}"
    elif content:
        path = directory / DIFF
        path = path.with_name(f"diff-{folder}.patch") if path.exists() else path
        path.write_bytes(content)
        state["diff"] = path.name


def _headway() -> dict[str, Any]:
    """Which Headway this is: its version and, of a checkout, the commit."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("headway")
    except PackageNotFoundError:  # a folder on the path
        number = None
    tree = own_code.HEADWAY if (own_code.HEADWAY / ".git").exists() else None
    return {"version": number, "git": tree and git.state(tree, untracked=False)}
