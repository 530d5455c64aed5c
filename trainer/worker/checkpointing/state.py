"""The state of a training: what a checkpoint holds, taken apart into tensors and small bytes, and put together again.

Tensors are spread over the workers' shards; what is small is written as it is: `training.pt` by rank 0, and a
`rank-N.pt` by each worker. Everything is read by code that can run nothing: the shards by `shards`, the rest weights-only.
"""

from __future__ import annotations

import io
import pickle
import random
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from trainer.job.checkpoint import ORIGIN
from trainer.worker.checkpointing import shards
from trainer.worker.checkpointing.layout import Layout, Plain
from trainer.worker.checkpointing.shards import Held, Part, Span, all_of, data_of
from trainer.worker.distributed.ranks import Ranks

TRAINING = "training.pt"
SCHEDULE = "schedule"  # among a training's extras: one that a library drives
REFERENCE = "__tensor__"
MODEL, AVERAGE = "model.", "average."  # what the names of weights and of their averages begin with


class Unfit(ValueError):
    """A checkpoint that is whole, but of another training."""


@dataclass
class Position:
    """Where a training stands. `epoch_step` steps of epoch `epoch` are done."""

    step: int = 0
    epoch: int = 0
    epoch_step: int = 0
    samples: int = 0
    seconds: float = 0.0
    best: dict[str, float] = field(default_factory=dict)
    stale: int = 0  # validations since the watched metric improved
    watched: float | None = None  # its value then
    loss_sum: float = 0.0  # since the last report
    loss_count: int = 0
    reported: int = 0  # the step of that report, the same on all workers
    validated: int = 0  # the step of the last validation, and what it gave
    validation: dict[str, float] = field(default_factory=dict)
    improved: int = 0  # the step of the best validation so far


