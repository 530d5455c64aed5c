"""The repeated blocks of a model: what is gathered, computed again and compiled one at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from trainer.errors import UserError


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The entries of the outermost lists (`ModuleList`, `Sequential`) of two or more modules of one type with weights."""
    if _repeats(model):
        return list(model.children())
    return [block for child in model.children() for block in blocks_of(child)]


def _repeats(module: nn.Module) -> bool:
    children = list(module.children())
    return (
        isinstance(module, (nn.ModuleList, nn.Sequential))
        and len(children) > 1
        and len({type(child) for child in children}) == 1
        and all(next(child.parameters(), None) is not None for child in children)
    )


def compute_again(model: nn.Module) -> None:
    """Activations inside a block are dropped after its forward and computed anew in the backward (arXiv:1604.06174).

    Names of weights stay as they are. Raises UserError where there are no blocks.
    """
    blocks = blocks_of(model)
    if not blocks:
        raise UserError(
            f"train.activation_checkpointing: {type(model).__name__} has no repeated blocks (a ModuleList or "
            f"Sequential of modules of one type); leave it off"
        )
    for block in blocks:
        block.forward = partial(_again, block.forward)


def _again(forward: Any, *arguments: Any, **named: Any) -> Any:
    return checkpoint(forward, *arguments, use_reentrant=False, **named)
