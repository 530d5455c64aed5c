"""Objects from config nodes: `_target_` and its arguments."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from trainer.errors import UserError


def build(node: Mapping[str, Any], noun: str) -> Any:
    """The object a config node describes. Raises UserError if its class refuses the arguments."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(dict(node), _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            named = str(cause).startswith((f"{noun}.", f"{noun}="))
            raise UserError(str(cause) if named else f"{noun}: {cause}") from cause
        if isinstance(cause, (TypeError, ValueError)):
            raise UserError(f"{noun}: {node['_target_']} refuses its settings: {cause}") from cause
        if isinstance(cause, (ImportError, AttributeError)):
            raise UserError(f"{noun}: {node['_target_']} can't be loaded: {_first(cause)}") from cause
        raise cause from None  # its own code raised: its type and place say most


def _first(error: BaseException) -> str:
    """What an import failed of, with the line of the module that did: Hydra says neither."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = " ".join(str(error).split())
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_machinery(f.filename)]
    if not frames:
        return said
    return f"{frames[-1].filename}:{frames[-1].lineno}: {type(error).__name__}: {said}"


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<") or "/hydra/" in filename or filename.endswith("/importlib/__init__.py")
