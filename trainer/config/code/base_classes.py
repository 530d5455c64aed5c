"""What a target is made to be, read from its source: which of Headway's classes it comes from, what it says of itself."""

from __future__ import annotations

import ast
from collections.abc import Collection

from trainer.config.code.signature import base_target
from trainer.config.code.source import Source, called, locate, top_level
from trainer.errors import UserError

MODULES = ("trainer", "trainer.algorithm")
KINDS = ("Module", "Estimator", "Algorithm")


def kind(target: str) -> str | None:
    """`Module` or `Estimator`, `function`, `other` for a class that is surely neither; None if it can't be told."""
    return _kind(target, ())


def _kind(target: str, seen: tuple[str, ...]) -> str | None:
    module, _, name = target.rpartition(".")
    if module in MODULES and name in KINDS:
        return name
    if target in ("builtins.object", "torch.nn.Module"):
        return "other"
    try:
        source, found = definition(target)
    except UserError:
        return None
    if source is None or target in seen or len(seen) > 20:
        return None
    if isinstance(found, ast.FunctionDef):
        return "function"
    if not isinstance(found, ast.ClassDef):
        return None
    bases = [base_target(source, base) for base in found.bases]
    kinds = [None if base is None else _kind(base, (*seen, target)) for base in bases]
    known = next((k for k in kinds if k in KINDS), None)
    return known or (None if None in kinds else "other")


def lacks(target: str, methods: Collection[str]) -> bool:
    """Whether a target is surely a class without one of these methods; not if it or a base of it can't be read."""
    found = _methods(target, ())
    return found is not None and not set(methods) <= found


def _methods(target: str, seen: tuple[str, ...]) -> set[str] | None:
    """The names that a class and its bases define; None if that can't be told."""
    if target in ("builtins.object", "abc.ABC"):
        return set()
    try:
        source, found = definition(target)
    except UserError:
        return None
    if source is None or not isinstance(found, ast.ClassDef) or found.keywords or target in seen or len(seen) > 20:
        return None
    names = {name for name, _ in top_level(found.body)}
    for base in found.bases:
        name = base_target(source, base)
        inherited = None if name is None else _methods(name, (*seen, target))
        if inherited is None:
            return None
        names |= inherited
    return None if "__getattr__" in names or (found.decorator_list and not _plain(found)) else names


def _plain(found: ast.ClassDef) -> bool:
    return all(called(decorator) == "dataclass" for decorator in found.decorator_list)


def doc(target: str) -> str:
    """Its docstring, or where it is a class without one that of its module; empty if it can't be read."""
    try:
        source, found = definition(target)
    except UserError:
        return ""
    if source is None or not isinstance(found, ast.ClassDef | ast.FunctionDef):
        return ""
    return ast.get_docstring(found) or ast.get_docstring(ast.parse("\n".join(source.lines))) or ""


def definition(target: str) -> tuple[Source | None, ast.stmt | None]:
    """The statement that defines a target, and its module; imports are followed. Raises UserError if it isn't there."""
    source, names = locate(target)
    if source is None or len(names) != 1:
        return None, None
    found = source.top.get(names[0])
    if isinstance(found, ast.ImportFrom) and (original := source.imported(names[0])) not in (None, target):
        return definition(str(original))
    return source, found
