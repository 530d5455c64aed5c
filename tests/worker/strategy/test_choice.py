"""A model trains the same however it is spread over workers, and a checkpoint of any strategy is one of every other."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from algorithms.gpt import GPT
from algorithms.linear import Linear
from tests.worker.processes import on_workers
from trainer.algorithm import Batch, Module
from trainer.config.schema import StrategyConfig, TrainConfig
from trainer.data.encoding.text import Tokens
from trainer.data.schema import Column, Schema
from trainer.errors import UserError
from trainer.job import checkpoint
from trainer.worker.checkpointing import shards
from trainer.worker.checkpointing.ema import Averages
from trainer.worker.checkpointing.saver import Saver
from trainer.worker.checkpointing.state import Position, Training, weights_in
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.strategy import choice
from trainer.worker.strategy.initial import Values
from trainer.worker.strategy.replicated import Spread

pytest.importorskip("deepspeed")

SEED = 3
STAGES = {f"zero {stage}": {"name": "deepspeed", "stage": stage} for stage in range(4)}
STRATEGIES: dict[str, dict[str, Any]] = {"ddp": {"name": "ddp"}, "fsdp": {"name": "fsdp"}, **STAGES}


class Odd(Module):
    """Sizes that no number of workers divides, two parameter groups, a buffer, frozen and tied weights, a scalar."""

    def build(self, schema: Any) -> nn.Module:
        model = nn.ModuleDict(
            {
                "first": nn.Linear(5, 7),
                "blocks": nn.Sequential(nn.Linear(7, 7), nn.Linear(7, 7), nn.Linear(7, 7)),
                "norm": nn.BatchNorm1d(7),
                "frozen": nn.Linear(7, 3),
                "last": nn.Linear(7, 1),
            }
        )
        model["frozen"].requires_grad_(False)
        net = Net(model)
        net.scale = nn.Parameter(torch.tensor([1.5]))
        return net

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return (model(batch.x) - batch.y).square().mean()

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        learned = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in learned if p.ndim < 2], "lr": 0.02},
        ]
        return torch.optim.AdamW(groups, lr=0.01)

    def schedule(self, optimizer: torch.optim.Optimizer, steps: int | None) -> Any:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.95**step)


class Net(nn.Module):
    def __init__(self, parts: nn.ModuleDict) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        p = self.parts
        hidden = p["norm"](p["blocks"](torch.tanh(p["first"](x))))
        return p["last"](hidden).squeeze(1) * self.scale + p["frozen"](hidden).sum(1)


def make(
    algorithm: Module,
    ranks: Ranks,
    options: Mapping[str, Any],
    seed: int = SEED,
    schema: Schema | None = None,
    model: nn.Module | None = None,
    values: Values | None = None,
    **train: Any,
) -> tuple[Training, Spread]:
    """A fresh training, as a job begins it; of a model that was built already, if one is given."""
    torch.manual_seed(seed)

    def training_of(model: nn.Module) -> Training:
        optimizer = algorithm.optimizer(model)
        return Training(model, optimizer, algorithm.schedule(optimizer, 100), Position())

    settings = {**dataclasses.asdict(TrainConfig(batch_size=12)), **train}
    return choice.spread(
        algorithm,
        model or algorithm.build(schema or Schema()),
        training_of,
        ranks,
        settings["precision"].replace("auto", "fp32"),
        {**dataclasses.asdict(StrategyConfig()), **options},
        settings,
        100,
        values,
    )


def batches(algorithm: Module, ranks: Ranks, start: int, steps: int, parts: int = 1) -> Any:
    """For each step, this worker's parts of its batch."""
    if isinstance(algorithm, GPT):
        samples = Tokens(np.frombuffer(Path(__file__).read_bytes(), np.uint8), 16)
        stream = samples.stream(
            seed=SEED, epoch=0, batch_size=12, rank=ranks.rank, world=ranks.world_size, accumulate=parts
        )
        every = [batch for _, batch in zip(range((start + steps) * parts), stream, strict=False)]
        yield from (every[i * parts : (i + 1) * parts] for i in range(start, start + steps))
        return
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(12, 5, generator=generator), torch.randn(12, generator=generator)
        share = 12 // ranks.world_size
        rows = slice(ranks.rank * share, (ranks.rank + 1) * share)
        yield [Batch(x[rows], y[rows], share, 12)]


