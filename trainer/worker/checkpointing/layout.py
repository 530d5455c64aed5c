"""Where the numbers of a training lie: what of a model and its optimizer this worker holds, and how it takes up a state.

A state has one form whoever holds it: weights by their name in the model, the optimizer's state by its parameter's name.
So a checkpoint of any strategy on any number of workers is that of any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from trainer.job.model.weights import is_spread, local, references
from trainer.worker.checkpointing.shards import Held, Part, Span

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Groups = list[dict[str, Any]]  # as torch's, with names in `params`
State = dict[str, Any]  # by parameter


class Layout(Protocol):
    """A worker's part of a model and its optimizer. Names are those of the model."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor of the model, in all."""

    def spans(self) -> dict[str, Span]:
        """Of those that aren't whole here: what is."""

    def weights(self) -> dict[str, Held]:
        """What this worker holds of the model, where it is."""

    def optimizer(self) -> tuple[Groups, State]:
        """The optimizer's groups, and its state with `Held` in it."""

    def into(self) -> dict[str, Tensor]:
        """Tensors on the CPU that weights can be read into."""

    def like(self, name: str, values: Tensor) -> Any:
        """A tensor of the optimizer's state made of its span's values, as the optimizer of this parameter keeps it."""

    def load(self, weights: Mapping[str, Tensor], groups: Groups, state: State) -> None:
        """Takes up a state: weights whole or, by `spans`, flat. Raises ValueError, KeyError or RuntimeError."""


def span(tensor: DTensor) -> Span:
    """Which elements of it are here, laid flat: it is split along its first dimension, over one row of workers."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    if not math.prod(shape):
        return 0, 0
    start = offset[0] * math.prod(tensor.shape[1:])
    return start, start + math.prod(shape)


def held(tensor: Tensor) -> Held:
    """A tensor as it is saved."""
    if not is_spread(tensor):
        return tensor
    return Part(tuple(tensor.shape), span(tensor)[0], tensor.to_local().reshape(-1))


class Plain:
    """Whole tensors or DTensors, and an optimizer of torch's over them."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self._optimizer = model, optimizer

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(t.shape) for name, t in references(self.model).items()}

    def spans(self) -> dict[str, Span]:
        return {name: span(t) for name, t in references(self.model).items() if is_spread(t)}

    def weights(self) -> dict[str, Held]:
        return {name: held(t) for name, t in references(self.model).items()}

    def optimizer(self) -> tuple[Groups, State]:
        names = self._names()
        groups = [{**g, "params": [names[id(p)] for p in g["params"]]} for g in self._optimizer.param_groups]
        state = {names[id(p)]: _each(values, held) for p, values in self._optimizer.state.items()}
        return groups, state

    def into(self) -> dict[str, Tensor]:
        tensors = {name: local(t) for name, t in references(self.model).items()}
        return {n: t for n, t in tensors.items() if t.device.type == "cpu" and t.is_contiguous()}

    def like(self, name: str, values: Tensor) -> Tensor:
        parameter = dict(self.model.named_parameters())[name]
        if not is_spread(parameter):
            return values
        from torch.distributed.tensor import DTensor

        here = parameter.to_local()
        return DTensor.from_local(
            values.view(here.shape).to(here.device),
            parameter.device_mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        )

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor], groups: Groups, state: State) -> None:
        own = references(self.model)
        whole: dict[str, Tensor] = {}
        for name, value in weights.items():
            here = local(own[name])
            if value.data_ptr() == here.data_ptr() and value.numel():
                continue  # it was read into its place
            if is_spread(own[name]):
                here.copy_(value.view(here.shape))
            else:
                whole[name] = value
        if whole:
            self.model.load_state_dict(whole, strict=False)
        names, number = self._names(), {}
        for i, p in enumerate(p for g in self._optimizer.param_groups for p in g["params"]):
            number[names[id(p)]] = i
        own_groups = [[names[id(p)] for p in g["params"]] for g in self._optimizer.param_groups]
        if own_groups != [g["params"] for g in groups]:
            raise ValueError("its optimizer has other parameter groups")
        self._optimizer.load_state_dict(
            {
                "state": {number[name]: values for name, values in state.items()},
                "param_groups": [{**g, "params": [number[n] for n in g["params"]]} for g in groups],
            }
        )

    def _names(self) -> dict[int, str]:
        """Of the optimizer's parameters. One that isn't in the model is called by its number."""
        named = {id(p): name for name, p in self.model.named_parameters()}
        every = [p for g in self._optimizer.param_groups for p in g["params"]]
        return {id(p): named.get(id(p), f"#{i}") for i, p in enumerate(every)}


def _each(tree: Any, make: Any) -> Any:
    """The tree with each tensor replaced."""
    if isinstance(tree, Tensor):
        return make(tree)
    if isinstance(tree, dict):
        return {key: _each(value, make) for key, value in tree.items()}
    return [_each(value, make) for value in tree] if isinstance(tree, list) else tree
