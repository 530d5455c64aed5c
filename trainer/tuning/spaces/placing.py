"""Values put into a config by their dotted keys, and whether a config can have them."""

from __future__ import annotations

import copy
import typing
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from trainer.config import schema
from trainer.config.code.signature import read_signature, short_name
from trainer.config.conf_files import groups
from trainer.config.conversion import Mismatch, convert
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
    groups: dict[str, Any] = {}
    for noun, node in config.items():
        if isinstance(node, Mapping) and node.get("_target_"):
            groups[noun] = short_name(str(node["_target_"]))
    if isinstance(config.get("strategy"), Mapping):
        groups["strategy"] = config["strategy"].get("name")
    return groups | leaves(config)


def check_key(config: Mapping[str, Any], key: str, value: Any) -> None:
    """Raises UserError if the config can't have this value of a key, or no such key."""
    top = key.split(".")[0]
    if top not in config or key == top:
        known = [*leaves(config), *groups()]
        below = [name for name in known if name.endswith(f".{key}")]
        hint = f"did you mean {below[0]!r}?" if below else did_you_mean(key, known)
        raise UserError(f"{key}: there is no such key; {hint}")
    try:
        convert(value, hint_of(key, config))
    except Mismatch as mismatch:
        raise UserError(f"{key}: {mismatch}") from None
    schema.check(placed(config, {key: value}))


def hint_of(key: str, config: Mapping[str, Any]) -> Any:
    """The type of a key in the schema's dataclasses or its target's signature; Any where neither knows.

    Raises UserError for a key that neither the schema nor the config has.
    """
    first, *names = key.split(".")
    kind: Any = typing.get_type_hints(schema.Config).get(first, Any)
    for depth, name in enumerate(names):
        if not is_dataclass(kind):
            break
        hints = typing.get_type_hints(kind)
        if name not in hints:
            above = ".".join([first, *names[:depth]])
            raise UserError(f"{key}: there is no such key; {did_you_mean(key, [f'{above}.{h}' for h in hints])}")
        kind = hints[name]
    if first in schema.TARGETS and len(names) == 1:
        target = str((config.get(first) or {}).get("_target_", ""))
        signature = read_signature(target) if target else None
        found = [p.type for p in signature.parameters if p.name == names[0]] if signature else []
        return found[0] if found else Any
    return kind if len(names) and not is_dataclass(kind) and typing.get_origin(kind) is not dict else Any
