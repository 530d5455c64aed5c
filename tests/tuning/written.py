"""Studies for tests of what reads them: made up as records, and written as a driver leaves them."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import yaml
from optuna import Study, create_study, create_trial
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tests.jobs import end, make_job, start, validate
from trainer.job.directory import Job, State, append_line
from trainer.tuning.record import StudyRecord, Trial

START = 1_750_000_000.0
SPACE: list[dict[str, Any]] = [
    {"key": "algorithm.lr", "kind": "float", "low": 1e-5, "high": 1.0, "scale": "log"},
    {"key": "algorithm.beta2", "kind": "float", "low": 0.9, "high": 0.9999, "scale": "reverse_log"},
    {"key": "algorithm.layers", "kind": "int", "low": 2, "high": 8},
    {"key": "algorithm.dropout", "kind": "float", "low": 0.0, "high": 0.5},
    {"key": "algorithm.optimizer", "kind": "choice", "choices": ["adam", "sgd", "lion"]},
    {"key": "algorithm.momentum", "kind": "float", "low": 0.0, "high": 0.99, "when": "algorithm.optimizer == 'sgd'"},
    {"key": "train.batch_size", "kind": "choice", "choices": [16, 32, 64, 128]},
]
BASE = {
    "algorithm": {"_target_": "algorithms.gpt.GPT", "layers": 4, "lr": 0.001, "beta2": 0.95, "dropout": 0.0},
    "data": {"_target_": "trainer.data.sources.Text", "train": "/data/corpus.txt"},
    "train": {"batch_size": 32, "epochs": 10},
    "job": {"name": None, "dir": None, "seed": 0},
}


def draw(number: int, seed: int) -> dict[str, Any]:
    """A point of SPACE."""
    rng = random.Random(seed * 100_003 + number)
    values: dict[str, Any] = {
        "algorithm.lr": 10 ** rng.uniform(-5, 0),
        "algorithm.beta2": 1 - 10 ** rng.uniform(-4, -1),
        "algorithm.layers": rng.randint(2, 8),
        "algorithm.dropout": rng.uniform(0, 0.5),
        "algorithm.optimizer": rng.choice(["adam", "adam", "sgd", "lion"]),
        "train.batch_size": rng.choice([16, 32, 64, 128]),
    }
    if values["algorithm.optimizer"] == "sgd":
        values["algorithm.momentum"] = rng.uniform(0, 0.99)
    return values


def value_of(values: dict[str, Any], number: int) -> float:
    """A loss that depends on the rate most, then on the optimizer, then on the layers."""
    rng = random.Random(number)
    rate = (math.log10(values["algorithm.lr"]) + 2.5) ** 2
    kind = {"adam": 0.0, "lion": 0.4, "sgd": 1.2}[values["algorithm.optimizer"]]
    return 1.2 + 0.35 * rate + kind + 0.1 * (8 - values["algorithm.layers"]) + 0.05 * rng.random()


def big(directory: Path, count: int = 500, *, seed: int = 1, objectives: int = 1, parallel: int = 8) -> StudyRecord:
    """A study as ASHA leaves it: most trials stopped early, a few failed, some interrupted, the last ones running."""
    trials = []
    free = [START] * parallel
    rng = random.Random(seed)
    for number in range(count):
        values = draw(number, seed)
        loss = value_of(values, number)
        slot = min(range(parallel), key=lambda i: free[i])
        began = free[slot] + rng.uniform(1, 5)
        rungs = 27 if loss < 2.2 else 9 if loss < 3 else 3 if loss < 4 else 1
        state = "completed" if rungs == 27 or rng.random() < 0.15 else "stopped_early"
        reason = "" if state == "completed" else f"stopped at epoch {rungs}: worse than 2/3 of the others"
        if rng.random() < 0.05:
            state, reason = "failed", "OutOfMemory: <b>CUDA</b> out of memory at step 12 </script><script>alert(1)"
        if number >= count - parallel // 2:
            state, reason = "running", ""
        epochs = 27 if state == "completed" else rungs
        each = 20 * rng.uniform(0.7, 1.4)
        wait = rng.uniform(30, 90) if rng.random() < 0.08 else 0.0
        curve = []
        for epoch in range(1, epochs + 1):
            now = loss + 3.5 * math.exp(-epoch / 4) + 0.03 * rng.random()
            curve.append((float(epoch), epoch * each, now))
        ended = began + epochs * each + wait
        free[slot] = ended
        events = _events(began, ended, wait, state)
        metrics = {"validation_loss": curve[-1][2], "size": 1e5 * values["algorithm.layers"] * (1 + rng.random())}
        objective = tuple(list(metrics.values())[:objectives]) if state != "failed" else None
        trials.append(
            Trial(
                number=number,
                state=state,
                values=values,
                params=values,
                metrics=metrics if state != "failed" else {},
                objective=objective,
                curve=curve,
                reason=reason,
                job=f"{number:04d}-abcdef01",
                started=began,
                ended=None if state == "running" else ended,
                events=events,
                device_seconds=2 * (ended - began),
                lost_seconds=wait / 4,
            )
        )
    return StudyRecord(
        name="gpt-lr",
        dir=directory,
        metrics=["validation_loss", "size"][:objectives],
        goals=["min", "min"][:objectives],
        space=SPACE,
        search="bayes",
        scheduler="asha",
        unit="epochs",
        seed=seed,
        trials=trials,
        base=BASE,
        created=START,
        ended=max(free),
        ends=f"{count} trials were made",
    )


def _events(began: float, ended: float, wait: float, state: str) -> list[dict[str, Any]]:
    events = [{"time": began, "state": "Starting"}, {"time": began + 2, "state": "Running", "step": 0, "seconds": 0.0}]
    if wait:
        middle = (began + ended - wait) / 2
        events.append({"time": middle, "state": "Interrupted", "step": 100, "source": "spot", "reason": "taken away"})
        events.append({"time": middle + wait, "state": "Running", "step": 75, "seconds": (middle - began - 2) * 0.75})
    final = {"completed": "Completed", "stopped_early": "Stopped", "failed": "Failed"}.get(state)
    return [*events, {"time": ended, "state": final, "step": 200}] if final else events


def written(directory: Path, *, metrics: tuple[str, ...] = ("validation_accuracy",)) -> Path:
    """A study's directory as its driver leaves it: six trials, a job each but for one of an earlier study.

    0 completed, 1 completed and the best, 2 stopped early, 3 failed, 4 interrupted and going on, 5 of an earlier study.
    """
    study = begun(directory, metrics=metrics, goals=("max",) * len(metrics))
    distributions = {"algorithm.lr": FloatDistribution(1e-4, 1.0, log=True)}
    lrs = [0.01, 0.1, 1e-4, 1.0, 0.03]
    for number, lr in enumerate(lrs):
        study.enqueue_trial({"algorithm.lr": lr})
        trial = study.ask(distributions)
        name = f"{number:04d}-0badcafe"
        job = make_job(directory / "trials" / name)
        start(job)
        steps = 3 if number in (2, 4) else 9
        for step in range(1, steps + 1):
            validate(job, 50 * step, validation_accuracy=0.9 + 0.01 * number + 0.001 * step, train_loss=1 / step)
        last = {"validation_accuracy": 0.9 + 0.01 * number + 0.001 * steps, "train_loss": 1 / steps}
        told = {"config": {"algorithm.lr": lr}, "job": name, "started": START + 100 * number, "resource": steps}
        if number != 3:
            told |= {"values": last}
        kinds = {2: ("stopped_early", "worse than half"), 3: ("failed", "NaN: the loss is not finite"), 4: ("", "")}
        kind, reason = kinds.get(number, ("", ""))
        if number != 4:
            told |= {"ended": START + 100 * number + 90.5, "seconds": 181.0}
        for key, item in {**told, "kind": kind, "reason": reason}.items():
            trial.set_user_attr(key, item)
        if number < 2:
            end(job)
            study.tell(trial, [last["validation_accuracy"]] * len(metrics))
        elif number == 2:
            end(job, State.STOPPED)
            trial.report(last["validation_accuracy"], steps)
            study.tell(trial, state=TrialState.PRUNED)
        elif number == 3:
            study.tell(trial, state=TrialState.FAIL)
        else:
            interrupt(job)
    params = {"algorithm.lr": 0.2}
    prior = create_trial(
        params=params,
        distributions=distributions,
        values=[0.99] * len(metrics),
        user_attrs={"config": params, "prior": "the-first"},
    )
    study.add_trial(prior)
    return directory


def begun(directory: Path, *, metrics: tuple[str, ...], goals: tuple[str, ...]) -> Study:
    """A study's description and an empty storage."""
    directory.mkdir(parents=True)
    about = {
        "name": directory.name,
        "metrics": list(metrics),
        "goals": list(goals),
        "space": {"parameters": {"algorithm.lr": {"kind": "float", "low": 1e-4, "high": 1.0, "scale": "log"}}},
        "search": "bayes",
        "scheduler": "asha",
        "unit": "epochs",
        "seed": 3,
        "base": {"algorithm": {"_target_": "algorithms.linear.Linear", "lr": 0.05}, "job": {"seed": 7}},
        "created": START - 5,
    }
    (directory / "study.yaml").write_text(yaml.safe_dump(about))
    append_line(directory / "events.jsonl", {"time": START - 5, "state": "started", "reason": ""})
    storage = JournalStorage(JournalFileBackend(str(directory / "study.journal")))
    directions = ["maximize" if goal == "max" else "minimize" for goal in goals]
    return create_study(study_name=directory.name, storage=storage, directions=directions)


def over(directory: Path, reason: str) -> None:
    """The study ends."""
    append_line(directory / "events.jsonl", {"time": START + 600, "state": "ended", "reason": reason})


def interrupt(job: Job) -> None:
    """Its machine is taken away after 10 s at step 150; 10 s later it goes on from step 100, which took 5 s of training;
    after 10 s its machine is taken away again."""
    began = job.last_event()["time"]
    job.add_event(State.INTERRUPTED, at=began + 10, source="spot", step=150, reason="a notice")
    job.add_event(State.RUNNING, at=began + 20, step=100, seconds=5.0, world_size=2)
    job.add_event(State.INTERRUPTED, at=began + 30, source="spot", step=150, reason="a notice")
