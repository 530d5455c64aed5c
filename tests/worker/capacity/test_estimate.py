"""What is planned is what a real training then holds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from algorithms.gpt import GPT
from algorithms.linear import Linear
from tests.worker.held import held_alone, held_by_workers, size
from tests.worker.processes import on_workers
from trainer.algorithm import Batch, Module, SparseRows
from trainer.config.schema import StrategyConfig, TrainConfig
from trainer.data.schema import Column, Schema
from trainer.errors import UserError
from trainer.worker.capacity import estimate as estimating
from trainer.worker.capacity.estimate import measure
from trainer.worker.capacity.footprint import Footprint, ddp, fsdp, single, zero
from trainer.worker.checkpointing.state import Training
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.strategy import choice as strategy
from trainer.worker.strategy.fragments import Fragments

TOLERANCE = 0.1
TEXT = Schema(columns=64, text=True)
TABLE = Schema(
    features=tuple(Column(name=f"x{i}", kind="numeric", std=1.0) for i in range(40)),
    label=Column(name="y", kind="numeric", classes=tuple(range(10)), counts=(5,) * 10),
    rows=50,
    columns=40,
)


def text(n: int, length: int = 64) -> Batch:
    return Batch(torch.randint(0, 256, (n, length + 1)), None, n, n)


def table(n: int) -> Batch:
    return Batch(torch.randn(n, 40), torch.arange(n) % 10, n, n)


@dataclass(kw_only=True)
class Net(Module):
    """A network with a normalisation, whose optimizer is a choice."""

    kind: str = "sgd"
    width: int = 64
    looks: bool = False  # its loss looks into a tensor
    frozen: bool = False

    def build(self, schema: Schema) -> nn.Module:
        first = nn.Linear(schema.columns, self.width)
        first.requires_grad_(not self.frozen)
        return nn.Sequential(first, nn.BatchNorm1d(self.width), nn.ReLU(), nn.Linear(self.width, 10))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        loss = nn.functional.cross_entropy(model(batch.x), batch.y)
        if self.looks and loss.item() > 1e9:
            raise AssertionError
        return loss

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        given = [p for p in model.parameters() if p.requires_grad]
        kinds: dict[str, Any] = {
            "sgd": lambda: torch.optim.SGD(given, lr=0.1),
            "momentum": lambda: torch.optim.SGD(given, lr=0.1, momentum=0.9),
            "adam": lambda: torch.optim.Adam(given),
            "amsgrad": lambda: torch.optim.Adam(given, amsgrad=True, foreach=True),
            "adafactor": lambda: torch.optim.Adafactor(given),
            "adagrad": lambda: torch.optim.Adagrad(given),
        }
        optimizer: torch.optim.Optimizer = kinds[self.kind]()
        return optimizer


def agrees(planned: Footprint, held: dict[str, int]) -> None:
    for part, measured in held.items():
        assert getattr(planned, part) == pytest.approx(measured, rel=TOLERANCE), part


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_worker_holds_what_was_planned(precision: str) -> None:
    algorithm, batch = GPT(), text(4)
    planned = single(measure(algorithm, TEXT, batch, precision=precision), 1)
    agrees(planned, held_alone(algorithm, TEXT, batch, precision))


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam", "amsgrad", "adafactor", "adagrad"])
def test_any_optimizer_holds_what_was_planned(kind: str) -> None:
    algorithm, batch = Net(kind=kind), table(8)
    agrees(single(measure(algorithm, TABLE, batch), 1), held_alone(algorithm, TABLE, batch))


def test_a_linear_model_holds_what_was_planned() -> None:
    algorithm, batch = Linear(), table(8)
    agrees(single(measure(algorithm, TABLE, batch), 1), held_alone(algorithm, TABLE, batch))


def test_frozen_weights_have_no_gradients_and_no_optimizer_state() -> None:
    algorithm, batch = Net(kind="adam", frozen=True), table(8)
    agrees(single(measure(algorithm, TABLE, batch), 1), held_alone(algorithm, TABLE, batch))


@pytest.mark.parametrize(
    ("strategy", "precision"), [("ddp", "fp32"), ("ddp", "bf16"), ("fsdp", "fp32"), ("fsdp", "bf16")]
)
def test_each_of_two_workers_holds_what_was_planned(strategy: str, precision: str, tmp_path: Path) -> None:
    algorithm, batch = GPT(layers=3), text(2)
    estimate = measure(algorithm, TEXT, batch, precision=precision)
    planned = {"ddp": ddp, "fsdp": fsdp}[strategy](estimate, 2)
    for held in held_by_workers(algorithm, TEXT, batch, strategy, precision, tmp_path):
        agrees(planned, held)


@pytest.mark.slow
def test_rows_that_do_not_divide_are_planned_as_the_fullest_worker_has_them(tmp_path: Path) -> None:
    algorithm, batch = Net(kind="adam", width=7), table(4)
    planned = fsdp(measure(algorithm, TABLE, batch), 3)
    held = held_by_workers(algorithm, TABLE, batch, "fsdp", "fp32", tmp_path, world=3)
    agrees(planned, {part: max(one[part] for one in held) for part in held[0]})


def peak_of(algorithm: Module, schema: Schema, batch: Batch, precision: str, parts: int) -> int:
    """Bytes that a real step allocates at most beside what was there before it, by PyTorch's profiler."""
    model = algorithm.build(schema)
    optimizer = algorithm.optimizer(model)

    def step() -> None:
        for _ in range(parts):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
                loss = algorithm.loss(model, batch)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    now = most = 0
    memory = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(memory, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.parametrize(("precision", "parts"), [("fp32", 1), ("bf16", 1), ("fp32", 2)])
def test_the_total_is_the_peak_of_a_real_step(precision: str, parts: int) -> None:
    algorithm, batch = GPT(dropout=0.1), text(8)
    planned = single(measure(algorithm, TEXT, batch, precision=precision, parts=parts), 1)
    there = planned.weights + planned.optimizer
    assert planned.total - there == pytest.approx(peak_of(algorithm, TEXT, batch, precision, parts), rel=TOLERANCE)


def test_checkpointing_keeps_fewer_activations_and_computes_more() -> None:
    algorithm = GPT(layers=8)
    kept, recomputed = (measure(algorithm, TEXT, text(8), checkpointing=wanted) for wanted in (False, True))
    assert recomputed.share.activations < kept.share.activations / 2
    assert recomputed.flops > kept.flops


def test_flops_are_those_the_algorithm_counts_itself() -> None:
    algorithm = GPT(layers=2)
    measured = measure(algorithm, TEXT, text(4), parts=3).flops
    assert measured == pytest.approx(3 * 4 * algorithm.flops_per_sample(TEXT), rel=0.02)


def test_a_share_needs_the_activations_of_its_part_of_the_batch() -> None:
    estimate = measure(GPT(), TEXT, text(2), whole=text(16))
    assert estimate.share.activations < estimate.whole.activations / 4


def test_seven_billion_weights_are_planned_without_holding_them(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = GPT(layers=4, width=4096, heads=32, hidden=11008)
    monkeypatch.setattr(torch.nn.init, "normal_", lambda tensor, **_: _fake_only(tensor))
    assert measure(algorithm, TEXT, text(1)).parameters > 500_000_000


def _fake_only(tensor: Tensor) -> None:
    assert type(tensor).__name__ == "FakeTensor" or type(tensor.data).__name__ == "FakeTensor"


def test_code_that_looks_into_tensors_is_measured_all_the_same() -> None:
    planned, looked = (measure(Net(kind="adam", looks=looks), TABLE, table(8)) for looks in (False, True))
    assert looked.weights == planned.weights
    assert looked.share.activations == pytest.approx(planned.share.activations, rel=TOLERANCE)


def test_code_that_looks_into_tensors_of_a_model_too_large_to_try_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "device_memory", lambda kind, workers: 1000)
    with pytest.raises(UserError, match="looks into tensors"):
        measure(Net(looks=True), TABLE, table(8))


def test_a_mistake_in_the_algorithm_is_its_own_error() -> None:
    class Wrong(Net):
        def loss(self, model: nn.Module, batch: Batch) -> Tensor:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        measure(Wrong(), TABLE, table(8))


def test_sparse_rows_are_measured() -> None:
    x = SparseRows(torch.tensor([1, 5, 7]), torch.ones(3), torch.tensor([0, 2, 3]), 40)
    schema = Schema(label=TABLE.label, rows=2, columns=40, sparse=True, sparse_mean=(0.0,) * 40, sparse_std=(1.0,) * 40)
    assert measure(Linear(), schema, Batch(x, torch.tensor([0, 1]), 2, 2)).parameters == 410


def held_by_zero(ranks: Ranks, stage: int, precision: str) -> dict[str, int]:
    """Bytes of weights and of the optimizer that a worker holds under DeepSpeed's engine after some steps."""
    algorithm, config = GPT(layers=3), {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
    options = dataclasses.asdict(StrategyConfig(name="deepspeed", stage=stage, config=config))

    def training_of(model: nn.Module) -> Training:
        return Training(model, algorithm.optimizer(model), None)

    train = dataclasses.asdict(TrainConfig(batch_size=4))
    model = algorithm.build(TEXT)
    training, spread = strategy.spread(algorithm, model, training_of, ranks, precision, options, train, None)
    for _ in range(2):
        spread.part(Batch(text(2).x, None, 2, 4), last=True)
        spread.update()
    layout, split = training.layout, [p.ds_tensor for p in model.parameters() if hasattr(p, "ds_tensor")]
    assert isinstance(layout, Fragments)
    states = training.optimizer.state
    return {
        "weights": size(split or model.parameters()),
        "optimizer": size(layout.flats) + size(v for flat in layout.flats for v in states[flat].values()),
    }


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_what_deepspeed_holds_is_what_was_planned(stage: int, precision: str) -> None:
    pytest.importorskip("deepspeed")
    planned = zero(measure(GPT(layers=3), TEXT, text(2), precision=precision), 2, stage)
    for held in on_workers(2, held_by_zero, stage, precision):
        assert held["weights"] == pytest.approx(planned.weights, rel=TOLERANCE)
        assert held["optimizer"] == pytest.approx(planned.optimizer, rel=TOLERANCE)
