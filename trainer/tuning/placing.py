"""Values put into a config by their dotted keys."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from trainer.errors import UserError, did_you_mean

_NONE = object()


def placed(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config with these values of dotted keys. Groups are the caller's, by composing.

    A last name that isn't there is added, as a setting whose default the config leaves out. Raises UserError if what
    it is to stand in isn't there.
    """
    result: dict[str, Any] = copy.deepcopy(dict(config))
    for key, value in values.items():
        *parents, last = key.split(".")
        node: Any = result
        for depth, name in enumerate(parents):
            if name not in node or not isinstance(node[name], dict):
                where = ".".join(parents[: depth + 1])
                known = leaves(config) if name not in node else ()
                hint = did_you_mean(key, known) if known else f"{where} is a value, and holds no other"
                raise UserError(f"{key}: there is no such key; {hint}")
            node = node[name]
        if not parents and isinstance(node.get(last, _NONE), dict):
            raise UserError(f"{key} is a group; its choice is composed, not set")
        node[last] = copy.deepcopy(value)
    return result


def leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a config by dotted key; those that start with _ are Hydra's own and left out."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if str(key).startswith("_"):
            continue
        if isinstance(value, Mapping) and value:
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def known_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a condition can name in a config: its keys, and its groups by what is chosen, as in `strategy == 'fsdp'`."""
    from trainer.signature import short_name

    groups: dict[str, Any] = {}
    for noun, node in config.items():
        if isinstance(node, Mapping) and node.get("_target_"):
            groups[noun] = short_name(str(node["_target_"]))
    if isinstance(config.get("strategy"), Mapping):
        groups["strategy"] = config["strategy"].get("name")
    return groups | leaves(config)
