"""`train.elastic=exact`: the same bits on one, two and three workers that really talk to each other."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from algorithms.gpt import GPT
from tests.worker.processes import on_workers
from trainer.algorithm import Batch, Module, SparseRows
from trainer.data.encoding.text import Tokens
from trainer.data.tables.samples import InMemory
from trainer.errors import UserError
from trainer.worker.checkpointing.state import Training
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.strategy.exact import ExactGradient, Sum, aligned, blocks, merge, parts_of, total
from trainer.worker.strategy.replicated import Replicated
from trainer.worker.training.evaluation import evaluate

SEED = 3


@dataclass
class Classifier(Module):
    """On digits, with what makes gradients differ in their last bits: matrices, noise from every library, a clip."""

    noise: float = 0.0

    def build(self, schema: Any) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        noise = self.noise * float(np.random.normal()) if self.noise else 0.0
        return nn.functional.cross_entropy(model(batch.x + noise), batch.y)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=0.01)

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        output = model(batch.x)
        right = (output.argmax(1) == batch.y).float()
        by_class = nn.functional.one_hot(batch.y, 10) * right[:, None]
        return {"loss": self.loss(model, batch), "accuracy": right, "by_class": by_class}


def digits() -> InMemory:
    x, y = load_digits(return_X_y=True)
    return InMemory(torch.from_numpy(x[:331] / 16).float(), torch.from_numpy(y[:331]))


def text() -> Tokens:
    return Tokens(np.frombuffer(b"The order of a sum decides its last bits. " * 40, np.uint8), 16)


def setting(name: str) -> tuple[Module, Any, int]:
    """An algorithm, samples, and a batch size that does not divide them."""
    if name == "gpt":
        return GPT(layers=1, heads=2, kv_heads=1, width=32, context=16, dropout=0.2), text(), 12
    return Classifier(0.1 if name == "noise" else 0.0), digits(), 30


def train(name: str, ranks: Ranks, steps: int, mode: str) -> dict[str, Any]:
    """What a job does in its loop. Returns the weights' checksum, the weights, the losses, the metrics."""
    algorithm, samples, batch_size = setting(name)
    torch.manual_seed(SEED)
    model = algorithm.build(SimpleNamespace(rows=samples.rows, columns=samples.columns))
    torch.manual_seed(ranks.rank)  # a worker's own
    optimizer = algorithm.optimizer(model)
    exact = mode == "exact"
    averaged = not exact and ranks.world_size > 1
    spread = Replicated(algorithm, Training(model, optimizer, None), ranks, "fp32", 1.0, averaged=averaged)
    parts = parts_of(batch_size, 1, ranks.world_size) if exact else None
    gradient = ExactGradient(spread.loss, model, ranks, seed=SEED, parts=parts) if parts else None
    step, epoch, losses = 0, 0, []
    model.train()
    while step < steps:
        each, i = gradient.count if gradient else 1, 0
        place = {"rank": ranks.rank, "world": ranks.world_size}
        for batch in samples.stream(seed=SEED, epoch=epoch, batch_size=batch_size, parts=parts, **place):
            if gradient:
                gradient.part(batch, step, i)
                if (i := i + 1) < each:
                    continue
                i = 0
                losses.append(gradient.combine().item())
            else:
                losses.append(spread.part(batch, last=True).item())
            spread.update()
            if (step := step + 1) == steps:
                break
        epoch += 1
    metrics = evaluate(algorithm, model, samples, ranks, batch_size=batch_size, figures=spread.evaluate, parts=parts)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    digest = hashlib.sha256(weights.numpy().tobytes()).hexdigest()
    return {"digest": digest, "weights": weights.tolist(), "losses": losses, "metrics": metrics}


def uneven(ranks: Ranks, rows: int, parts: int) -> list[float]:
    """One step on so few rows that workers have none."""
    torch.manual_seed(SEED)
    model = nn.Linear(64, 10)
    samples = digits()
    samples = InMemory(samples.x[:rows], samples.y[:rows])
    algorithm = Classifier()
    gradient = ExactGradient(lambda batch: algorithm.loss(model, batch), model, ranks, seed=SEED, parts=parts)
    place = {"rank": ranks.rank, "world": ranks.world_size}
    for i, batch in enumerate(samples.stream(seed=SEED, epoch=0, batch_size=64, parts=parts, **place)):
        gradient.part(batch, 0, i)
    loss = gradient.combine().item()
    assert model.weight.grad is not None
    return [loss, *model.weight.grad.flatten().tolist()]


def work(ranks: Ranks) -> dict[str, Any]:
    """Everything that is compared, on one worker."""
    found: dict[str, Any] = {name: train(name, ranks, 30, "exact") for name in ("digits", "noise", "gpt")}
    if ranks.world_size < 3:
        found["fast"] = train("digits", ranks, 30, "fast")
    found["uneven"] = [uneven(ranks, rows, parts) for rows, parts in ((1, 8), (5, 8), (64, 24), (23, 24), (9, 3))]
    return found


@pytest.fixture(scope="module")
def found() -> dict[int, list[dict[str, Any]]]:
    return {world: on_workers(world, work) for world in (1, 2, 3)}


