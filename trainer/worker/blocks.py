"""The repeated blocks of a model: what is gathered, computed again and compiled one at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from trainer.errors import UserError


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The members of the outermost lists of two or more modules of one type that have weights."""
    found: list[nn.Module] = []
    for child in model.children():
        members = list(child.children())
        kinds = {type(member) for member in members}
        repeated = isinstance(child, (nn.ModuleList, nn.Sequential)) and len(members) > 1 and len(kinds) == 1
        if repeated and all(any(True for _ in member.parameters()) for member in members):
            found += members
        else:
            found += blocks_of(child)
    return found


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