class Kept(Protocol):
    """A part of the training with a state of its own, small: a scheduler, a precision's scaler."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class Training:
    """All that changes while a model is trained.

    layout: where its numbers lie; by itself, in the model's and the optimizer's own tensors.
    extras: what else has a state. averages: running averages of the weights by name, as they lie here.
    plan: what the optimizer's settings and the schedule follow from: "algorithm", its settings, and "steps", in all. told: what
    a person should read of how a state was taken up.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Any
    position: Position = field(default_factory=Position)
    layout: Layout | None = None
    extras: dict[str, Kept] = field(default_factory=dict)
    averages: dict[str, Held] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layout = self.layout or Plain(self.model, self.optimizer)

    def tensors(self) -> tuple[dict[str, Held], dict[str, Any]]:
        """The state's tensors by name, where they are, and the optimizer's state with references in their place."""
        assert self.layout
        named = {f"{MODEL}{name}": tensor for name, tensor in self.layout.weights().items()}
        named |= {f"{AVERAGE}{name}": tensor for name, tensor in self.averages.items()}
        groups, state = self.layout.optimizer()
        outline = {
            "groups": take_apart(groups, "optimizer.groups", named),
            "state": {name: take_apart(values, f"optimizer.{name}", named) for name, values in state.items()},
        }
        return {n: t for n, t in named.items() if not isinstance(t, Part) or t.data.numel()}, outline

    def small(self, outline: dict[str, Any], ranks: Ranks) -> dict[str, bytes]:
        """This worker's small files of a checkpoint."""
        found = {f"rank-{ranks.rank}.pt": as_bytes(rank_state(ranks, self.position))}
        if ranks.rank == 0:
            found[TRAINING] = as_bytes(
                {
                    "optimizer": outline,
                    "schedule": plain(self.schedule.state_dict()) if self.schedule else None,
                    "extras": {name: plain(kept.state_dict()) for name, kept in self.extras.items()},
                    "position": asdict(self.position),
                    "plan": self.plan,
                }
            )
        return found

    def restore(self, folder: Path, manifest: Mapping[str, Any], ranks: Ranks) -> None:
        """Takes up the state of a checkpoint, verifying every byte that it reads.

        Of another job's state (`checkpoint.ORIGIN`), or one that was trained by another plan, it goes on with what was learned,
        but learns on as it is told itself: the optimizer's settings and the schedule are its own. Raises ValueError with what is wrong with it, Unfit if it is
        of another model or optimizer; the state is then neither the old one nor a new one.
        """
        small = read_small(folder, manifest, TRAINING)
        anew = ORIGIN in manifest or self._is_planned_anew(small)
        own = [dict(group) for group in self.optimizer.param_groups] if anew else None
        try:
            self._take_up(folder, manifest, small)
            if self.schedule and own is None:
                self.schedule.load_state_dict(small["schedule"])
            for name, kept in self.extras.items():
                if name != SCHEDULE or own is None:
                    kept.load_state_dict(small.get("extras", {})[name])
            known = {f.name for f in fields(Position)}
            self.position = Position(**{k: v for k, v in small["position"].items() if k in known})
            if own is not None:
                before = float(self.optimizer.param_groups[0]["lr"])
                self._go_on_by(own)
                if ORIGIN not in manifest:
                    self._tell_of_plan(before)
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            words = " ".join(line.strip() for line in str(error).splitlines()[:2])
            raise Unfit(f"its state doesn't fit this training: {words}") from error
        restore_rank(folder, manifest, ranks, self.position)

    def _is_planned_anew(self, small: Mapping[str, Any]) -> bool:
        """Whether the settings of a checkpoint, or its schedule, follow from another plan than this training's."""
        plan = small.get("plan") or self.plan  # older checkpoints tell none
        scheduled = bool(self.schedule or self.extras.get(SCHEDULE) or small["schedule"])
        return plan.get("algorithm") != self.plan.get("algorithm") or (
            scheduled and plan.get("steps") != self.plan.get("steps")
        )

    def _tell_of_plan(self, before: float) -> None:
        rate, steps = float(self.optimizer.param_groups[0]["lr"]), self.plan.get("steps")
        over = f", of a schedule over {steps:,} steps" if steps and (self.schedule or SCHEDULE in self.extras) else ""
        if rate != before:
            self.told.append(f"the learning rate goes on at {rate:.4g}{over}; it was {before:.4g}")

    def _go_on_by(self, settings: list[dict[str, Any]]) -> None:
        """The optimizer's settings as they were before another's were taken up, and the schedule brought to this step."""
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            group.update({key: value for key, value in own.items() if key != "params"})
        with warnings.catch_warnings():  # of a schedule's steps without the optimizer's
            warnings.simplefilter("ignore")
            for schedule in filter(None, (self.schedule, self.extras.get(SCHEDULE))):
                for _ in range(self.position.step):
                    schedule.step()

    def _take_up(self, folder: Path, manifest: Mapping[str, Any], small: Mapping[str, Any]) -> None:
        """The weights, their averages and the optimizer's state."""
        assert self.layout
        shapes, spans, optimizer = self.layout.shapes(), self.layout.spans(), small["optimizer"]
        owners = {reference: name for name, tree in optimizer["state"].items() for reference in references_in(tree)}
        known = {**owners, **{f"{prefix}{name}": name for name in shapes for prefix in (MODEL, AVERAGE)}}
        known |= dict.fromkeys(references_in(optimizer["groups"]), "")

        def wanted(name: str, shape: tuple[int, ...]) -> Span | None:
            if name not in known:
                return None
            return (
                spans.get(known[name], all_of(name, shape)) if shape == shapes.get(known[name]) else all_of(name, shape)
            )

        into = {f"{MODEL}{name}": tensor for name, tensor in self.layout.into().items()}
        into |= {f"{AVERAGE}{name}": data_of(tensor) for name, tensor in self.averages.items()}
        reading = shards.Reading(wanted, into)
        for name, line in manifest["files"].items():
            if name.endswith(".safetensors"):
                shards.read(folder / name, line, reading)
        found = reading.tensors()
        check_model(shapes, {n.removeprefix(MODEL): s for n, s in reading.shapes.items() if n.startswith(MODEL)})
        for name, average in self.averages.items():
            if data_of(average).numel():
                data_of(average).copy_(found[f"{AVERAGE}{name}"].view(data_of(average).shape))
        for reference, name in owners.items():
            if name in spans and reading.shapes[reference] == shapes[name]:
                values = found.get(reference)
                found[reference] = self.layout.like(name, torch.empty(0) if values is None else values)
        weights = {n.removeprefix(MODEL): t for n, t in found.items() if n.startswith(MODEL)}
        try:
            groups = put_together(optimizer["groups"], found)
            self.layout.load(weights, groups, put_together(optimizer["state"], found))
        except ValueError as error:
            raise Unfit(f"its state doesn't fit this training: {error}") from error