@pytest.mark.parametrize("name", ["digits", "noise", "gpt"])
def test_weights_losses_and_metrics_are_the_same_bits_on_any_number_of_workers(found, name):
    alone = found[1][0][name]
    assert len(alone["losses"]) == 30
    assert alone["losses"][-1] < alone["losses"][0]
    for workers in found.values():
        for worker in workers:
            assert worker[name]["digest"] == alone["digest"]
            assert worker[name]["losses"] == alone["losses"]
            assert worker[name]["metrics"] == alone["metrics"]


def test_the_usual_mode_takes_the_same_steps_but_for_the_last_bits(found):
    exact = found[1][0]["digits"]
    for world in (1, 2):
        usual = found[world][0]["fast"]
        assert usual["weights"] == pytest.approx(exact["weights"], abs=1e-5)
        assert usual["metrics"]["by_class"] == pytest.approx(exact["metrics"]["by_class"], abs=1e-5)
        assert usual["metrics"]["loss"] == pytest.approx(exact["metrics"]["loss"], abs=1e-5)
    assert found[1][0]["fast"]["losses"] == pytest.approx(exact["losses"], abs=1e-5)
    assert found[1][0]["fast"]["digest"] != found[2][0]["fast"]["digest"]  # what this mode is for


def test_a_batch_smaller_than_its_parts_or_of_odd_parts_is_the_same_too(found):
    for worker in [*found[2], *found[3]]:
        assert worker["uneven"] == found[1][0]["uneven"]


@pytest.mark.parametrize("parts", [1, 3, 8, 24, 40])
def test_sums_are_added_alike_however_the_parts_are_shared(parts):
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(size=parts) * 10.0 ** rng.integers(-6, 6, parts)).float()

    def added(cuts):
        nodes: list[Sum] = []
        for start, stop in cuts:
            own: list[Sum] = []
            for part in range(start, stop):
                own.append(Sum(part, 1, values[part : part + 1].clone()))
                merge(own)
            assert [(s.start, s.size) for s in own] == list(blocks(start, stop))
            nodes += own
        whole = total(nodes)
        assert (whole.start, whole.size) == (0, parts)
        return whole.row.item()

    alone = added([(0, parts)])
    for cut in range(1, parts):
        assert added([(0, cut), (cut, parts)]) == alone
        assert added([(0, cut // 2), (cut // 2, cut), (cut, parts)]) == alone


def test_a_batch_is_moved_to_where_it_would_lie_alone():
    x = torch.arange(100.0)
    moved = aligned(Batch(x[3:9], x[1:7], 6, 6))
    assert moved.x.data_ptr() % 64 == moved.y.data_ptr() % 64 == 0
    assert moved.x.tolist() == [3, 4, 5, 6, 7, 8]
    rows = SparseRows(torch.arange(9)[3:5], x[5:7], torch.tensor([0, 2]), 10)
    moved = aligned(Batch(rows, None, 1, 1))
    assert moved.x.values.tolist() == [5, 6]
    assert moved.x.indices.data_ptr() % 64 == moved.x.values.data_ptr() % 64 == 0


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = self.seen + 1
        return x


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.BatchNorm1d(10), r"model's 1 \(BatchNorm1d\) changes its running_mean"),
        (nn.InstanceNorm1d(5, track_running_stats=True), r"model's 1 \(InstanceNorm1d\) changes its running_mean"),
        (Counting(), r"model's 1 \(Counting\) changes its seen"),
    ],
)
def test_a_module_with_running_statistics_is_refused_by_name(layer, said):
    model = nn.Sequential(nn.Linear(4, 10), layer)
    loss = lambda batch: model(batch.x).mean()  # noqa: E731
    gradient = ExactGradient(loss, model, Ranks(), seed=0, parts=2)
    x = torch.rand(4, 5, 4) if isinstance(layer, nn.InstanceNorm1d) else torch.rand(4, 4)
    with pytest.raises(UserError, match=said):
        gradient.part(Batch(x, None, 4, 8), 0, 0)


def test_weights_of_several_types_are_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).bfloat16())
    with pytest.raises(UserError, match=r"there is bfloat16, float32"):
        ExactGradient(lambda batch: model(batch.x).mean(), model, Ranks(), seed=0, parts=2)


def test_a_loss_that_is_no_number_is_seen_and_the_loss_is_checked_once():
    model, checked = nn.Linear(4, 1), []
    loss = lambda batch: model(batch.x).mean()  # noqa: E731
    gradient = ExactGradient(loss, model, Ranks(), seed=0, parts=2, check=checked.append)
    for x in (torch.ones(2, 4), torch.full((2, 4), math.inf)):
        gradient.part(Batch(x, None, 2, 4), 0, len(checked))
    assert not math.isfinite(gradient.combine().item())
    assert len(checked) == 1


def test_parts_are_as_if_eight_workers_shared_the_batch():
    assert parts_of(32, 1, 3) == 8
    assert parts_of(32, 2, 3) == 16
    assert parts_of(4, 1, 3) == 4
    with pytest.raises(UserError, match=r"4 parts, and 5 workers .* raise train.batch_size"):
        parts_of(4, 1, 5)
    with pytest.raises(UserError, match=r"8 parts, and 9 workers .* raise train.gradient_accumulation"):
        parts_of(64, 1, 9)