def train(
    algorithm: Module, ranks: Ranks, training: Training, spread: Spread, steps: int, parts: int = 1, **more: Any
) -> list[float]:
    """Trains on; each step's loss over all workers."""
    averages: Averages | None = more.get("averages")
    losses = []
    training.model.train()
    for batch in batches(algorithm, ranks, training.position.step, steps, parts):
        sums = torch.zeros(1, dtype=torch.float64)
        for i, part in enumerate(batch, 1):
            sums += spread.part(part, i == len(batch)).item() * part.size / part.total
        spread.update()
        if training.schedule:
            training.schedule.step()
        if averages:
            averages.update()
        losses.append(ranks.sum(sums).item())
        training.position.step += 1
    return losses


def save(root: Path, ranks: Ranks, training: Training) -> Path:
    saver = Saver(root, ranks, "0", checkpoint.Retention(), lambda: None)
    assert training.layout
    saver.spread = any(ranks.gather(bool(training.layout.spans())))
    saver.first = frozenset(f"model.{name}" for name, _ in training.model.named_buffers())
    tensors, outline = training.tensors()
    saver.take(training.position.step, tensors, training.small(outline, ranks), {})
    saver.finish()
    ranks.barrier()
    return checkpoint.folder(root, training.position.step)


def restore(folder: Path, ranks: Ranks, training: Training) -> None:
    training.restore(folder, checkpoint.read_manifest(folder), ranks)


def held_in(folder: Path) -> dict[str, list[float]]:
    """Every number of a checkpoint's tensors."""
    reading = shards.Reading()
    for name, line in checkpoint.read_manifest(folder)["files"].items():
        if name.endswith(".safetensors"):
            shards.read(folder / name, line, reading)
    return {name: tensor.reshape(-1).tolist() for name, tensor in reading.tensors().items()}


def gpt() -> GPT:
    return GPT(layers=2, heads=2, kv_heads=1, width=32, context=16, dropout=0.0, lr=1e-3)


# what one worker of two, or one alone, does


def curves(ranks: Ranks) -> dict[str, list[float]]:
    """60 steps under every strategy, with clipping, and with two parts of each batch."""
    chosen = STRATEGIES if ranks.world_size > 1 else {"single": {"name": "single"}}
    found = {}
    for name, options in chosen.items():
        for parts in (1, 2):
            training, spread = make(gpt(), ranks, options, gradient_clip=0.5, gradient_accumulation=parts)
            found[f"{name}, {parts}"] = train(gpt(), ranks, training, spread, 60, parts)
    return found


def penalised(ranks: Ranks) -> dict[str, list[float]]:
    """Losses of `linear` with penalties on weights, which it takes beside the model's call, under every strategy."""
    chosen = STRATEGIES if ranks.world_size > 1 else {"single": {"name": "single"}}
    found = {}
    for name, options in chosen.items():
        algorithm = Linear(l1=0.5, l2=0.5, normalize=False, lr=0.1)
        label = Column(name="y", kind="numeric", classes=())
        schema = Schema(features=tuple(Column(name=f"x{i}", kind="numeric") for i in range(5)), label=label, rows=100)
        training, spread = make(algorithm, ranks, options, schema=schema)
        found[name] = train(algorithm, ranks, training, spread, 8)
    return found


@pytest.mark.slow
def test_penalties_count_under_every_strategy() -> None:
    alone = on_workers(1, penalised)[0]["single"]
    for name, losses in on_workers(2, penalised)[0].items():
        assert losses == pytest.approx(alone, rel=1e-5), name


def write_all(ranks: Ranks, root: Path, train_options: dict[str, Any]) -> dict[str, list[float]]:
    """A checkpoint of step 5 by every strategy; then the losses of 5 steps more, and its state then."""
    chosen = (
        STRATEGIES if ranks.world_size > 1 else {"single": {"name": "single"}, "fsdp": STRATEGIES["fsdp"], **STAGES}
    )
    found = {}
    for name, options in chosen.items():
        algorithm = Odd()
        training, spread = make(algorithm, ranks, options, **train_options)
        train(algorithm, ranks, training, spread, 5)
        save(root / name, ranks, training)
        found[name] = train(algorithm, ranks, training, spread, 5)
        save(root / name, ranks, training)
    return found