def check_model(own: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    """Raises Unfit if the weights are of another model."""
    if set(found) != set(own):
        odd = sorted(set(found) ^ set(own))
        raise Unfit(f"its weights are of another model ({odd[0]} and {len(odd) - 1} more don't match)")
    for name, shape in own.items():
        if found[name] != shape:
            raise Unfit(f"its weights are of another model ({name} is of shape {found[name]} there, {shape} here)")


def weights_in(folder: Path, manifest: Mapping[str, Any], averaged: bool = False) -> dict[str, Tensor]:
    """A model's weights out of a checkpoint, whole, whatever strategy has written them.

    averaged: their running averages, with what has none as it is. Raises ValueError for one that is damaged.
    """

    def wanted(name: str, shape: tuple[int, ...]) -> Span | None:
        return all_of(name, shape) if name.startswith((MODEL, AVERAGE)[: 1 + averaged]) else None

    reading = shards.Reading(wanted)
    for name, line in manifest["files"].items():
        if name.endswith(".safetensors"):
            shards.read(folder / name, line, reading)
    found = {name: tensor.view(reading.shapes[name]) for name, tensor in reading.tensors().items()}
    weights = {name.removeprefix(MODEL): tensor for name, tensor in found.items() if name.startswith(MODEL)}
    return weights | {n.removeprefix(AVERAGE): t for n, t in found.items() if n.startswith(AVERAGE)}


def take_apart(tree: Any, prefix: str, named: dict[str, Held]) -> Any:
    """The tree with each tensor replaced by a reference, and put into `named` under its path."""
    if isinstance(tree, Part) or (
        isinstance(tree, Tensor) and tree.layout == torch.strided and tree.dtype in shards.NAMES
    ):
        named[prefix] = tree
        return {REFERENCE: prefix}
    if isinstance(tree, dict):
        return {key: take_apart(value, f"{prefix}.{key}", named) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)) and any(isinstance(v, (Tensor, Part, dict, list, tuple)) for v in tree):
        return [take_apart(value, f"{prefix}.{i}", named) for i, value in enumerate(tree)]
    return plain(tree)


def references_in(tree: Any) -> Iterator[str]:
    """All names that a tree refers to."""
    if isinstance(tree, dict):
        if REFERENCE in tree:
            yield tree[REFERENCE]
            return
        tree = list(tree.values())
    if isinstance(tree, list):
        for value in tree:
            yield from references_in(value)


def plain(tree: Any) -> Any:
    """The tree with numpy's numbers as Python's, which weights-only reading knows."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(plain(value) for value in tree) if type(tree) in (list, tuple) else tree
    return tree.item() if isinstance(tree, np.generic) else tree


def put_together(tree: Any, named: Mapping[str, Tensor]) -> Any:
    """The tree with its tensors in place again. Raises KeyError if one is missing."""
    if isinstance(tree, dict):
        if REFERENCE in tree:
            return named[tree[REFERENCE]]
        return {key: put_together(value, named) for key, value in tree.items()}
    if isinstance(tree, list):
        return [put_together(value, named) for value in tree]
    return tree


def as_bytes(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def read_small(folder: Path, manifest: Mapping[str, Any], name: str) -> Any:
    """A small file of a checkpoint, verified. Raises ValueError if it is missing or damaged."""
    from trainer.job.checkpoint import CHECKSUM, checksum

    try:
        data = (folder / name).read_bytes()
        digest = checksum()
        digest.update(data)
        if digest.hexdigest() != manifest["files"][name][CHECKSUM]:
            raise ValueError(f"{name} has another checksum")
    except (FileNotFoundError, KeyError):
        raise ValueError(f"{name} is missing") from None
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{name} can't be read as plain data: {str(error).splitlines()[0]}") from None


def rank_state(ranks: Ranks, position: Position | None = None) -> dict[str, Any]:
    """What is a worker's own: its random numbers, its part of the loss since the last report."""
    name, keys, at, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if ranks.device.type == "cuda" else None,
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), at, has_gauss, cached],
        "python": random.getstate(),
        "loss": [position.loss_sum, position.loss_count] if position else None,
        "world_size": ranks.world_size,
    }


def restore_rank(folder: Path, manifest: Mapping[str, Any], ranks: Ranks, position: Position | None = None) -> None:
    """Takes up what was this worker's own.

    With more workers than before, a new one's random numbers begin at their seed; with fewer, the streams of those
    that are gone end. The loss since the last report is carried on by the workers that are left.
    """
    names = sorted((n for n in manifest["files"] if n.startswith("rank-")), key=lambda n: int(n[5:-3]))
    if position is not None:
        position.loss_sum, position.loss_count = 0.0, 0
        for name in names[ranks.rank :: ranks.world_size]:
            loss, count = read_small(folder, manifest, name)["loss"]
            position.loss_sum, position.loss_count = position.loss_sum + loss, position.loss_count + count
    own = f"rank-{ranks.rank}.pt"
    if own not in manifest["files"]:
        return
    state = read_small(folder, manifest, own)
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and ranks.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"])
    name, keys, at, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), at, has_gauss, cached))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
