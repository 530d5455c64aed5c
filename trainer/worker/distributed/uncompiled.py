"""PyTorch without its compiler, where nothing is compiled: importing `torch._dynamo` takes as long again as importing torch.

Its optimizers do so at their first step, to tell a compiler that may be tracing them where to stop. Nothing traces in a process
that hasn't imported it, so here they ask for it only once somebody else has. On the meta device random numbers do so too.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

COMPILER = "torch._dynamo"


class Unfilled(TorchFunctionMode):
    """Within it a model's first weights are not drawn: for one on the meta device, which has none."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.Tensor.normal_ or getattr(function, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)


def postpone_compiler() -> None:
    """Has all of torch's optimizers work so, for the rest of this process."""
    try:
        from torch._compile import _disable_dynamo
        from torch.optim.optimizer import _use_grad_for_differentiable
    except ImportError:  # a torch that does it in another way
        return
    asks, steps = _code(_disable_dynamo(_nothing)), _code(_use_grad_for_differentiable(_nothing))
    for function in vars(Optimizer).values():
        if _code(function) is asks:
            _ask_later(function)
    for kind in vars(torch.optim).values():
        step = vars(kind).get("step") if isinstance(kind, type) else None
        if _code(step) is steps:
            kind.step = _step(step)


def _nothing() -> None:
    pass


def _code(function: Any) -> Any:
    return getattr(function, "__code__", None)


def _ask_later(function: Any) -> None:
    """function: one that keeps, in an attribute of the wrapped one, what the compiler makes of that when it is first called."""
    raw, kept = function.__wrapped__, "__dynamo_disable"

    def call(*args: Any, **kwargs: Any) -> Any:
        if COMPILER not in sys.modules:
            return raw(*args, **kwargs)
        if getattr(raw, kept, None) is call:
            delattr(raw, kept)
        return function(*args, **kwargs)

    setattr(raw, kept, call)


def _step(step: Any) -> Callable[..., Any]:
    raw = step.__wrapped__

    @functools.wraps(step)
    def call(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if COMPILER in sys.modules:
            return step(self, *args, **kwargs)
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return raw(self, *args, **kwargs)

    return call