def read_all(ranks: Ranks, root: Path, by: list[str], train_options: dict[str, Any]) -> dict[str, Any]:
    """Takes up each checkpoint under each strategy, saves it again, and goes on from it for 5 steps."""
    chosen = (
        STRATEGIES if ranks.world_size > 1 else {"single": {"name": "single"}, "fsdp": STRATEGIES["fsdp"], **STAGES}
    )
    found = {}
    for writer in by:
        for reader, options in chosen.items():
            algorithm, place = Odd(), root / f"{writer} by {reader}, {ranks.world_size}"
            training, spread = make(algorithm, ranks, options, seed=99, **train_options)
            restore(checkpoint.folder(root / writer, 5), ranks, training)
            save(place, ranks, training)
            found[f"{writer} by {reader}"] = train(algorithm, ranks, training, spread, 5)
            save(place, ranks, training)
    return found


@pytest.mark.slow
def test_the_loss_curve_is_the_same_under_every_strategy() -> None:
    alone = on_workers(1, curves)[0]
    together = on_workers(2, curves)[0]
    expected = np.array(alone["single, 1"])
    assert expected[-1] < 0.8 * expected[0]
    assert len(together) == 12
    for name, losses in {**alone, **together}.items():
        assert np.abs(np.array(losses) / expected - 1).max() < 1e-4, name


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Checkpoints by every strategy on two workers, and taken up by every other on two and on one."""
    root = tmp_path_factory.mktemp("written")
    wrote = on_workers(2, write_all, root, {})[0]
    read = {
        2: on_workers(2, read_all, root, list(STRATEGIES), {})[0],
        1: on_workers(1, read_all, root, ["ddp", "fsdp", "zero 1", "zero 3"], {})[0],
    }
    return root, wrote, read


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("writer", STRATEGIES)
def test_a_strategys_own_checkpoint_goes_on_bit_for_bit(written: Any, writer: str) -> None:
    root, wrote, read = written
    assert read[2][f"{writer} by {writer}"] == wrote[writer]
    place = root / f"{writer} by {writer}, 2"
    assert held_in(checkpoint.folder(place, 10)) == held_in(checkpoint.folder(root / writer, 10))


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["single", *STRATEGIES])
def test_any_strategy_takes_up_anothers_checkpoint_bit_for_bit(written: Any, reader: str) -> None:
    """On two workers, and on one: nothing is lost or changed on the way, and it trains on alike."""
    root, wrote, read = written
    for workers, found in read.items():
        for writer in STRATEGIES:
            losses = found.get(f"{writer} by {reader}")
            if losses is not None:
                place = root / f"{writer} by {reader}, {workers}"
                assert held_in(checkpoint.folder(place, 5)) == held_in(checkpoint.folder(root / writer, 5)), writer
                if workers == 2:  # one worker normalises over all samples at once
                    assert losses == pytest.approx(wrote[writer], rel=1e-4), writer


@pytest.mark.slow
@pytest.mark.parametrize("writer", STRATEGIES)
def test_each_worker_writes_only_what_it_holds(written: Any, writer: str) -> None:
    folder = checkpoint.folder(written[0] / writer, 5)
    sizes = [line["size"] for name, line in checkpoint.read_manifest(folder)["files"].items() if "shard" in name]
    assert len(sizes) == 2
    weights = weights_in(folder, checkpoint.read_manifest(folder))
    assert weights["parts.blocks.0.weight"].shape == (7, 7)
    assert set(weights) == set(Odd().build(None).state_dict())


def in_numbers(ranks: Ranks, root: Path, names: list[str], precision: str, ema: float | None) -> dict[str, Any]:
    """5 steps, a checkpoint, 5 steps; and again from the checkpoint: what differs in the end, under each strategy."""
    found = {}
    for name in names:
        options = STRATEGIES[name]
        place, ends = root / name, []
        for again in (False, True):
            training, spread = make(gpt(), ranks, options, seed=99 if again else SEED, precision=precision)
            averages = Averages(training, ema, spread.refresh) if ema else None
            if again:
                restore(checkpoint.folder(place, 5), ranks, training)
            else:
                train(gpt(), ranks, training, spread, 5, averages=averages)
                save(place, ranks, training)
            train(gpt(), ranks, training, spread, 5, averages=averages)
            save(place / str(again), ranks, training)
            ends.append(dict(training.extras["scaler"].state_dict().items()) if training.extras else {})
        first, second = (held_in(checkpoint.folder(place / str(again), 10)) for again in (False, True))
        found[name] = {"same": first == second, "extras": ends, "averages": sum("average." in n for n in first)}
    return found


@pytest.mark.slow
def test_bf16_with_averages_goes_on_bit_for_bit_under_every_strategy(tmp_path: Path) -> None:
    for name, found in on_workers(2, in_numbers, tmp_path, list(STRATEGIES), "bf16", 0.9)[0].items():
        assert found["same"], name
        assert found["averages"] == len(list(gpt().build(Schema()).parameters())), name


@pytest.mark.slow
def test_fp16_goes_on_with_its_scale(tmp_path: Path) -> None:
    """On a CPU, where DeepSpeed has none of it, under the other strategies."""
    for name, found in on_workers(2, in_numbers, tmp_path, ["ddp", "fsdp"], "fp16", None)[0].items():
        assert found["same"], name
        first, second = found["extras"]
        assert first == second, name
        assert len(first) >= 2, name


def averaged(ranks: Ranks) -> dict[str, Any]:
    """Of each strategy, the loss of a validation batch with the weights, with their averages, and after that again."""
    found = {}
    for name, options in STRATEGIES.items():
        training, spread = make(gpt(), ranks, options)
        averages = Averages(training, 0.9, spread.refresh)
        train(gpt(), ranks, training, spread, 8, averages=averages)
        batch = next(batches(gpt(), ranks, 9, 1))[0]

        def loss(spread: Spread = spread, batch: Batch = batch) -> float:
            spread.model.eval()
            with torch.no_grad():
                return spread.evaluate(batch)["loss"].mean().item()

        before = loss()
        with averages.in_place():
            within = loss()
        found[name] = [before, within, loss()]
    return found


@pytest.mark.slow
def test_what_is_validated_are_the_averages_and_training_goes_on_without_them() -> None:
    found = on_workers(2, averaged)[0]
    for name, (before, within, after) in found.items():
        assert before == after, name
        assert abs(within - before) > 1e-3, name
        assert within == pytest.approx(found["ddp"][1], rel=1e-4), name


def same_with(ranks: Ranks, names: list[str], train_options: dict[str, Any]) -> dict[str, list[float]]:
    """A few steps under each strategy with a setting that changes no result."""
    found = {}
    for name in names:
        training, spread = make(gpt(), ranks, STRATEGIES[name], **train_options)
        found[name] = train(gpt(), ranks, training, spread, 4)
    return found


@pytest.mark.slow
def test_activations_that_are_computed_again_change_nothing() -> None:
    names = ["ddp", "fsdp", "zero 2", "zero 3"]
    usual, again = (on_workers(2, same_with, names, {"activation_checkpointing": on})[0] for on in (False, True))
    for name, losses in usual.items():
        assert again[name] == pytest.approx(losses, rel=1e-5), name


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_trains_the_same() -> None:
    names = ["ddp", "fsdp"]
    usual, compiled = (on_workers(2, same_with, names, {"compile": on})[0] for on in (False, True))
    for name, losses in usual.items():
        assert compiled[name] == pytest.approx(losses, rel=1e-4), name


def test_one_worker_needs_no_strategy_and_single_takes_no_more_than_one() -> None:
    assert choice.choose("auto", 1) == "single"
    assert choice.choose("auto", 2) == "ddp"
    with pytest.raises(UserError, match="strategy=ddp"):
        choice.choose("single", 2)


def test_a_model_without_blocks_can_not_compute_them_again() -> None:
    class Flat(Odd):
        def build(self, schema: Any) -> nn.Module:
            return nn.Linear(5, 1)

    with pytest.raises(UserError, match="activation_checkpointing: Linear has no repeated blocks"):
        make(Flat(), Ranks(), {"name": "single"}, activation_checkpointing=True)
