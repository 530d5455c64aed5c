"""A source of notices that a config names by its class, `package.module:Class`: looked at before it is called."""

from __future__ import annotations

import sys
from typing import Any

from trainer.errors import UserError
from trainer.signature import read_signature
from trainer.source import locate

NONE = "it is no class with `poll`"


def plugins() -> dict[str, Any]:
    """The entry points of `headway.notices`, by name."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group="headway.notices")}


def is_one(found: Any) -> bool:
    return isinstance(found, type) and callable(getattr(found, "poll", None))


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
