"""How a model gets its first weights, on every worker those that one worker alone would begin with.

Where each worker is to hold only a part of a model, none but the first builds it whole. The others have its parameters
on the meta device, where they are shapes without numbers; once the model is split, each gets its part from the first
worker, parameter by parameter. With a checkpoint that brings all the numbers nobody builds it whole.
"""

from __future__ import annotations

import gc
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from trainer.algorithm import Module
from trainer.data.schema import Schema
from trainer.job.model.weights import unfold
from trainer.worker.checkpointing.kinds import refuse_unheld
from trainer.worker.distributed.alike import as_bytes, give
from trainer.worker.distributed.ranks import Ranks


@dataclass
class Values:
    """The first weights of a model whose parameters are on the meta device: the first worker has them, for all.

    known: whether it has; otherwise what is made room for is left as it comes, for a checkpoint to fill.
    """

    ranks: Ranks
    known: bool
    held: dict[str, Tensor] = field(default_factory=dict)  # by the parameter's name, until it is handed out

    def scatter(self, name: str, shape: torch.Size, into: Tensor) -> None:
        """Each worker's rows of a parameter of `shape` in all, as many to each as `fully_shard` gives it."""
        if not self.known or not math.prod(shape):
            return
        count = -(-shape[0] // self.ranks.world_size) * math.prod(shape[1:])
        part = torch.empty(count, dtype=into.dtype, device=self.ranks.device)
        parts: list[Tensor] | None = None
        if self.ranks.rank == 0:
            whole = self.held.pop(name).to(self.ranks.device).reshape(-1)
            parts = list(whole.split(count))
            parts += [part] * (self.ranks.world_size - len(parts))
            parts = [
                as_bytes(p if p.numel() == count else torch.cat((p, p.new_zeros(count - p.numel())))) for p in parts
            ]
        dist.scatter(as_bytes(part), parts)
        into.copy_(part[: into.numel()].view(into.shape))

    def room(self, name: str, parameter: Tensor, dtype: torch.dtype) -> Tensor:
        """Room for the whole of a parameter on this worker's device, and on the first worker its values."""
        if self.ranks.rank == 0 and self.known:
            return self.held.pop(name).to(self.ranks.device, dtype).contiguous()
        return torch.empty(parameter.shape, dtype=dtype, device=self.ranks.device)


def build(
    algorithm: Module,
    schema: Schema,
    ranks: Ranks,
    seed: Callable[[], object],
    *,
    split: bool,
    restored: bool = False,
) -> tuple[nn.Module, Values | None]:
    """A fresh model, whole on this worker's device; or without its parameters' numbers, and what they are to be.

    seed: called before anything is drawn. split: each worker is to hold only a part of the parameters. restored: a
    checkpoint is about to be read, so that nothing that it holds is needed. A model that can't be built without
    numbers is built whole.
    """
    if split and ranks.world_size > 1:
        outline, reason = _outline(algorithm, schema)
        reason = next((r for r in ranks.gather(reason) if r), None)
        if outline is not None and reason is None:
            model, values, reason = _with_values(algorithm, schema, ranks, seed, outline, restored)
            if reason is None:
                refuse_unheld(model, outlined=True)
                _fill_buffers(model, values)
                return model, values
        if ranks.rank == 0:
            print(f"each worker builds the whole model first, as it can't be built without numbers: {reason}")
    seed()
    model = algorithm.build(schema)
    refuse_unheld(model)
    unfold(model)
    return model.to(ranks.device), None


def _outline(algorithm: Module, schema: Schema) -> tuple[nn.Module | None, str | None]:
    """The model with its parameters on the meta device; or why it can't be built so.

    All else in it is real, and the same on every worker. What is drawn has no numbers either, as each worker would draw
    others: a buffer gets them with the parameters, and nothing else may be drawn or made of the parameters.
    """
    before, drawn = _on_meta(), _drawn()  # the former are held, so that no new tensor is taken for one of them
    hook = register_module_parameter_registration_hook(_empty)
    try:
        with Undrawn():
            model = algorithm.build(schema)
        for name, p in model.named_parameters():
            if type(p) is not nn.Parameter or p.layout != torch.strided:
                return None, f"its {name} is of a kind of its own"
            _exchange(p, torch.empty_like(p, device="meta"))
    except Exception as error:  # a user's code may do anything with numbers
        return None, (str(error).strip().splitlines() or [type(error).__name__])[0]
    finally:
        hook.remove()
    if _drawn() != drawn:
        return None, "it draws random numbers that are no parameters"
    known = {id(t) for t in [*before, *model.parameters(), *model.buffers()]}
    gc.collect()
    others = sum(id(t) not in known for t in _on_meta())
    return model, f"it keeps {others} more tensors that are drawn or made of its parameters" if others else None


def _empty(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
    """Drops the numbers of a parameter that a module gets."""
    if parameter is not None and not parameter.is_meta and type(parameter) is nn.Parameter:
        _exchange(parameter, torch.empty_like(parameter, device="meta"))


class Undrawn(TorchFunctionMode):
    """Within it tensors of random numbers are made on the meta device, but those of a generator of their own."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in DRAWS and kwargs.get("generator") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


DRAWS = {torch.rand, torch.randn, torch.randint, torch.randperm, torch.rand_like, torch.randn_like, torch.randint_like}


def _drawn() -> list[Any]:
    """What changes when a random number is drawn."""
    numpy: Any = np.random.get_state()
    return [torch.get_rng_state().tolist(), numpy[1].tolist(), numpy[2:], random.getstate()]


def _on_meta() -> list[Tensor]:
    """All tensors of the meta device, whoever holds them."""
    return [t for t in gc.get_objects() if issubclass(type(t), Tensor) and t.is_meta]


def _with_values(
    algorithm: Module, schema: Schema, ranks: Ranks, seed: Callable[[], object], outline: nn.Module, restored: bool
) -> tuple[nn.Module, Values, str | None]:
    """The model without its parameters' numbers, with them beside it on the first worker; or why that can't be."""
    drawn = {name for name, buffer in outline.named_buffers() if buffer.is_meta}
    passing = drawn - outline.state_dict().keys()  # in no checkpoint
    values = Values(ranks, known=not restored or bool(passing))
    if not values.known:
        return outline, values, None
    if ranks.rank:  # for as long as it takes: nobody counts how long the first one builds
        return outline, values, json.loads(ranks.hear(f"built-{ranks.rank}"))
    seed()
    model, reason = algorithm.build(schema), None
    if _shapes(model) != _shapes(outline):
        reason = "it comes out another then"
    for rank in range(1, ranks.world_size):
        ranks.tell(f"built-{rank}", json.dumps(reason))
    if reason is None:
        for name, p in model.named_parameters():
            values.held[name] = _exchange(p, torch.empty_like(p, device="meta"))
    return model, values, reason


def _shapes(model: nn.Module) -> list[Any]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return [(name, tuple(t.shape), t.dtype, t.requires_grad) for name, t in named]


@torch.no_grad()
def _exchange(parameter: nn.Parameter, data: Tensor) -> Tensor:
    """Puts other data under a parameter, whoever refers to it. Returns what it had."""
    new = nn.Parameter(data, requires_grad=parameter.requires_grad)
    new.__dict__.update(parameter.__dict__)
    torch.utils.swap_tensors(parameter, new)
    return new.detach()


def _fill_buffers(model: nn.Module, values: Values) -> None:
    """Buffers are whole on every worker, each in one piece wherever it is registered."""
    ranks = values.ranks
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is None:
                continue
            if id(buffer) not in made:
                here = torch.zeros_like(buffer, device=ranks.device) if buffer.is_meta else buffer.to(ranks.device)
                here = here.contiguous()
                if values.known:
                    give(here)
                made[id(buffer)] = here
            module._buffers[name] = made[id(buffer)]


def hollow(model: nn.Module, device: torch.device) -> None:
    """Puts a single element under each parameter of the meta device: of its shape for an optimizer that is made of it.

    It is no number, so that whoever computes with it will know.
    """
    for p in model.parameters():
        none = math.nan if p.is_floating_point() else 0
        _exchange(p, torch.full((), none, dtype=p.dtype, device=device).expand(p.shape))
