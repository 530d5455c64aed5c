"""How Headway's own Hydra plugins become known to Hydra."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType

PLACE = "hydra_plugins.headway"


def register(plugin: type, name: str) -> None:
    """Makes a plugin known to Hydra as `hydra_plugins.headway.NAME`.

    Hydra takes plugins of the namespace `hydra_plugins` alone, and imports them by their name there. Ours are told to
    be there, beside those that are installed, and need no folder of that name.
    """
    from hydra.core.plugins import Plugins

    if "hydra_plugins" not in sys.modules and find_spec("hydra_plugins") is None:
        namespace = ModuleType("hydra_plugins")
        namespace.__path__ = []
        sys.modules["hydra_plugins"] = namespace
    module = sys.modules.setdefault(PLACE, ModuleType(PLACE))
    setattr(module, name, plugin)
    plugin.__module__ = PLACE
    Plugins.instance().register(plugin)
