"""A training that is saved and taken up again, by as many workers or by others, is the same training."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedules

from tests.worker.threads import together, workers
from trainer.job import checkpoint
from trainer.worker.checkpointing.saver import Saver
from trainer.worker.checkpointing.state import TRAINING, Position, Training, Unfit, put_together, take_apart
from trainer.worker.distributed.ranks import Ranks

Optimizer = Callable[[Any], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adam, amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "fused adamw": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3),
    "a learning rate that is a tensor": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01)),
    "groups": lambda p: torch.optim.AdamW([{"params": [q], "lr": 0.01 * (i + 1)} for i, q in enumerate(p)]),
}
SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "none": lambda o: None,
    "lambda": lambda o: schedules.LambdaLR(o, lambda step: 0.9**step),
    "one computed by numpy": lambda o: schedules.LambdaLR(o, lambda step: np.cos(step / 20)),
    "one cycle": lambda o: schedules.OneCycleLR(o, max_lr=0.1, total_steps=20, cycle_momentum=False),
    "milestones": lambda o: schedules.MultiStepLR(o, [3, 7]),
    "warmup, then cosine": lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, 0.1, total_iters=3), schedules.CosineAnnealingLR(o, 10)], [3]
    ),
}


class Net(nn.Module):
    """Dropout, normalisation with buffers, tied weights, and a scalar."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(8, width), nn.BatchNorm1d(width), nn.Linear(width, 8)
        self.again = nn.Linear(8, width, bias=False)
        self.again.weight = self.first.weight
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.dropout(self.norm(self.first(x)), 0.3, self.training)
        return self.last(hidden) * self.scale + self.again(x).mean()


def make(
    optimizer: str = "adamw", schedule: str = "none", seed: int = 0, build: Callable[[], nn.Module] = Net
) -> Training:
    torch.manual_seed(seed)
    model = build()
    chosen = OPTIMIZERS[optimizer](list(model.parameters()))
    return Training(model, chosen, SCHEDULES[schedule](chosen), Position())


def train(training: Training, steps: int) -> None:
    for _ in range(steps):
        x = torch.full((4, 8), 0.1) * torch.arange(1, 5)[:, None]

        def closure(x: torch.Tensor = x) -> float:
            training.optimizer.zero_grad()
            loss = (training.model(x) - 1).square().mean()
            loss.backward()
            return loss.item()

        training.optimizer.step(closure)  # type: ignore[arg-type]
        if training.schedule:
            training.schedule.step()
        training.position.step += 1


def save(root: Path, training: Training, ranks: Ranks | None = None) -> Path:
    ranks = ranks or Ranks()
    saver = Saver(root, ranks, "0", checkpoint.Retention(), lambda: None)
    tensors, outline = training.tensors()
    saver.take(training.position.step, tensors, training.small(outline, ranks), {})
    saver.finish()
    return checkpoint.folder(root, training.position.step)


def restore(folder: Path, training: Training, ranks: Ranks | None = None) -> None:
    training.restore(folder, checkpoint.read_manifest(folder), ranks or Ranks())


