"""The public name of what is built as `trainer`: the same objects, also below it (`headway.testing` is `trainer.testing`).

import headway

result = headway.train(["algorithm=linear", "data=digits"])
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import trainer

if TYPE_CHECKING:
    from trainer import *  # noqa: F403 - whatever names it has, these are they

__all__ = trainer.__all__
__path__ = []  # nothing lies here: what is below is found by its name there


class _Same(MetaPathFinder, Loader):
    """Finds `headway.x.y` as the very module `trainer.x.y`, so that no class is there twice."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(f"{__name__}."):
            return None
        there = f"trainer{name[len(__name__) :]}"
        return ModuleSpec(name, self, origin=there) if find_spec(there) else None

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        sys.modules[module.__name__] = importlib.import_module(str(module.__spec__.origin))


sys.meta_path.insert(0, _Same())  # before whoever would find the file a second time


def __getattr__(name: str) -> Any:
    return getattr(trainer, name)


def __dir__() -> list[str]:
    return dir(trainer)
