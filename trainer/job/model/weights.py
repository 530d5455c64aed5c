"""A model's weights as named tensors, to safetensors and back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from trainer.errors import DamagedFile
from trainer.job.directory import read_json, write_json
from trainer.job.private import as_made_here
from trainer.process.safe_path import below

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FILE_BYTES = 5 * 10**9
PORTABLE = {  # types that safetensors has in every release
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.uint64, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2,
}  # fmt: skip


def is_spread(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    """Whether the tensor's parts are on several workers. Their class takes as long to import as torch: where nobody has, there
    are none."""
    kind = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)  # another thread may be importing it
    return kind is not None and isinstance(tensor, kind)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What of a tensor is here."""
    return tensor.to_local() if is_spread(tensor) else tensor


def references(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's own tensors by name; those that share memory (tied weights) once, under their first name."""
    named: dict[str, torch.Tensor] = {}
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for name, tensor in model.state_dict().items():
        here = local(tensor)
        key = (here.data_ptr(), tuple(tensor.shape))
        if here.numel() and key in seen:
            continue
        seen.add(key)
        named[name] = tensor
    return named


def named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """`references`, contiguous and on the CPU."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in references(model).items()}


def unfold(model: nn.Module) -> None:
    """Gives each element of a buffer a place of its own, where several share one (`expand`): nobody could write to them."""
    made: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and any(n > 1 and s == 0 for n, s in zip(buffer.shape, buffer.stride(), strict=True)):
                module._buffers[name] = made.setdefault(id(buffer), buffer.contiguous())


def portable(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as safetensors has it: of a type that the format lacks, pairs of numbers or bytes in one dimension more."""
    if tensor.dtype in PORTABLE:
        return tensor
    if tensor.is_complex():
        return torch.view_as_real(tensor)
    return tensor.contiguous().unsqueeze(-1).view(torch.uint8)


def as_kept(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """What `portable` made of a tensor like this one, as it was."""
    if like.dtype in PORTABLE or tensor.shape[:-1] != like.shape:
        return tensor
    return torch.view_as_complex(tensor) if like.is_complex() else tensor.view(like.dtype).squeeze(-1)


def save_tensors(tensors: Mapping[str, torch.Tensor], folder: Path, limit: int = FILE_BYTES) -> None:
    """Writes weights as safetensors: one file, or several of up to `limit` bytes and the index that names them.

    Both are named as the Hugging Face libraries name them, which read them as they are.
    """
    tensors = {name: portable(tensor) for name, tensor in tensors.items()}
    files: list[dict[str, torch.Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if files[-1] and filled + size > limit:
            files.append({})
            filled = 0
        files[-1][name] = tensor
        filled += size
    if len(files) == 1:
        _save(files[0], folder / WEIGHTS)
        return
    where: dict[str, str] = {}
    for i, part in enumerate(files, 1):
        file = f"model-{i:05d}-of-{len(files):05d}.safetensors"
        _save(part, folder / file)
        where |= dict.fromkeys(part, file)
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})


def _save(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    save_file(dict(tensors), path, metadata={"format": "pt"})
    as_made_here(path)  # the library makes it for its user alone


def _load(path: Path) -> dict[str, torch.Tensor]:
    """Raises DamagedFile."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DamagedFile(path, str(error).splitlines()[0] if path.is_file() else "it is no file") from None


def load_tensors(model: nn.Module, folder: Path) -> None:
    """Reads weights that `save_tensors` wrote. Raises ValueError if they aren't this model's."""
    index = read_json(folder / INDEX)
    names = sorted(set(index["weight_map"].values())) if index else [WEIGHTS]
    unfold(model)
    own = references(model)
    expected, found = set(own), set()
    for name in names:
        tensors = _load(below(folder, name))
        found |= set(tensors)
        if not set(tensors) <= expected:
            break
        model.load_state_dict({name: as_kept(tensor, own[name]) for name, tensor in tensors.items()}, strict=False)
    if found != expected:
        odd = sorted(found ^ expected)
        raise ValueError(f"{folder}: the weights are of another model; {odd[0]} and {len(odd) - 1} more don't match")
