"""The xgboost library, imported where it is first needed."""

from __future__ import annotations

from typing import Any

from trainer.errors import UserError, pip_install


def library() -> Any:
    """Raises UserError where it isn't installed."""
    try:
        import xgboost
    except ImportError:
        raise UserError(f"algorithm=xgboost needs the xgboost package: {pip_install('xgboost')}") from None
    return xgboost
