"""A model trains the same on two workers as on one, also where a step's loss uses only some of its parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.worker.processes import on_workers
from tests.worker.strategy.test_choice import STRATEGIES, make
from trainer.algorithm import Batch, Module
from trainer.errors import HeadwayError
from trainer.worker.checkpointing.state import Training
from trainer.worker.distributed.averaging import AveragedAlone
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.strategy.replicated import Replicated

STEPS = 6


class Net(nn.Module):
    """Two heads, of which a sample takes the first if its first value is above 0. `idle` is nobody's."""

    def __init__(self, idle: bool) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Linear(5, 7), nn.Linear(7, 1), nn.Linear(7, 1)
        if idle:
            self.idle = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden, out = torch.tanh(self.first(x)), torch.zeros(len(x))
        for head, mine in ((self.a, x[:, 0] > 0), (self.b, x[:, 0] <= 0)):
            if mine.any():
                out = out.index_put((mine.nonzero()[:, 0],), head(hidden[mine]).squeeze(1))
        return out


class Heads(Module):
    """idle: whether there is a parameter that no loss uses. Each sample below -5 is left out of the loss."""

    def __init__(self, idle: bool) -> None:
        self.idle = idle

    def build(self, schema: Any) -> nn.Module:
        return Net(self.idle)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        left = batch.x[:, 0] > -5
        if not left.any():
            return torch.tensor(0.0)
        return (model(batch.x[left]) - batch.y[left]).square().sum() / len(left)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)


# the first value of each of 12 samples by step: the first half is worker 0's
BOTH, ONE, OTHER = [1.0, -1.0] * 6, [1.0] * 12, [-1.0] * 12
APART = [1.0] * 6 + [-1.0] * 6
USES: dict[str, tuple[bool, list[list[float]]]] = {
    "never used": (True, [BOTH] * STEPS),
    "of one head": (False, [ONE] * STEPS),
    "in turns": (False, [ONE, OTHER] * 3),
    "only later": (False, [ONE, ONE, OTHER, BOTH, BOTH, OTHER]),
    "no more": (False, [BOTH, BOTH, ONE, ONE, OTHER, BOTH]),
    "by one worker each": (False, [APART] * STEPS),
    "by one worker each, later": (False, [BOTH, APART, ONE, APART, OTHER, APART]),
    "nothing of one worker's": (True, [BOTH, [1.0] * 6 + [-9.0] * 6, BOTH, [-9.0] * 6 + APART[6:], ONE, BOTH]),
}
TOGETHER = ("never used", "of one head")  # what ZeRO's stages can


def samples(firsts: list[float], step: int, ranks: Ranks) -> Batch:
    generator = torch.Generator().manual_seed(step)
    x, y = torch.randn(12, 5, generator=generator), torch.randn(12, generator=generator)
    x[:, 0] = torch.tensor(firsts)
    share = 12 // ranks.world_size
    rows = slice(ranks.rank * share, (ranks.rank + 1) * share)
    return Batch(x[rows], y[rows], share, 12)


def halves(batch: Batch) -> list[Batch]:
    half = batch.size // 2
    return [Batch(batch.x[rows], batch.y[rows], half, batch.total) for rows in (slice(0, half), slice(half, 2 * half))]


def held(training: Training) -> dict[str, tuple[int, list[float]]]:
    """What this worker holds of the weights: from which element on, and their values."""
    assert training.layout
    found = {}
    for name, part in training.layout.weights().items():
        start, data = (0, part) if isinstance(part, Tensor) else (part.start, part.data)
        found[name] = (start, data.detach().reshape(-1).tolist())
    return found


def trained(ranks: Ranks, names: list[str], uses: list[str], parts: int = 1) -> dict[str, Any]:
    found = {}
    for name in names:
        for use in uses:
            idle, steps = USES[use]
            training, spread = make(Heads(idle), ranks, STRATEGIES.get(name, {"name": "single"}))
            for step, firsts in enumerate(steps):
                batch = samples(firsts, step, ranks)
                for i, part in enumerate(halves(batch) if parts == 2 else [batch], 1):
                    spread.part(part, i == parts)
                spread.update()
            spread.compare()
            found[f"{name}, {use}"] = held(training)
    return found


