"""Objects from config nodes: `_target_` and its arguments."""

from __future__ import annotations

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
            raise UserError(f"{noun}: {node['_target_']} can't be loaded: {cause}") from cause
        raise cause from None  # its own code raised: its type and place say most
