"""Which of the modules that a config names are the user's own, and which files belong to them.

    in a git work tree   all files that git tracks, and those it neither tracks nor ignores
    elsewhere            the named module or package, and the modules and packages beside it

Data, environments, job directories and what is too large never belong to it.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainer.config.code import git
from trainer.config.code.signature import class_constant
from trainer.errors import UserError
from trainer.process.format import size

FILE_BYTES, TREE_BYTES = 10_000_000, 100_000_000  # at most
WHOLE_BYTES = 1_000_000_000  # of a folder that a setting names, at most
HEADWAY = Path(__file__).resolve().parents[3]
PACKAGES = ("trainer", "algorithms", "launchers", "conf")
LIBRARIES = {"site-packages", "dist-packages"}
SKIPPED = (".venv", "venv", "__pycache__", "node_modules", "runs", "studies", "multirun", "outputs")
DATA = {
    *(".csv", ".tsv", ".parquet", ".arrow", ".feather", ".jsonl", ".ndjson", ".libsvm", ".svm", ".npy", ".npz"),
    *(".h5", ".hdf5", ".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pkl", ".pickle", ".onnx", ".tfrecord"),
    *(".zip", ".gz", ".tar", ".tgz", ".xz", ".bz2", ".zst", ".whl", ".png", ".jpg", ".jpeg", ".mp4", ".wav"),
}


@dataclass(frozen=True)
class Module:
    """A top-level module of the user's, and the folder in which Python finds it; without links."""

    name: str
    folder: Path


@dataclass
class Project:
    """Files that belong together. paths: its folders in which Python looks for code, relative. tree: the git work tree
    that it is of. left_out: {path, why} of what one might look for in it."""

    root: Path
    tree: Path | None
    paths: list[str]
    files: list[str] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    bytes: int = 0


def modules(config: Any) -> list[Module]:
    """The user's own among the modules that a config names by `_target_`, at any depth. Runs nothing of them."""
    found = []
    for name in dict.fromkeys(target.split(".")[0] for target in _targets(config)):
        try:
            spec = find_spec(name)
        except ValueError:  # made at run time
            continue
        if spec is None:
            continue  # who needs it says so
        inside = list(spec.submodule_search_locations or ())
        if spec.origin:
            file = Path(os.path.realpath(spec.origin))
            found += [Module(name, file.parents[1] if inside else file.parent)] if _own(file) else []
        else:  # a package without __init__.py
            found += [
                Module(name, folder.parent) for folder in map(Path, map(os.path.realpath, inside)) if _own(folder)
            ]
    return found


def whole(config: Mapping[str, Any]) -> Path | None:
    """The folder of the user's that a setting of the algorithm names as its code, if there is one."""
    node = config.get("algorithm") or {}
    key = class_constant(str(node.get("_target_", "")), "travels")
    return Path(str(node[key])) if key and node.get(key) else None


def whole_project(folder: Path, data: Mapping[str, Any]) -> Project:
    """All of a folder but environments, jobs, caches and the data. Raises UserError if that is too much to copy."""
    given = [Path(os.path.realpath(str(path))) for path in _flat(list(data.values())) if os.path.isabs(str(path))]
    given = [path for path in given if path != Path(os.path.realpath(folder))]
    found = Project(folder, None, [])
    for place, inner, files in os.walk(folder):
        inner[:] = sorted(n for n in inner if n not in (*SKIPPED, ".git") and not _is_kept(Path(place, n)))
        for path in (Path(place, file) for file in sorted(files)):
            if path.is_file() and not any(Path(os.path.realpath(path)).is_relative_to(one) for one in given):
                found.files.append(str(path.relative_to(folder)))
                found.bytes += path.stat().st_size
    if found.bytes > WHOLE_BYTES:
        raise UserError(
            f"{folder}: {_too_large(found.bytes, WHOLE_BYTES)}; name a folder that holds the script and what it needs"
        )
    return found


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


def _own(path: Path) -> bool:
    ours = any(path.is_relative_to(HEADWAY / package) for package in PACKAGES)
    return path.exists() and not ours and not _of_library(path)


def _of_library(path: Path) -> bool:
    return bool(LIBRARIES & set(path.parts)) or any(path.is_relative_to(folder) for folder in _standard())


@lru_cache(maxsize=1)
def _standard() -> list[str]:
    return [os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]