def differences(names: list[str], uses: list[str], parts: int = 1) -> dict[str, float]:
    """How far the weights are from those that one worker comes to, at most; by strategy and use."""
    alone = on_workers(1, trained, ["single"], uses, parts)[0]
    found: dict[str, float] = {}
    for of_worker in on_workers(2, trained, names, uses, parts):
        for case, weights in of_worker.items():
            expected = alone[f"single, {case.partition(', ')[2]}"]
            for name, (start, values) in weights.items():
                usual = expected[name][1][start : start + len(values)]
                worst = max((abs(a - b) for a, b in zip(values, usual, strict=True)), default=0.0)
                found[case] = max(found.get(case, 0.0), worst)
    return found


@pytest.mark.parametrize("parts", [1, 2])
def test_what_a_loss_leaves_out_is_left_alone_under_ddp(parts: int) -> None:
    """Neither decay nor momentum moves it, in whichever step and by whichever worker it is left out."""
    uses = [use for use in USES if parts == 1 or use != "nothing of one worker's"]  # of a part one worker has something
    found = differences(["ddp"], uses, parts)
    assert len(found) == len(uses)
    assert max(found.values()) < 1e-6, found


@pytest.mark.slow
def test_what_a_loss_leaves_out_is_left_alone_under_fsdp() -> None:
    uses = [use for use in USES if use != "nothing of one worker's"]
    assert max(differences(["fsdp"], uses).values()) < 1e-6


@pytest.mark.slow
def test_what_no_loss_uses_is_left_alone_under_deepspeed() -> None:
    pytest.importorskip("deepspeed")
    found = differences([name for name in STRATEGIES if name.startswith("zero")], list(TOGETHER))
    assert max(found.values()) < 1e-6, found
    assert differences(["zero 0"], ["by one worker each"])["zero 0, by one worker each"] < 1e-6


def used_apart(ranks: Ranks) -> list[str]:
    said = []
    for steps in ([APART], [BOTH, APART]):
        _, spread = make(Heads(False), ranks, STRATEGIES["zero 1"])
        try:
            for step, firsts in enumerate(steps):
                spread.part(samples(firsts, step, ranks), True)
                spread.update()
            spread.compare()
        except HeadwayError as error:
            said.append(str(error))
    return said


@pytest.mark.slow
def test_deepspeed_is_refused_what_it_would_add_up_wrongly() -> None:
    pytest.importorskip("deepspeed")
    for said in on_workers(2, used_apart):
        assert len(said) == 2
        for words in said:
            assert "workers 0 and 1 use different parameters in a step (a.weight has a gradient on one of them" in words


def own_loop(ranks: Ranks, idle: bool, uses: list[list[float]]) -> list[float]:
    """A loop of the user's, with a branch in it, and a layer that learns only from the third step on."""
    torch.manual_seed(0)
    model = Net(idle)
    model.first.requires_grad_(False)
    whole: nn.Module = AveragedAlone(model, ranks) if ranks.world_size > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    for step, firsts in enumerate(uses):
        if step == 2:
            model.first.requires_grad_(True)
        batch = samples(firsts, step, ranks)
        (whole(batch.x) - batch.y).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    return [value for p in model.parameters() for value in p.detach().flatten().tolist()]


@pytest.mark.parametrize(
    ("idle", "uses"),
    [(True, [BOTH, APART, ONE, APART, OTHER, BOTH]), (False, [BOTH] * 6), (False, [BOTH, APART, BOTH])],
)
def test_a_loop_of_ones_own_may_use_all_parameters_or_leave_some_out(idle: bool, uses: list[list[float]]) -> None:
    alone = on_workers(1, own_loop, idle, uses)[0]
    for found in on_workers(2, own_loop, idle, uses):
        assert found == pytest.approx(alone, abs=1e-6)


def nothing(ranks: Ranks) -> str:
    _, spread = make(Heads(True), ranks, {"name": "ddp" if ranks.world_size > 1 else "single"})
    assert isinstance(spread, Replicated)
    with pytest.raises(HeadwayError) as raised:
        spread.part(samples([-9.0] * 12, 0, ranks), True)
    return str(raised.value)


@pytest.mark.parametrize("world", [1, 2])
def test_a_loss_that_depends_on_nothing_is_said(world: int) -> None:
    for said in on_workers(world, nothing):
        assert said.endswith(
            "loss depends on no parameter that learns (requires_grad), so that there is nothing to train"
        )