def assert_same(a: Training, b: Training) -> None:
    """To the bit."""
    tensors, others = [], []
    for training in (a, b):
        named, outline = training.tensors()
        tensors.append(named)
        others.append(outline)
    assert set(tensors[0]) == set(tensors[1])
    for name, tensor in tensors[0].items():
        other = tensors[1][name]
        assert isinstance(tensor, torch.Tensor)
        assert isinstance(other, torch.Tensor)
        assert torch.equal(tensor, other), name
    assert others[0] == others[1]
    if a.schedule:
        assert a.schedule.get_last_lr() == b.schedule.get_last_lr()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_that_was_saved_goes_on_as_if_nothing_had_been(tmp_path: Path, optimizer: str) -> None:
    whole = make(optimizer)
    train(whole, 5)
    folder = save(tmp_path, whole)
    train(whole, 5)
    again = make(optimizer, seed=99)
    restore(folder, again)
    train(again, 5)
    assert_same(again, whole)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_schedule_goes_on_where_it_was(tmp_path: Path, schedule: str) -> None:
    whole = make("sgd with momentum", schedule)
    train(whole, 5)
    folder = save(tmp_path, whole)
    train(whole, 5)
    again = make("sgd with momentum", schedule, seed=99)
    restore(folder, again)
    train(again, 5)
    assert_same(again, whole)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_of_another_jobs_state_it_takes_what_was_learned_and_learns_on_by_its_own_settings(
    tmp_path: Path, schedule: str
) -> None:
    """As if the settings alone had been changed in a training that went on."""

    def faster(schedule: str) -> Training:
        torch.manual_seed(99)
        model = Net()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, betas=(0.8, 0.9), weight_decay=0.2)
        return Training(model, optimizer, SCHEDULES[schedule](optimizer), Position())

    donor = make("adamw", schedule)
    train(donor, 5)
    folder = checkpoint.clone(save(tmp_path / "a", donor), tmp_path / "b", "trial 3")
    clone = faster(schedule)
    restore(folder, clone)
    assert clone.position.step == 5
    tensors, others = clone.tensors()[0], donor.tensors()[0]
    assert all(torch.equal(tensors[name], others[name]) for name in others)  # type: ignore[arg-type]

    own = faster(schedule)
    train(own, 5)  # with its own settings from the start: the same rate at this step, other weights
    for group, theirs in zip(clone.optimizer.param_groups, own.optimizer.param_groups, strict=True):
        assert {k: v for k, v in group.items() if k != "params"} == {k: v for k, v in theirs.items() if k != "params"}
    train(clone, 3)
    again = faster(schedule)
    restore(save(tmp_path / "b", clone), again)  # its own checkpoint: all of it is taken up
    assert_same(again, clone)


def test_another_jobs_state_of_another_model_is_refused(tmp_path: Path) -> None:
    donor = make()
    train(donor, 2)
    folder = checkpoint.clone(save(tmp_path / "a", donor), tmp_path / "b", "trial 3")
    with pytest.raises(Unfit, match="of another model"):
        restore(folder, make(build=lambda: Net(width=16)))


def test_a_training_of_no_step_can_be_saved(tmp_path: Path) -> None:
    fresh = make()
    again = make(seed=99)
    restore(save(tmp_path, fresh), again)
    assert_same(again, fresh)


