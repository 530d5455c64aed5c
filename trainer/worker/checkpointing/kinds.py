"""What of a model a training can keep: told before its first step, not by its first checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trainer.errors import UserError
from trainer.job.model.weights import is_spread


def refuse_unheld(model: nn.Module, *, outlined: bool = False) -> None:
    """Raises UserError for a tensor that no checkpoint can hold or no optimizer change, with its name and what to do.

    outlined: the parameters have no numbers yet, and will get them.
    """
    for name, value in {**model.state_dict(keep_vars=True), **dict(model.named_parameters())}.items():
        if not isinstance(value, Tensor):
            raise _unheld(name, f"a {type(value).__name__} (get_extra_state), and no tensor", "keep tensors in it")
        if is_lazy(value):
            raise _unheld(name, "without a shape yet", "call the lazy module once in `build`")
        if value.layout != torch.strided:
            kind = str(value.layout).removeprefix("torch.")
            raise _unheld(name, f"{kind}", "keep it dense, or its indices and values in buffers of their own")
        if value.is_quantized:
            raise _unheld(name, "quantized", "keep its `int_repr()` in a buffer, and its scale")
        if value.is_meta and not outlined:
            raise _unheld(name, "on the meta device, without numbers", "give it some in `build`")
        if type(value).__torch_dispatch__ is not Tensor.__torch_dispatch__ and not is_spread(value):
            raise _unheld(name, f"a {type(value).__name__} with operations of its own", "keep plain tensors in it")
    for name, p in model.named_parameters():
        if p.requires_grad and any(n > 1 and stride == 0 for n, stride in zip(p.shape, p.stride(), strict=True)):
            raise _unheld(name, "expanded, so that several of its elements are one", "`clone()` it first")


def _unheld(name: str, what: str, instead: str) -> UserError:
    return UserError(f"the model's {name} is {what}, which can't be trained and kept in a checkpoint; {instead}")
