"""Early stopping and population-based training, with real jobs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.integration.command import headway
from trainer.config.schema import load
from trainer.job import checkpoint
from trainer.job.directory import Job, State
from trainer.tuning.record import StudyRecord, read
from trainer.tuning.study import held

pytestmark = pytest.mark.slow

TUNE = ("tune", "data=digits", "algorithm.lr=tag(log,interval(1e-4,1))", "search=random")
LRS = (0.0001, 0.05, 0.01, 0.02)
# an own pace, so that on whatever machine none is through before the others have come to where they are compared
PACED = """
import time
from dataclasses import dataclass

from algorithms.linear import Linear


@dataclass(kw_only=True)
class Paced(Linear):
    def loss(self, model, batch):
        time.sleep(0.003 * model.training)
        return super().loss(model, batch)
"""
POINTS = f"tune.start_from=[{','.join(f'{{algorithm.lr:{lr}}}' for lr in LRS)}]"


def studied(*overrides: str) -> tuple[StudyRecord, dict[int, Any]]:
    """A study that has ended, and the attributes of its trials in the storage by number."""
    done = headway(*TUNE, "study.name=s", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    with held(Path("studies/s")) as study:
        return read(Path("studies/s")), {t.number: t.user_attrs for t in study.trials()}


def test_asha_stops_what_is_bad_and_it_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record, told = studied(
        "algorithm=linear", "scheduler=asha", "tune.trials=4", POINTS, "train.epochs=30", "train.batch_size=8"
    )
    states = {trial.number: trial.state for trial in record.trials}
    worst = record.trials[0]
    assert states[0] == "stopped_early"
    assert "completed" in states.values()
    assert "failed" not in states.values()
    assert {attrs["parent"] for attrs in told.values() if "parent" in attrs} <= {1, 2, 3}
    job = record.job(worst)
    assert job is not None
    step = int(job.last_event()["step"])
    assert step < 30 * 180
    assert checkpoint.newest(job.checkpoints).checkpoint == checkpoint.folder(job.checkpoints, step)
    assert worst.objective == (worst.metrics["validation_loss"],)
    done = headway("resume", str(job.dir))
    assert done.returncode == 0, done.stdout + done.stderr
    result = job.result()
    assert result is not None
    assert (result["status"], result["steps"]) == ("Completed", 30 * 180)


def test_in_a_population_the_worst_goes_on_from_one_of_the_best_with_settings_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("paced.py").write_text(PACED, encoding="utf-8")
    record, told = studied(
        "algorithm=./paced.py:Paced", "scheduler=pbt", "scheduler.interval=4", "scheduler.resample=0", "tune.trials=4",
        POINTS, "train.epochs=40", "train.batch_size=8", "train.log_every=20", "ray.cpus_per_worker=0.5",
    )  # fmt: skip
    total = 40 * 180
    assert record.trials[0].state == "stopped_early"
    clones = {number: attrs for number, attrs in told.items() if "parent" in attrs}
    assert 0 in {attrs["replaces"] for attrs in clones.values()}
    for number, attrs in clones.items():
        job = record.job(record.trials[number])
        assert job is not None
        lr, donors = attrs["config"]["algorithm.lr"], told[attrs["parent"]]["config"]["algorithm.lr"]
        assert lr / donors == pytest.approx(0.8) or lr / donors == pytest.approx(1.25)
        assert load(job.config_path)["algorithm"]["lr"] == lr
        step = next(int(event["step"]) for event in job.events() if event["state"] == State.RUNNING.value)
        assert 0 < step < total
        assert step % 180 == 0  # where its donor had validated
        assert_learns_by(job, lr, step, total)
    states = [trial.state for trial in record.trials]
    assert states.count("completed") == 4
    assert states.count("stopped_early") == len(clones)


def assert_learns_by(job: Job, lr: float, step: int, total: int) -> None:
    """Its learning rate falls from the donor's step on along the cosine of its own height."""
    rates = {line["step"]: line["values"]["lr"] for line in job.metrics() if "lr" in line["values"]}
    assert min(rates) > step
    for at, rate in rates.items():
        assert rate == pytest.approx(lr * (1 + math.cos(math.pi * at / total)) / 2, rel=1e-6, abs=1e-12)
