"""A config's leaves by their dotted keys, `algorithm.lr`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def value(node: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """What a config has under a dotted key, a leaf or more; `default` where it has no such key."""
    found: Any = node
    for name in key.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return default
        found = found[name]
    return found


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its key, in the config's order; an empty mapping is one."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def settings(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Those that are settings: no class that was chosen, and no empty mapping."""
    for key, value in leaves(node, prefix):
        if key.rpartition(".")[2] != "_target_" and not isinstance(value, Mapping):
            yield key, value
