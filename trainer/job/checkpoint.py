"""Checkpoints as files: layout, commit, verification, the newest complete one, retention. Knows nothing of tensors.

A checkpoint is a folder `step-00001200` whose `manifest.json`, written last, lists every file with size and checksum.
Without a manifest that matches it does not exist. It is written in a hidden folder beside, made durable, then renamed.
Checksums are XXH3 (128 bits): they run at the speed of memory and are meant for what disks and networks do to bytes,
not for an adversary. Standard library only, but for the checksum itself.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.process import plain_file
from trainer.process.safe_path import NotBelow, below

MANIFEST = "manifest.json"
PREFIX = "step-"
CHECKSUM = "xxh3_128"
ORIGIN = "origin"  # in a manifest: another job, whose state this is
JOB = "job"  # in a manifest: which job wrote it, by `trainer.job.directory.Job.id`
PARTS = (
    "parts"  # in a manifest: nodes without a common folder wrote its files, and on S3 they lie in a folder of this name
)
BLOCK = 4 << 20  # bytes read or written at once


def folder(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lies once it is complete."""
    return root / f"{PREFIX}{step:08d}"


def partial(root: Path, step: int, tag: str = "") -> Path:
    """Where it is written until then. `tag`: whose attempt it is, so that no two ever write the same one."""
    return root / f".{PREFIX}{step:08d}{tag and '.'}{tag}.partial"


def clear_partial(root: Path) -> None:
    """Deletes what was being written when a worker died or the disk was full."""
    for place in (*root.glob(f".{PREFIX}*.partial"), *root.glob(f".{PREFIX}*.replaced")):
        shutil.rmtree(place, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def begin(root: Path, step: int, tag: str = "") -> Path:
    """The folder to write the checkpoint's files to; several workers may begin the same one."""
    place = partial(root, step, tag)
    place.mkdir(parents=True, exist_ok=True)
    return place


def clone(source: Path, root: Path, origin: str) -> Path:
    """Makes another job's checkpoint one of this job's, whose `root` this is; its manifest then names the `origin`.

    Its files are links to the same bytes where the disk can do that, else copies. Raises ValueError or OSError if it isn't
    whole, or is deleted meanwhile; there is then no new one.
    """
    manifest = read_manifest(source)
    files, step = manifest["files"], int(manifest["step"])
    shutil.rmtree(partial(root, step, "clone"), ignore_errors=True)
    place = begin(root, step, "clone")
    try:
        for name, line in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source / name, place / name)
            except OSError:
                shutil.copyfile(source / name, place / name)
            if entry(place / name) != {key: line[key] for key in ("size", CHECKSUM)}:
                raise ValueError(f"{name} is not what its manifest says")
        details = {key: value for key, value in manifest.items() if key not in ("step", "files", JOB)}
        return commit(root, step, "clone", files, details | {ORIGIN: origin})
    finally:
        shutil.rmtree(place, ignore_errors=True)


def checksum() -> Any:
    """A fresh checksum, with `update` and `hexdigest`."""
    import xxhash

    return xxhash.xxh3_128()


def entry(path: Path) -> dict[str, Any]:
    """A written file's line in the manifest, once its bytes are on the disk."""
    found = digest(path)
    sync(path)
    return {"size": path.stat().st_size, CHECKSUM: found}


