"""Python source found and parsed without running it."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainer.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Source:
    """A parsed module. `top`: the statement that defines each of its names. `kept`: what was once read from it."""

    name: str
    path: str
    lines: list[str]
    top: dict[str, ast.stmt]
    kept: dict[tuple[int, int], Any] = field(default_factory=dict, repr=False, compare=False)

    def classes(self) -> list[str]:
        return [n for n, s in self.top.items() if isinstance(s, ast.ClassDef) and not n.startswith("_")]

    def defines(self, name: str) -> bool:
        return name in self.top or "__getattr__" in self.top or "*" in self.top

    def imported(self, name: str) -> str | None:
        """The target behind a name that this module imports with `from … import …`."""
        statement = self.top.get(name)
        if not isinstance(statement, ast.ImportFrom):
            return None
        original = next(a.name for a in statement.names if (a.asname or a.name) == name)
        if not statement.level:
            return f"{statement.module}.{original}"
        package = self.name.split(".")
        up = statement.level - (1 if self.path.endswith("__init__.py") else 0)
        base = package[: len(package) - up] if up else package
        return ".".join([*base, *([statement.module] if statement.module else []), original])

    def comment(self, line: int, column: int, end_line: int, end_column: int) -> str:
        """The comment on a parameter's line, or the lines of comment directly above it."""
        if self.lines[line - 1].encode()[:column].strip():
            return ""  # shares its line with another one: whose comment it is cannot be told
        rest = self.lines[end_line - 1].encode()[end_column:].decode()
        beside = re.match(r"[\s,):]*#:?\s*(.*)", rest)
        if beside and not beside[1].startswith(("noqa", "type:")):
            return beside[1].strip()
        above: list[str] = []
        for text in reversed(self.lines[: line - 1]):
            found = re.match(r"\s*#:?\s*(.*)", text)
            if not found:
                break
            above.insert(0, found[1].strip())
        return " ".join(above).strip()


def locate(target: str) -> tuple[Source | None, list[str]]:
    """The module a target lies in and the names that lead to it there; no module if it has no source."""
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise UserError(f"{target!r} is no target: write package.module.Class")
    try:
        spec = importlib.util.find_spec(parts[0])  # of a top-level name: runs nothing
    except ValueError:
        return None, []
    if spec is None:
        raise UserError(
            f"there is no module {parts[0]!r} for {target!r}: "
            "check its spelling, that it is installed, or that its folder is on PYTHONPATH"
        )
    folders = list(spec.submodule_search_locations or ())
    path, depth = spec.origin, 1
    while depth < len(parts) and folders:
        found = _submodule(folders, parts[depth])
        if found is None:
            break
        path, folders = found
        depth += 1
    if path is not None and not path.endswith(".py"):
        return None, []
    module = _parse(path, Path(path).stat().st_mtime_ns) if path is not None else None
    rest = parts[depth:]
    if rest and (module is None or (folders and len(rest) > 1 and not module.defines(rest[0]))):
        raise UserError(
            f"there is no module {rest[0]!r} in {'.'.join(parts[:depth])}; "
            f"{did_you_mean(rest[0], _submodules(folders))}"
        )
    if module is None:
        raise UserError(f"{target!r} is a folder, not a class")
    return replace(module, name=".".join(parts[:depth])), rest


def _submodule(folders: list[str], name: str) -> tuple[str | None, list[str]] | None:
    """A submodule's file (None for a folder without `__init__`) and the folders of its own submodules."""
    for folder in map(Path, folders):
        if (folder / name / "__init__.py").is_file():
            return str(folder / name / "__init__.py"), [str(folder / name)]
        if (folder / f"{name}.py").is_file():
            return str(folder / f"{name}.py"), []
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            if (folder / f"{name}{suffix}").is_file():
                return str(folder / f"{name}{suffix}"), []
    spaces = [str(Path(folder) / name) for folder in folders if (Path(folder) / name).is_dir()]
    return (None, spaces) if spaces else None


def _submodules(folders: list[str]) -> Iterator[str]:
    for folder in map(Path, folders):
        for entry in folder.iterdir():
            if entry.suffix == ".py" and entry.stem != "__init__":
                yield entry.stem
            elif (entry / "__init__.py").is_file():
                yield entry.name


@lru_cache(maxsize=256)
def _parse(path: str, changed: int) -> Source:
    try:
        source = Path(path).read_text(encoding="utf-8")
        tree = ast.parse(source)
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid Python: {error.msg}") from None
    return Source("", path, source.splitlines(), dict(top_level(tree.body)))


def top_level(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """What a module (or class) defines: name and statement, also inside `if` and `try`."""
    for statement in body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement.name, statement
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                yield alias.asname or alias.name, statement
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, statement
        elif isinstance(statement, ast.If | ast.Try):
            handlers = [s for h in statement.handlers for s in h.body] if isinstance(statement, ast.Try) else []
            yield from top_level([*handlers, *statement.orelse, *statement.body])


def called(node: ast.expr) -> str:
    """The last name of `a.b`, `a.b(…)` or `a.b[…]`."""
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
