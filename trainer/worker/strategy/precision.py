"""In which numbers a model computes: fp32, tf32, bf16 or fp16. Weights and optimizer state stay in fp32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from trainer.errors import UserError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose(name: str, device: torch.device) -> str:
    """bf16 where the device computes in it, if left to us. Raises UserError for what the device doesn't have."""
    if name == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if name == "tf32" and device.type != "cuda":
        raise UserError(
            "train.precision: tf32 is a format of NVIDIA GPUs, and this device is a CPU; choose fp32 or bf16"
        )
    return name


def settle(name: str) -> None:
    """Matrix products of fp32 numbers: in full, or in tf32 where asked for; beside bf16 and fp16 they are few."""
    torch.set_float32_matmul_precision("highest" if name == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = name != "fp32"


def autocast(name: str, device: torch.device) -> AbstractContextManager[object]:
    """Where a forward pass computes in 16 bits."""
    return torch.autocast(device.type, dtype=DTYPES[name]) if name in DTYPES else nullcontext()


def scaler(name: str, device: torch.device) -> torch.amp.GradScaler | None:
    """What keeps small gradients above fp16's least number; its scale is part of the training's state."""
    return torch.amp.GradScaler(device.type) if name == "fp16" else None