def commit(
    root: Path, step: int, tag: str, files: Mapping[str, Mapping[str, Any]], details: Mapping[str, Any] | None = None
) -> Path:
    """Makes the written files the checkpoint of `step`: manifest, sync, then one rename.

    files: name to `entry`, of all workers. details: what else the manifest says (workers, metrics). With `PARTS` among
    them, only this node's files are here. Raises OSError, and then the checkpoint does not exist.
    """
    place, target = partial(root, step, tag), folder(root, step)
    here = files if PARTS not in (details or {}) else held(place, files)
    for name, line in here.items():
        size = (place / name).stat().st_size
        if size != line["size"]:
            raise OSError(f"{name} has {size} bytes on the disk instead of {line['size']}")
    with open(place / MANIFEST, "w", encoding="utf-8") as file:
        manifest = {"step": step, **(details or {}), "files": files}
        json.dump({**manifest, CHECKSUM: _sum_of(manifest)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    for directory in {place, *(place / name for name in here if "/" in name)}:
        sync(directory if directory == place else directory.parent)
    if target.exists():  # one that was passed over as damaged, or the same state written again
        replaced = root / f".{target.name}.{tag}.replaced"
        os.replace(target, replaced)
        os.replace(place, target)
        shutil.rmtree(replaced, ignore_errors=True)
    else:
        os.replace(place, target)
    sync(root)
    return target


def held(place: Path, files: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a checkpoint's files that lie in this folder."""
    return {name: line for name, line in files.items() if (place / name).is_file()}


def name_on_s3(manifest: Mapping[str, Any], name: str) -> str:
    """What a checkpoint's file is called beside its manifest on S3."""
    return f"{manifest[PARTS]}/{name}" if PARTS in manifest else name


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """The manifest. Raises ValueError with what is wrong with it."""
    try:
        manifest = json.loads(plain_file.content(checkpoint / MANIFEST))
        if manifest.pop(CHECKSUM) != _sum_of(manifest):
            raise ValueError
        for name in manifest["files"]:
            below(checkpoint, name)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError("it has no manifest") from None
    except (ValueError, KeyError, TypeError, AttributeError, NotBelow):
        raise ValueError("its manifest is damaged") from None
    return dict(manifest)


def _sum_of(manifest: Mapping[str, Any]) -> str:
    summed = checksum()
    summed.update(json.dumps(manifest, sort_keys=True).encode())
    return str(summed.hexdigest())


def problem(checkpoint: Path, *, content: bool = True, apart: bool = False) -> str | None:
    """What is wrong with a checkpoint, or None if it is whole. Without `content` only names and sizes are looked at; with
    `apart`, where its manifest says that other nodes have files of it, only at those that are here."""
    try:
        manifest = read_manifest(checkpoint)
    except ValueError as error:
        return str(error)
    files = held(checkpoint, manifest["files"]) if apart and PARTS in manifest else manifest["files"]
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["size"]:
            return f"{name} has {path.stat().st_size} bytes instead of {expected['size']}"
        if content and digest(path) != expected[CHECKSUM]:
            return f"{name} has another checksum"
    return None


@dataclass(frozen=True)
class Found:
    """The newest complete checkpoint, if any, and those passed over on the way, with the reason."""

    checkpoint: Path | None
    passed_over: list[tuple[Path, str]] = field(default_factory=list)


def newest(root: Path, *, before: int | None = None, content: bool = True) -> Found:
    """The newest checkpoint that is whole; `before`: of those before that step."""
    passed_over: list[tuple[Path, str]] = []
    for checkpoint in reversed(listing(root)):
        if before is not None and step_of(checkpoint) >= before:
            continue
        reason = problem(checkpoint, content=content)
        if reason is None:
            return Found(checkpoint, passed_over)
        passed_over.append((checkpoint, reason))
    return Found(None, passed_over)


def listing(root: Path) -> list[Path]:
    """All folders that claim to be checkpoints, oldest first."""
    if not root.is_dir():
        return []
    claims = (p for p in root.iterdir() if p.name.startswith(PREFIX) and p.name[len(PREFIX) :].isdigit())
    return sorted((p for p in claims if p.is_dir()), key=step_of)


@dataclass(frozen=True)
class Retention:
    """Which checkpoints are kept: the `newest` ones, and the `best` ones by a metric of their manifests."""

    newest: int = 2
    best: int = 0
    metric: str = "validation_loss"
    maximize: bool = False


def retain(root: Path, retention: Retention, written: Path | None = None, *, apart: bool = False) -> None:
    """Deletes what newer complete checkpoints replace. One that isn't whole counts for nothing; where nodes have no common
    folder (`apart`) one counts by its manifest, as files of others are not here.

    written: the one that was just written, which is known to be whole: those after it are not, and it went on before them.
    """
    whole = [c for c in listing(root) if problem(c, content=False, apart=apart) is None]
    if written is not None:
        whole = [c for c in whole if step_of(c) <= step_of(written)]
    kept = set(whole[-retention.newest :])
    if not kept:
        return
    if retention.best:
        kept |= set(sorted(whole, key=lambda c: _score(c, retention))[: retention.best])
    newest_whole = whole[-1]
    for checkpoint in listing(root):
        if checkpoint in kept or step_of(checkpoint) > step_of(newest_whole):
            continue
        (checkpoint / MANIFEST).unlink(missing_ok=True)  # first: half a checkpoint must not look whole
        shutil.rmtree(checkpoint, ignore_errors=True)


def _score(checkpoint: Path, retention: Retention) -> float:
    """Lower is better."""
    value = read_manifest(checkpoint).get("metrics", {}).get(retention.metric)
    if value is None or math.isnan(value):
        return math.inf
    return -float(value) if retention.maximize else float(value)


def digest(path: Path) -> str:
    """The checksum of a file's bytes."""
    summed = checksum()
    buffer = bytearray(min(BLOCK, max(1, path.stat().st_size)))
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            summed.update(view[:count])
    return str(summed.hexdigest())


def sync(path: Path) -> None:
    """Makes a file's bytes, or a folder's names, durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
