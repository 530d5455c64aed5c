"""Where ZeRO's optimizers keep a training: fp32 weights and their state, flat, each worker with ranges of its own.

DeepSpeed has no one way to reach them: it depends on the stage and on the numbers that the model computes in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainer.worker.checkpointing.layout import Groups, State
from trainer.worker.checkpointing.shards import Held, Part, Span
from trainer.worker.distributed.ranks import Ranks


@dataclass
class Fragment:
    """What this worker holds of a parameter: `count` elements of it from `start` on, at `offset` in `flat`."""

    name: str
    start: int
    count: int
    flat: Tensor
    offset: int

    def of(self, tensor: Tensor) -> Tensor:
        """This range of a tensor that lies as `flat` does."""
        return tensor.detach().view(-1).narrow(0, self.offset, self.count)


@dataclass
class Fragments:
    """The layout of ZeRO's optimizers: fp32 weights and their state in flat tensors, each worker with its range."""

    model: nn.Module
    engine: Any
    all_shapes: dict[str, tuple[int, ...]]
    groups: list[list[str]]
    ranks: Ranks
    fragments: dict[str, Fragment] = field(init=False)
    flats: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self._optimizer = self.engine.optimizer
        self._basic = self.engine.basic_optimizer
        self._stage = self.engine.zero_optimization_stage()
        self.flats, found = {3: _of_stage_3, 0: _of_stage_0}.get(self._stage, _of_stage_1_and_2)(
            self._optimizer, dict(self.model.named_parameters()), self.ranks
        )
        self.fragments = {fragment.name: fragment for fragment in found}
        learned = {name for group in self.groups for name in group}
        self._split = learned if self._stage < 3 else learned | {n for n, _ in self.model.named_parameters()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.all_shapes

    def spans(self) -> dict[str, Span]:
        if self._stage == 0:
            return {}
        found: dict[str, Span] = dict.fromkeys(self._split & set(self.all_shapes), (0, 0))
        return found | {f.name: (f.start, f.start + f.count) for f in self.fragments.values() if f.count}

    def weights(self) -> dict[str, Held]:
        whole = self.model.state_dict()
        return {
            name: self._held(name, None) if name in self._split else whole[name].detach() for name in self.all_shapes
        }

    def optimizer(self) -> tuple[Groups, State]:
        groups = [
            {**{k: v for k, v in group.items() if k != "params"}, "params": names}
            for group, names in zip(self._basic.param_groups, self.groups, strict=True)
        ]
        stepped = [flat for flat in self.flats if self._basic.state.get(flat)]
        known: dict[str, Any] = self._basic.state[stepped[0]] if stepped else {}
        state: State = {}
        for name in (n for group in self.groups for n in group) if known else ():
            fragment = self.fragments.get(name)
            own = self._basic.state[fragment.flat] if fragment else known
            flat = fragment.flat if fragment else stepped[0]
            state[name] = {
                key: self._held(name, value) if isinstance(value, Tensor) and value.shape == flat.shape else value
                for key, value in own.items()
            }
        return groups, state

    def _held(self, name: str, value: Tensor | None) -> Held:
        """A parameter's fp32 weights, or what lies like them in `value`."""
        shape, fragment = self.all_shapes[name], self.fragments.get(name)
        if fragment is None:
            return Part(shape, 0, torch.empty(0))
        data = fragment.of(fragment.flat if value is None else value)
        return data.view(shape) if self._stage == 0 else Part(shape, fragment.start, data)

    def into(self) -> dict[str, Tensor]:
        found = {name: f.of(f.flat) for name, f in self.fragments.items()}
        return {name: tensor for name, tensor in found.items() if tensor.device.type == "cpu"}

    def like(self, name: str, values: Tensor) -> Tensor:
        return values

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor], groups: Groups, state: State) -> None:
        whole = self.model.state_dict()
        for name, value in weights.items():
            fragment = self.fragments.get(name)
            target = fragment.of(fragment.flat) if fragment else whole[name]
            if value.data_ptr() != target.data_ptr():
                target.copy_(value.view(target.shape))
        if [g["params"] for g in groups] != self.groups:
            raise ValueError("its optimizer has other parameter groups")
        for own, saved in zip(self._basic.param_groups, groups, strict=True):
            own.update({key: value for key, value in saved.items() if key != "params"})
        self._load_state(state)
        self.refresh()

    def _load_state(self, state: State) -> None:
        self._basic.state.clear()
        known: dict[str, Any] = next(iter(state.values()), {})
        shape = self.all_shapes[next(iter(state))] if state else ()
        spread = {key for key, v in known.items() if isinstance(v, Tensor) and (v.dim() or not shape) and key != "step"}
        for flat in self.flats if known else ():
            self._basic.state[flat] = {
                key: torch.zeros_like(flat, requires_grad=False) if key in spread else _copy(value)
                for key, value in known.items()
            }
        for name, values in state.items():
            if fragment := self.fragments.get(name):
                for key in spread:
                    target = fragment.of(self._basic.state[fragment.flat][key])
                    target.copy_(values[key].reshape(-1))

    @contextmanager
    def unchanged(self, names: Iterable[str]) -> Iterator[None]:
        """Within it the optimizer steps, and leaves these parameters and its state of them as they were."""
        kept: list[tuple[Tensor, Tensor]] = []
        for fragment in (self.fragments[name] for name in names if name in self.fragments):
            state = self._basic.state.get(fragment.flat, {}).values()
            alike = (t for t in state if isinstance(t, Tensor) and t.shape == fragment.flat.shape)
            kept += [(part, part.clone()) for part in map(fragment.of, (fragment.flat, *alike))]
        yield
        with torch.no_grad():
            for part, before in kept:
                part.copy_(before)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Brings the fp32 weights to those that the model computes with, on all workers."""
        optimizer = self._optimizer
        if self._stage == 0:
            for computed, masters in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True):
                for parameter, master in zip(computed, masters, strict=True):
                    parameter.data.copy_(master.data)
        elif self._stage < 3:
            optimizer.update_lp_params()
        else:
            for i, flat in enumerate(optimizer.fp32_partitioned_groups_flat):
                optimizer.fp16_partitioned_groups_flat[i].data.copy_(flat.data)
                optimizer._unflatten_partitioned_parameters(i)
            if optimizer.persistent_parameters:  # kept whole on every worker
                optimizer.persistent_parameters[0].partition(optimizer.persistent_parameters)
                optimizer.persistent_parameters[0].all_gather(optimizer.persistent_parameters)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


Found = tuple[list[Tensor], list[Fragment]]


def _of_stage_0(optimizer: Any, parameters: Mapping[str, nn.Parameter], ranks: Ranks) -> Found:
    """16 bits without ZeRO: an fp32 copy of each parameter, whole on every worker."""
    names = {id(p): name for name, p in parameters.items()}
    flats, fragments = [], []
    for computed, masters in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True):
        for parameter, master in zip(computed, masters, strict=True):
            flats.append(master)
            fragments.append(Fragment(names[id(parameter)], 0, parameter.numel(), master, 0))
    return flats, fragments


def _of_stage_1_and_2(optimizer: Any, parameters: Mapping[str, nn.Parameter], ranks: Ranks) -> Found:
    """A group's parameters lie behind each other, cut into as many ranges as there are workers."""
    flats = getattr(optimizer, "single_partition_of_fp32_groups", None)
    if flats is None:
        flats = optimizer.fp32_groups_flat_partition
    fragments = []
    for name, parameter in parameters.items():
        mapping = getattr(parameter, "_hp_mapping", None)
        if mapping is not None:
            within, here = mapping.lp_fragment_address, mapping.hp_fragment_address
            flat = flats[mapping.param_group_index]
            fragments.append(Fragment(name, within.start, within.numel, flat, here.start))
    return list(flats), fragments


def _of_stage_3(optimizer: Any, parameters: Mapping[str, nn.Parameter], ranks: Ranks) -> Found:
    """Each parameter is cut into as many ranges as there are workers, the last ones padded."""
    fragments = []
    split: dict[str, Any] = dict(parameters)
    for name, parameter in split.items():
        total = math.prod(parameter.ds_shape)
        if parameter.requires_grad:
            group, offset, size = optimizer.grad_position[optimizer.get_param_id(parameter)]
            flat = optimizer.fp32_partitioned_groups_flat[group]
        else:
            flat, offset, size = parameter.ds_tensor, 0, parameter.ds_tensor.numel()
        start = min(size * ranks.rank, total)
        if count := min(size, total - start):
            fragments.append(Fragment(name, start, count, flat, offset))
    return list(optimizer.fp32_partitioned_groups_flat), fragments
