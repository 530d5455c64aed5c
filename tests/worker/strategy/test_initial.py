"""A model that is split over workers begins with the weights that one worker alone would give it, bit for bit."""

from __future__ import annotations

import functools
import os
import random
import resource
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from algorithms.gpt import GPT
from tests.worker.processes import on_workers
from tests.worker.strategy.test_choice import SEED, Odd, gpt, make, restore, save, train
from trainer.algorithm import Module
from trainer.data.schema import Schema
from trainer.job.checkpoint import folder, read_manifest
from trainer.worker.checkpointing.state import weights_in
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.strategy import initial

SPLIT: dict[str, dict[str, Any]] = {"fsdp": {"name": "fsdp"}, "zero 3": {"name": "deepspeed", "stage": 3}}


class Rotated(nn.Module):
    """Buffers of several kinds, one that is in no checkpoint and in two places, one of truth values; a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.last = nn.Linear(6, 11, bias=False)
        self.last.weight = self.embedding.weight
        table = torch.arange(6).float().cos()
        for module in self.blocks:
            module.register_buffer("table", table, persistent=False)
        self.register_buffer("mask", torch.rand(3, 3) > 0.5)
        self.first = nn.Parameter(torch.randn(6))
        self.register_buffer("seen", torch.tensor(7))

    def forward(self, x: Tensor) -> Tensor:
        x = x @ torch.ones(5, 6, device=x.device)
        for block in self.blocks:
            x = block(x) * block.table
        return self.last(x + self.first).mean(1)


class Kept(Odd):
    """Odd's training of another model."""

    def build(self, schema: Any) -> nn.Module:
        return Rotated()


class Looks(Odd):
    """Looks at a number while it builds, which a model without numbers has none of."""

    def build(self, schema: Any) -> nn.Module:
        model = super().build(schema)
        assert model.get_parameter("scale").item() == 1.5
        return model


@functools.cache
def angles() -> Tensor:
    return torch.arange(5).float()


class Remembers(Odd):
    """Keeps a table outside of its model."""

    def build(self, schema: Any) -> nn.Module:
        model, table = super().build(schema), angles() * 2
        model.register_forward_pre_hook(lambda module, args: (args[0] + 0 * table,))
        return model


class Scales(Odd):
    """Keeps something beside its model that it makes of its weights."""

    def build(self, schema: Any) -> nn.Module:
        model = super().build(schema)
        self.norms = [p.detach().norm() for p in model.parameters()][:2]
        return model


class Shuffles(Odd):
    """Draws an order, by torch or by Python."""

    def __init__(self, by: Any) -> None:
        self.by = by

    def build(self, schema: Any) -> nn.Module:
        model = super().build(schema)
        model.order = self.by(5)
        return model


class Other(Odd):
    """Its model depends on the numbers that it has."""

    def build(self, schema: Any) -> nn.Module:
        model = super().build(schema)
        if not model.get_parameter("scale").is_meta:
            model.more = nn.Linear(2, 2)
        return model


ALGORITHMS: dict[str, Any] = {
    "gpt": gpt,
    "odd": Odd,
    "rotated": Kept,
    "table": Remembers,
    "looks": Looks,
    "scales": Scales,
    "torch's order": partial(Shuffles, torch.randperm),
    "python's order": partial(Shuffles, lambda n: random.sample(range(n), n)),
    "other": Other,
}
WHOLE = {
    "looks": "meta tensors",
    "scales": "it keeps 2 more tensors that are drawn or made of its parameters",
    "torch's order": "it keeps 1 more tensors that are drawn or made of its parameters",
    "python's order": "it draws random numbers that are no parameters",
    "other": "it comes out another then",
}


def begin(
    ranks: Ranks, algorithm: Module, options: dict[str, Any], *, restored: bool = False, seed: int = SEED, **train: Any
) -> Any:
    """A training as a job begins it, and whether its model was built without numbers."""
    model, values = initial.build(
        algorithm, Schema(), ranks, partial(torch.manual_seed, seed), split=True, restored=restored
    )
    return *make(algorithm, ranks, options, model=model, values=values, **train), values is not None


def weights_of(name: str) -> dict[str, Tensor]:
    """Those that one worker alone begins with."""
    torch.manual_seed(SEED)
    return dict(ALGORITHMS[name]().build(Schema()).state_dict())


def begun(ranks: Ranks, root: Path, names: list[str], precision: str) -> dict[str, Any]:
    """The first weights of each, saved; whether they were dealt out; each worker's buffers; whether it trains."""
    found: dict[str, Any] = {}
    for spread, options in SPLIT.items():
        for name in names if spread == "fsdp" else [n for n in names if n not in WHOLE]:
            of = ALGORITHMS[name]
            training, strategy, dealt = begin(ranks, of(), options, precision=precision)
            save(root / spread / name, ranks, training)
            buffers = {n: b.tolist() for n, b in training.model.named_buffers(remove_duplicate=False)}
            tied = len(list(training.model.parameters())) == len(list(of().build(Schema()).parameters()))
            losses = train(of(), ranks, training, strategy, 2)
            found[f"{spread}, {name}"] = (dealt, buffers, tied, losses)
    return found


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """By two workers and by three."""
    pytest.importorskip("deepspeed")
    root = tmp_path_factory.mktemp("first")
    names = {"two": list(ALGORITHMS), "three": ["gpt", "odd", "rotated"]}
    return root, {n: on_workers(["two", "three"].index(n) + 2, begun, root / n, names[n], "fp32") for n in names}


