"""Checkpoints as files: layout, commit, verification, the newest complete one, retention. Knows nothing of tensors.

A checkpoint is a folder `step-00001200` whose `manifest.json`, written last, lists every file with size and checksum.
Without a manifest that matches it does not exist. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

MANIFEST = "manifest.json"
PREFIX = "step-"


def folder(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lies once it is complete."""
    return root / f"{PREFIX}{step:08d}"


def partial(root: Path, step: int) -> Path:
    """Where it is written until then."""
    return root / f".{PREFIX}{step:08d}.partial"


def clear_partial(root: Path) -> None:
    """Deletes what was being written when the disk was full."""
    for place in root.glob(f".{PREFIX}*.partial"):
        shutil.rmtree(place, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def begin(root: Path, step: int) -> Path:
    """An empty folder to write the checkpoint's files to."""
    place = partial(root, step)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def commit(root: Path, step: int) -> Path:
    """Makes the written files the checkpoint of `step`: checksums, sync, manifest, then one rename."""
    place, target = partial(root, step), folder(root, step)
    files = {}
    for path in sorted(p for p in place.iterdir() if p.name != MANIFEST):
        files[path.name] = {"size": path.stat().st_size, "sha256": _digest(path)}
        _sync(path)
    with open(place / MANIFEST, "w", encoding="utf-8") as file:
        json.dump({"step": step, "files": files}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    _sync(place)
    if target.exists():
        shutil.rmtree(target)
    os.replace(place, target)
    _sync(root)
    return target


def problem(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None if it is whole."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
    except FileNotFoundError:
        return "it has no manifest"
    except (ValueError, KeyError, TypeError):
        return "its manifest is damaged"
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["size"]:
            return f"{name} has {path.stat().st_size} bytes instead of {expected['size']}"
        if _digest(path) != expected["sha256"]:
            return f"{name} has another checksum"
    return None


@dataclass(frozen=True)
class Found:
    """The newest complete checkpoint, if any, and those passed over on the way, with the reason."""

    checkpoint: Path | None
    passed_over: list[tuple[Path, str]] = field(default_factory=list)


def newest(root: Path) -> Found:
    """The newest checkpoint that is whole."""
    passed_over: list[tuple[Path, str]] = []
    for checkpoint in reversed(listing(root)):
        reason = problem(checkpoint)
        if reason is None:
            return Found(checkpoint, passed_over)
        passed_over.append((checkpoint, reason))
    return Found(None, passed_over)


def listing(root: Path) -> list[Path]:
    """All folders that claim to be checkpoints, oldest first."""
    if not root.is_dir():
        return []
    return sorted((p for p in root.iterdir() if p.name.startswith(PREFIX) and p.is_dir()), key=step_of)


def retain(root: Path, keep: int) -> None:
    """Deletes all but the `keep` newest checkpoints."""
    for checkpoint in listing(root)[:-keep]:
        (checkpoint / MANIFEST).unlink(missing_ok=True)  # first: half a checkpoint must not look whole
        shutil.rmtree(checkpoint)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
