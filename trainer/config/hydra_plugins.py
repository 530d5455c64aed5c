"""How Headway's own Hydra plugins become known to Hydra."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

PLACE = "hydra_plugins.headway"


def register(plugin: type, name: str) -> None:
    """Makes a plugin known to Hydra as `hydra_plugins.headway.NAME`.

    Hydra takes plugins of the namespace `hydra_plugins` alone, and imports them by their name there. Ours are told to
    be there, beside those that are installed, and need no folder of that name. Those of the working folder are not
    installed: Hydra would import every one that it finds, for whatever verb.
    """
    from hydra.core.plugins import Plugins

    if "hydra_plugins" not in sys.modules:
        spec = find_spec("hydra_plugins")
        namespace = ModuleType("hydra_plugins")
        folders = list(spec.submodule_search_locations or ()) if spec else []
        namespace.__path__ = [folder for folder in folders if Path(folder).parent != Path.cwd()]
        sys.modules["hydra_plugins"] = namespace
    module = sys.modules.setdefault(PLACE, ModuleType(PLACE))
    setattr(module, name, plugin)
    plugin.__module__ = PLACE
    Plugins.instance().register(plugin)
