"""A config as the text of its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any


def dump(config: Mapping[str, Any]) -> str:
    """The config as YAML text. Its nodes are written one by one: those of a study's jobs are mostly the same."""
    return "".join(_dumped(key, _Node(repr(node), node)) for key, node in config.items()) or "{}\n"


@dataclass(frozen=True)
class _Node:
    """A node of a config, equal to those that read the same."""

    text: str
    value: Any = field(compare=False)


@lru_cache(maxsize=64)
def _dumped(key: str, node: _Node) -> str:
    import yaml

    text: str = yaml.dump({key: node.value}, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)
    return text