def test_random_numbers_of_every_library_go_on(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [torch.rand(1).item(), np.random.rand(), np.random.randn(), random.random(), random.gauss(0, 1)]

    training = make()
    np.random.randn(), random.gauss(0, 1)  # each has the second of a pair in store now
    folder = save(tmp_path, training)
    expected = draw()
    draw()
    restore(folder, training)
    assert draw() == expected


def test_where_it_stands_is_taken_up(tmp_path: Path) -> None:
    training = make()
    training.position = Position(
        step=70, epoch=2, epoch_step=10, samples=2240, seconds=12.5, best={"validation_loss": 0.25}, stale=1,
        watched=0.25, loss_sum=3.5, loss_count=64, reported=50, validated=64, validation={"validation_loss": 0.5},
        improved=32,
    )  # fmt: skip
    again = make(seed=99)
    restore(save(tmp_path, training), again)
    assert again.position == training.position


def test_the_weights_stay_where_the_optimizer_has_them(tmp_path: Path) -> None:
    training = make()
    train(training, 2)
    folder = save(tmp_path, training)
    again = make(seed=99)
    places = [p.data_ptr() for p in again.model.parameters()]
    restore(folder, again)
    assert [p.data_ptr() for p in again.model.parameters()] == places
    assert again.model.again.weight is again.model.first.weight


def test_a_checkpoint_of_two_workers_is_taken_up_by_one_and_then_by_three(tmp_path: Path) -> None:
    whole = make("adam, amsgrad", "lambda")
    train(whole, 5)
    whole.position.loss_sum, whole.position.loss_count, whole.position.reported = 1.5, 8, 3

    def share(root: Path) -> Callable[[Ranks], Path]:
        return lambda ranks: save(root, whole, ranks)

    two = together(workers(2), share(tmp_path / "two"))[0]
    assert len(list(two.glob("shard-*"))) == 2
    one = make("adam, amsgrad", "lambda", seed=99)
    restore(two, one)
    assert_same(one, whole)
    assert (one.position.loss_sum, one.position.loss_count) == (3.0, 16)  # of both workers, since the last report
    folder = save(tmp_path / "one", one)

    trainings = [make("adam, amsgrad", "lambda", seed=seed) for seed in range(3)]
    places = workers(3)
    together(places, lambda ranks: restore(folder, trainings[ranks.rank], ranks))
    for training in trainings:
        assert_same(training, whole)
    assert sum(t.position.loss_sum for t in trainings) == 3.0  # counted once
    assert sum(t.position.loss_count for t in trainings) == 16


def test_of_more_workers_than_ten_each_has_its_own(tmp_path: Path) -> None:
    """`rank-10.pt` is not the one after `rank-1.pt`."""
    trainings = [make() for _ in range(12)]
    for i, training in enumerate(trainings):
        training.position.loss_count = 1 << i
    folder = together(workers(12), lambda ranks: save(tmp_path, trainings[ranks.rank], ranks))[0]
    found = [make() for _ in range(4)]
    together(workers(4), lambda ranks: restore(folder, found[ranks.rank], ranks))
    assert [t.position.loss_count for t in found] == [sum(1 << i for i in range(k, 12, 4)) for k in range(4)]


def test_the_checkpoint_of_another_model_is_said(tmp_path: Path) -> None:
    folder = save(tmp_path, make())
    with pytest.raises(ValueError, match=r"its weights are of another model"):
        restore(folder, make(build=lambda: nn.Linear(8, 8)))


def test_a_model_of_another_width_is_said(tmp_path: Path) -> None:
    folder = save(tmp_path, make())
    with pytest.raises(ValueError, match=r"first\.weight|norm\.weight|last\.weight"):
        restore(folder, make(build=lambda: Net(16)))


def test_another_optimizer_is_said(tmp_path: Path) -> None:
    folder = save(tmp_path, make("adamw"))
    with pytest.raises(ValueError, match=r"parameter group|doesn't fit this training"):
        restore(folder, make("groups"))


def damage(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)


@pytest.mark.parametrize("name", [TRAINING, "rank-0.pt", "shard-00000-of-00001.safetensors"])
def test_damage_to_any_file_is_said(tmp_path: Path, name: str) -> None:
    folder = save(tmp_path, make())
    damage(folder, name)
    with pytest.raises(ValueError, match=f"{name} (has another checksum|is damaged)"):
        restore(folder, make())
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        restore(folder, make())


class Bomb:
    """Runs code when it is unpickled by a careless reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", [TRAINING, "rank-0.pt"])
def test_a_checkpoint_that_would_run_code_is_passed_over(tmp_path: Path, name: str) -> None:
    """Its sums are right: somebody made it."""
    folder = save(tmp_path, make())
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    manifest = checkpoint.read_manifest(folder)
    manifest["files"][name] = checkpoint.entry(folder / name)
    with pytest.raises(ValueError, match=name):
        make().restore(folder, manifest, Ranks())
    assert not (tmp_path / "ran").exists()


def test_a_tree_is_taken_apart_and_put_together() -> None:
    tree = {
        "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2), "none": None}},
        "history": [torch.zeros(1), 3.5, [torch.ones(1)]],
        "plain": [1, 2],
        "word": "x",
    }
    named: dict[str, Any] = {}
    outline = take_apart(tree, "optimizer", named)
    assert set(named) == {
        "optimizer.state.0.step", "optimizer.state.0.exp_avg", "optimizer.history.0", "optimizer.history.2.0",
    }  # fmt: skip
    found = put_together(outline, named)
    assert found["state"][0]["exp_avg"] is tree["state"][0]["exp_avg"]  # type: ignore[index]
    assert found["history"][1:] == [3.5, [torch.ones(1)]]
    assert (found["plain"], found["word"], found["state"][0]["none"]) == ([1, 2], "x", None)
    del named["optimizer.history.0"]
    with pytest.raises(KeyError):
        put_together(outline, named)
