"""A source of notices that a config names by its class, `package.module:Class`: looked at before it is called."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from trainer.config.code.signature import read_signature
from trainer.config.code.source import locate
from trainer.errors import UserError

NONE = "it is no class with `poll`"


def plugins() -> dict[str, Any]:
    """The entry points of `headway.notices`, by name."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group="headway.notices")}


def made(name: str) -> Any:
    """The source of an entry point or a class. Raises UserError if it gives none."""
    module, _, rest = name.partition(":")
    known = plugins()
    try:
        make = known[name].load() if name in known else getattr(importlib.import_module(module), rest)
        if not isinstance(make, type) or not callable(getattr(make, "poll", None)):
            raise TypeError(NONE)
        source = make()
        source.name, source.every  # noqa: B018 - is it one?
    except Exception as error:  # a source may be anybody's
        raise UserError(f"launcher.notices: {name!r} gives no source: {type(error).__name__}: {error}") from error
    return source


def problem(module: str, name: str) -> str | None:
    """The line that says why there can be no such source, as far as the class's file tells, or None. Runs nothing of it."""
    wrong = _wrong(module, name)
    return f"launcher.notices: {f'{module}:{name}'!r} gives no source: {wrong}" if wrong else None


def _wrong(module: str, name: str) -> str:
    if module.partition(".")[0] in sys.stdlib_module_names:
        return NONE
    try:
        source, names = locate(f"{module}.{name}")
        signature = read_signature(f"{module}.{name}")
    except UserError as error:
        return str(error)
    if source is not None and names != [name]:
        return f"there is no module {module!r}"
    return NONE if signature is not None and signature.is_function else ""
