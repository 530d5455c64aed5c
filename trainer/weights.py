"""A model's weights as named tensors, to safetensors and back."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn


def references(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's own tensors by name; those that share memory (tied weights) once, under their first name."""
    named: dict[str, torch.Tensor] = {}
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for name, tensor in model.state_dict().items():
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.numel() and key in seen:
            continue
        seen.add(key)
        named[name] = tensor
    return named


def named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """`references`, contiguous and on the CPU."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in references(model).items()}


def load_tensors(model: nn.Module, path: Path) -> None:
    """Reads weights written by `named_tensors`. Raises ValueError if they aren't this model's."""
    tensors = load_file(path)
    expected = references(model)
    if set(tensors) != set(expected):
        odd = sorted(set(tensors) ^ set(expected))
        raise ValueError(f"{path}: the weights are of another model; {odd[0]} and {len(odd) - 1} more don't match")
    model.load_state_dict(tensors, strict=False)
