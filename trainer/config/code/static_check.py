"""What is wrong with the code that a config names, found without running it: before any worker starts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import trainer
from trainer.config.code.base_classes import kind, lacks
from trainer.config.code.own_code import PACKAGES, modules
from trainer.config.code.source import Source, locate
from trainer.config.nouns import METHODS, is_standard, not_one
from trainer.errors import UserError, did_you_mean


def refuse(target: str, noun: str) -> None:
    """Raises UserError for a target that imports what isn't there, and for one that is no `noun`."""
    problem = missing(target)
    if problem:
        raise UserError(problem)
    refuse_other(target, noun)


def refuse_other(target: str, noun: str) -> None:
    """Raises UserError for a target that is surely no `noun`: an algorithm, a data source, a launcher, a tracker."""
    if is_standard(target):
        raise UserError(not_one(target, noun))
    found = kind(target)
    if noun == "algorithm":
        if found == "other":
            raise UserError(not_one(target.rpartition(".")[2], noun))
    elif found == "function" or lacks(target, METHODS[noun]):
        raise UserError(not_one(target, noun))


def missing(target: str) -> str | None:
    """`FILE:LINE: what can't be imported`, of the target's module or the user's own that it imports; None if all is there.

    Only what stands at the top of a module counts: elsewhere it may never run, or what is missing is expected.
    Raises UserError for a module that isn't valid Python.
    """
    top = target.partition(".")[0]
    if top in PACKAGES:
        return None
    source, _ = locate(target)
    return None if source is None else _missing(source, {source.path})


def _missing(source: Source, seen: set[str]) -> str | None:
    for statement in ast.parse("\n".join(source.lines)).body:
        for name, wanted in _names(source, statement):
            problem = _problem(name, wanted)
            if problem:
                return f"{source.path}:{statement.lineno}: {problem}"
            inner = _own(name)
            if inner is not None and inner.path not in seen:
                seen.add(inner.path)
                found = _missing(inner, seen)
                if found:
                    return found
    return None


def _names(source: Source, statement: ast.stmt) -> Iterator[tuple[str, str | None]]:
    """The modules that a statement imports, and for `from … import NAME` the name."""
    if isinstance(statement, ast.Import):
        yield from ((alias.name, None) for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom) and not statement.level:
        yield from ((str(statement.module), alias.name) for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        package = source.name.split(".")
        up = statement.level - (1 if source.path.endswith("__init__.py") else 0)
        base = package[: len(package) - up] if up else package
        if base:
            module = ".".join([*base, *([statement.module] if statement.module else [])])
            yield from ((module, alias.name) for alias in statement.names)


def _problem(module: str, wanted: str | None) -> str | None:
    top = module.partition(".")[0]
    try:
        if find_spec(top) is None:  # runs nothing
            return f"there is no module {top!r}; check its spelling, or that it is installed"
    except (ValueError, ImportError):
        return None
    if top == "trainer" and module == top and wanted not in (None, "*"):
        here = Path(trainer.__file__).parent
        is_there = wanted in trainer.__all__ or (here / f"{wanted}.py").exists() or (here / str(wanted)).is_dir()
        return None if is_there else f"trainer has no {wanted!r}; {did_you_mean(str(wanted), trainer.__all__)}"
    own = _own(module) if wanted not in (None, "*") else None
    if own is None or own.defines(str(wanted)) or own.path.endswith("__init__.py"):
        return None
    return f"there is no {wanted!r} in {own.path}; {did_you_mean(str(wanted), own.top)}"


def _own(module: str) -> Source | None:
    """A module of the user's own; None for a library's, or one that can't be read."""
    if not modules({"_target_": module}):
        return None
    try:
        return locate(f"{module}._")[0]
    except UserError as error:
        if "not valid Python" in str(error):
            raise
        return None