def projects(own: list[Module], data: Mapping[str, Any]) -> list[Project]:
    """What these modules are part of. data: the config's node, whose files don't belong to it."""
    given = [Path(os.path.realpath(str(path))) for path in _flat(list(data.values())) if os.path.isabs(str(path))]
    given = [path for path in given if not any(module.folder.is_relative_to(path) for module in own)]
    by_tree: dict[Path | None, list[Module]] = {}
    for module in own:
        by_tree.setdefault(git.root_of(module.folder), []).append(module)
    found = []
    for tree, members in by_tree.items():
        whole = _whole(tree, members, given)
        if whole is not None and whole.bytes <= TREE_BYTES:
            found.append(whole)
            members = [module for module in members if not _holds(whole, module)]
        for folder in dict.fromkeys(module.folder for module in members):
            part = Project(folder, whole.tree if whole else None, ["."])
            names = _beside(folder, [module.name for module in members if module.folder == folder])
            _select(part, dict.fromkeys(names, False), given)
            if whole is not None and whole.bytes > TREE_BYTES:
                part.left_out.append({"path": str(tree), "why": _too_large(whole.bytes, TREE_BYTES)})
            if part.bytes > TREE_BYTES:
                part.left_out.append({"path": str(folder), "why": _too_large(part.bytes, TREE_BYTES)})
                part.files, part.paths, part.bytes = [], [], 0
            found.append(part)
    return found


def _whole(tree: Path | None, members: list[Module], data: list[Path]) -> Project | None:
    """All of a git work tree; None if it isn't one, can't be read by git, or is Headway's, which isn't the user's."""
    names = git.files(tree, SKIPPED) if tree is not None and tree != HEADWAY else None
    if tree is None or names is None:
        return None
    return _select(Project(tree, tree, _paths(tree, members)), names, data)


def _flat(values: list[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, dict)):
            yield from _flat(list(value.values()) if isinstance(value, dict) else value)
        else:
            yield value


def _paths(tree: Path, members: list[Module]) -> list[str]:
    """Where Python looks within a tree, in the order of its path."""
    given = [Path(os.path.realpath(entry or os.getcwd())) for entry in sys.path]
    within = [p for p in [*given, *(m.folder for m in members)] if p.is_relative_to(tree) and not _of_library(p)]
    return list(dict.fromkeys(str(p.relative_to(tree)) for p in within if p != HEADWAY))


def _holds(project: Project, module: Module) -> bool:
    """Whether a module is among the files: git may ignore it."""
    prefix = os.path.join(os.path.relpath(module.folder, project.root), module.name).removeprefix("./")
    return any(file.startswith((f"{prefix}.", f"{prefix}/")) for file in project.files)


def _beside(folder: Path, names: list[str]) -> Iterator[str]:
    """The files of the named modules and packages, and of those in the same folder."""
    for entry in sorted(folder.iterdir()):
        if folder == HEADWAY and entry.name in PACKAGES:
            continue
        if entry.is_file() and (entry.suffix == ".py" or entry.name.split(".")[0] in names):
            yield entry.name
        elif entry.is_dir() and (entry.name in names or (entry / "__init__.py").is_file()):
            for place, inner, files in os.walk(entry):
                inner[:] = sorted(
                    n for n in inner if not (n.startswith(".") or n in SKIPPED or _is_kept(Path(place, n)))
                )
                yield from (os.path.relpath(os.path.join(place, file), folder) for file in sorted(files))


def _is_kept(folder: Path) -> bool:
    """Whether a folder is an environment, a study or a job: its files are nobody's code."""
    job = (folder / "events.jsonl").is_file() and (folder / "config.yaml").is_file()
    return job or (folder / "pyvenv.cfg").is_file() or (folder / "study.yaml").is_file()


def _select(project: Project, names: Mapping[str, bool], data: list[Path]) -> Project:
    """Fills in the files that travel. names: relative, and whether somebody said that they belong to it (git tracks
    them)."""
    kept: dict[Path, bool] = {}

    def of_kept(folder: Path) -> bool:
        if folder not in kept:
            kept[folder] = folder != project.root and (_is_kept(folder) or of_kept(folder.parent))
        return kept[folder]

    for name, tracked in names.items():
        path = project.root / name
        if not tracked and (path.suffix.lower() in DATA or path.suffix == ".pyc" or of_kept(path.parent)):
            continue
        if any(path.is_relative_to(given) for given in data):
            continue
        if path.is_dir():  # of its files, git told nothing
            project.left_out.append({"path": name, "why": "a link to a folder" if path.is_symlink() else "a submodule"})
        elif path.is_file():  # what git tracks may have been deleted
            length = path.stat().st_size
            if length > FILE_BYTES:
                project.left_out.append({"path": name, "why": _too_large(length, FILE_BYTES)})
            else:
                project.files.append(name)
                project.bytes += length
    return project


def _too_large(length: int, limit: int) -> str:
    return f"{size(length)}, over {size(limit)}"