CASES = [("two", "fsdp", name) for name in ALGORITHMS]
CASES += [("two", "zero 3", name) for name in ALGORITHMS if name not in WHOLE]
CASES += [("three", spread, name) for spread in SPLIT for name in ("gpt", "odd", "rotated")]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("workers", "spread", "name"), CASES)
def test_the_first_weights_are_those_of_one_worker_alone_bit_for_bit(
    first: Any, workers: str, spread: str, name: str
) -> None:
    root, found = first[0] / workers, first[1][workers]
    alone = weights_of(name)
    place = folder(root / spread / name, 0)
    weights = weights_in(place, read_manifest(place))
    assert weights.keys() == alone.keys() - {"last.weight"}  # a tied weight has one name
    for key, value in weights.items():
        assert torch.equal(value, alone[key]), key
    for dealt, _, tied, losses in (every[f"{spread}, {name}"] for every in found):
        assert dealt == (name not in WHOLE)
        assert tied
        assert np.isfinite(losses).all()


@pytest.mark.slow
@pytest.mark.parametrize("spread", SPLIT)
def test_every_worker_has_the_buffers_whole(first: Any, spread: str) -> None:
    torch.manual_seed(SEED)
    alone = {name: b.tolist() for name, b in Rotated().named_buffers(remove_duplicate=False)}
    assert len(alone) == 4
    for every in [*first[1]["two"], *first[1]["three"]]:
        assert every[f"{spread}, rotated"][1] == alone


def said(ranks: Ranks, name: str) -> str:
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as told:
        begin(ranks, ALGORITHMS[name](), SPLIT["fsdp"])
    return told.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_the_first_worker_says_why_each_builds_the_whole_model(name: str) -> None:
    first, second = (text.replace("\n", "") for text in on_workers(2, said, name))
    assert first.startswith("each worker builds the whole model first, as it can't be built without numbers: ")
    assert WHOLE[name] in first
    assert second == ""


class Counts(Odd):
    """Counts how often it was built with numbers."""

    whole = 0

    def build(self, schema: Any) -> nn.Module:
        model = super().build(schema)
        self.whole += not next(model.parameters()).is_meta
        return model


class CountsRotated(Counts, Kept):
    """Its buffers are in no checkpoint, and need no drawing."""


class CountsDrawn(Counts):
    """It has a drawn buffer that is in no checkpoint."""

    def build(self, schema: Any) -> nn.Module:
        model = super().build(schema)
        model.register_buffer("noise", torch.rand(3), persistent=False)
        return model


def resumed(ranks: Ranks, root: Path) -> dict[str, Any]:
    """Trainings of 3 steps, a checkpoint, 3 steps; and again from the checkpoint, with how often it was built whole."""
    found: dict[str, Any] = {}
    for spread, options in SPLIT.items():
        for of in (Counts, CountsRotated, CountsDrawn):
            algorithm, place = of(), root / spread / of.__name__
            training, strategy, _ = begin(ranks, algorithm, options)
            train(algorithm, ranks, training, strategy, 3)
            save(place, ranks, training)
            losses = train(algorithm, ranks, training, strategy, 3)
            algorithm = of()
            training, strategy, _ = begin(ranks, algorithm, options, restored=True, seed=99)
            restore(folder(place, 3), ranks, training)
            again = train(algorithm, ranks, training, strategy, 3)
            found[f"{spread}, {of.__name__}"] = (losses == again, algorithm.whole)
    return found


@pytest.mark.slow
def test_with_a_checkpoint_nobody_builds_the_whole_model_but_for_buffers_that_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    for rank, found in enumerate(on_workers(2, resumed, tmp_path)):
        for name, (same, whole) in found.items():
            assert same, name
            assert whole == ("Drawn" in name and rank == 0), name


@pytest.mark.slow
def test_in_16_bits_too(tmp_path: Path) -> None:
    """DeepSpeed's weights are then so themselves, as if each worker had rounded the whole model."""
    pytest.importorskip("deepspeed")
    found = on_workers(2, begun, tmp_path, ["gpt", "rotated"], "bf16")
    for name, (dealt, *_) in found[0].items():
        spread, _, algorithm = name.partition(", ")
        place = folder(tmp_path / spread / algorithm, 0)
        for key, value in weights_in(place, read_manifest(place)).items():
            alone = weights_of(algorithm)[key]
            rounded = spread == "zero 3" and key not in dict(ALGORITHMS[algorithm]().build(Schema()).named_buffers())
            assert torch.equal(value, alone.to(torch.bfloat16).float() if rounded else alone), f"{name}, {key}"
        assert dealt


def highest(ranks: Ranks, split: bool) -> int:
    """The main memory that a worker takes at most for its part of a model of 130 MB, in hundredths of that."""
    for layers, width in ((2, 32), (8, 512)):  # what the first takes is not the model's
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        algorithm = GPT(layers=layers, heads=4, width=width, hidden=4 * width, context=16)
        seed = partial(torch.manual_seed, SEED)
        model, values = initial.build(algorithm, Schema(text=True), ranks, seed, split=split)
        size = sum(p.numel() * 4 for p in model.parameters())
        make(algorithm, ranks, SPLIT["fsdp"], model=model, values=values)
    return round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / size * 100)


@pytest.mark.slow
@pytest.mark.skipif(os.uname().sysname != "Linux", reason="counts the kernel's kilobytes")
def test_a_worker_takes_memory_for_its_part_and_not_for_the_whole() -> None:
    """A quarter, of four workers."""
    assert min(on_workers(4, highest, False)) > 95
    found = on_workers(4, highest, True)
    assert max(found[1:]) < 60
