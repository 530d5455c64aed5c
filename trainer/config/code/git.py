"""A git work tree as it is: its files, its commit, what differs from that. Never changes it, nor takes its locks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

PATIENCE = 60.0  # seconds for git to answer; a large tree on a slow disk takes some


def root_of(folder: Path) -> Path | None:
    """The work tree that a folder lies in. None if there is none, and for a home folder: all that a person has is no
    project."""
    tree = next((place for place in (folder, *folder.parents) if (place / ".git").exists()), None)
    return None if tree == Path(os.path.realpath(Path.home())) else tree


def files(tree: Path, skip: tuple[str, ...]) -> dict[str, bool] | None:
    """The files that are tracked (True), and those that are neither tracked nor ignored (False); None if git can't
    tell. skip: names of folders in which nobody looks for the latter."""
    excluded = [f"--exclude={name}/" for name in skip]
    listed = _git(tree, "ls-files", "--cached", "--others", "--exclude-standard", *excluded, "-t", "-z")
    if listed is None:
        return None
    return {entry[2:]: entry[0] != "?" for entry in os.fsdecode(listed).split("\0") if entry}


def state(tree: Path, *, untracked: bool = True, skip: tuple[str, ...] = ()) -> dict[str, Any] | None:
    """root, commit (None before the first), branch (None if none is checked out) and whether anything differs from the
    commit; None if git can't tell. untracked: files that git doesn't know count too, but for folders of `skip`."""
    mode = "normal" if untracked else "no"
    told = _git(tree, "status", "--porcelain=v2", "--branch", f"--untracked-files={mode}")
    if told is None:
        return None
    lines = os.fsdecode(told).splitlines()
    heads = {key: value for _, key, value in (line.split(" ", 2) for line in lines if line.startswith("# branch."))}
    commit, branch = heads.get("branch.oid"), heads.get("branch.head")
    return {
        "root": str(tree),
        "commit": None if commit == "(initial)" else commit,
        "branch": None if branch == "(detached)" else branch,
        "dirty": any(not line.startswith(("#", *(f"? {name}/" for name in skip))) for line in lines),
    }


def diff(tree: Path) -> bytes:
    """What differs from the commit in tracked files, for `git apply`; empty if nothing does."""
    return _git(tree, "diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--no-textconv") or b""


def _git(tree: Path, *arguments: str) -> bytes | None:
    """What git prints; None if it isn't here, refuses, or takes too long."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", str(tree), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
