"""The repeated blocks of a model: what is gathered, recomputed or wrapped one at a time."""

from __future__ import annotations

from torch import nn


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The entries of the outermost lists (`ModuleList`, `Sequential`) of two or more modules of one type with weights."""
    found: list[nn.Module] = []
    for child in model.children() if not _repeats(model) else ():
        found += blocks_of(child)
    return list(model.children()) if _repeats(model) else found


def _repeats(module: nn.Module) -> bool:
    children = list(module.children())
    return (
        isinstance(module, (nn.ModuleList, nn.Sequential))
        and len(children) > 1
        and len({type(child) for child in children}) == 1
        and all(next(child.parameters(), None) is not None for child in children)
    )
