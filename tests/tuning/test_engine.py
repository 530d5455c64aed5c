"""What a study decides: without Ray, and without anybody who trains."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.studies import LR, asker, space_of, study_in
from trainer.config.compose import compose
from trainer.config.schema import check, load
from trainer.errors import UserError
from trainer.job.directory import State, read_json
from trainer.job.result import write_result
from trainer.tuning.engine import Engine, Live
from trainer.tuning.schedulers.choice import scheduler_of
from trainer.tuning.spaces.expression import Expression
from trainer.tuning.spaces.parameter import Parameter
from trainer.tuning.spaces.space import Space
from trainer.tuning.stopping import ends_of
from trainer.tuning.trial_run import ORDER
from trainer.tuning.trials import Configs

BASE = check(compose(["algorithm=linear", "data=digits", "train.epochs=4"]))
TUNE = dict.fromkeys(("trials", "max_time", "max_device_hours", "target", "patience")) | {"max_failures": 5}
SCHEDULER = {"name": "none", "unit": "epochs", "min": None, "max": None, "reduction": 4, "interval": None, "startup": 5}


@contextmanager
def engine_in(
    folder: Path, space: Space | None = None, *, outcomes: tuple[str, ...] = (), scheduler: str = "none", **more: Any
) -> Iterator[Engine]:
    space = space or space_of(LR)
    start_from, at_end = more.pop("start_from", []), more.pop("at_end", "stop")
    about = {key: more.pop(key) for key in ("metrics", "goals") if key in more}
    with study_in(folder, space, base=BASE, search="random", scheduler=scheduler, **about) as study:
        yield Engine(
            study=study,
            asker=asker(study, space, "random"),
            configs=Configs(BASE, frozenset(), lambda chosen: BASE),
            scheduler=scheduler_of(study, SCHEDULER | {"name": scheduler}),
            ends=ends_of({**TUNE, "trials": 100, **more}, study.facts["goals"][0]),
            outcomes=[Expression(text) for text in outcomes],
            start_from=start_from,
            at_end=at_end,
        )


def begin(engine: Engine) -> Live:
    live = engine.next()
    assert live is not None
    return live


def report(*values: dict[str, float], ended: str | None = None, **more: Any) -> dict[str, Any]:
    points = [[10 * (i + 1), float(i + 1), float(i + 1), told] for i, told in enumerate(values)]
    return {"points": points, "ended": ended, **more}


def complete(engine: Engine, live: Live, **values: float) -> None:
    """The trial's job ends with these metrics."""
    line = {"time": time.time(), "step": 40, "epoch": 4.0, "samples": 1, "values": values}
    with open(live.job.metrics_path, "a") as file:
        file.write(json.dumps(line) + "\n")
    write_result(live.job, State.COMPLETED, attempt=0, error=None, wall=1.0, outcome={"training_seconds": 2.5})
    engine.heard(live.frozen.number, report(values, ended="completed"))


def state_of(engine: Engine, number: int) -> Any:
    return next(trial for trial in engine.study.trials() if trial.number == number)


def test_a_trial_is_a_job_with_its_values_in_the_config(tmp_path: Path) -> None:
    with engine_in(tmp_path / "s") as engine:
        live = begin(engine)
        config = load(live.job.config_path)
    assert config["algorithm"]["lr"] == live.values["algorithm.lr"]
    assert config["job"]["dir"] == str(live.job.dir)
    assert live.job.dir.parent == tmp_path / "s" / "trials"
    assert live.job.state() is State.PENDING


def test_a_completed_trial_has_its_last_value(tmp_path: Path) -> None:
    with engine_in(tmp_path / "s") as engine:
        live = begin(engine)
        engine.heard(live.frozen.number, report({"validation_loss": 0.7}, {"validation_loss": 0.5}))
        complete(engine, live, validation_loss=0.4, validation_accuracy=0.9)
        ended = state_of(engine, 0)
    assert (ended.state.name, ended.values) == ("COMPLETE", [0.4])
    assert ended.user_attrs["values"]["validation_accuracy"] == 0.9
    assert ended.intermediate_values == {1: 0.7, 2: 0.5}


def test_several_metrics_and_the_time_of_training(tmp_path: Path) -> None:
    metrics = ["validation_accuracy", "training_seconds"]
    with engine_in(tmp_path / "s", metrics=metrics, goals=["max", "min"]) as engine:
        complete(engine, begin(engine), validation_accuracy=0.9)
        assert state_of(engine, 0).values == [0.9, 2.5]


def test_constraints_on_outcomes_are_told_by_how_much_they_are_broken(tmp_path: Path) -> None:
    with engine_in(tmp_path / "s", outcomes=("training_seconds < 1", "validation_loss < 1")) as engine:
        complete(engine, begin(engine), validation_loss=0.4)
        assert state_of(engine, 0).user_attrs["constraints"] == [1.5, pytest.approx(-0.6)]


def test_a_value_that_is_no_number_is_a_failure(tmp_path: Path) -> None:
    with engine_in(tmp_path / "s") as engine:
        complete(engine, begin(engine), validation_loss=float("nan"))
        ended = state_of(engine, 0)
    assert ended.state.name == "FAIL"
    assert ended.user_attrs["reason"] == "validation_loss is nan"


def test_a_failed_trial_has_its_reason_and_the_next_one_begins(tmp_path: Path) -> None:
    with engine_in(tmp_path / "s") as engine:
        live = begin(engine)
        engine.heard(live.frozen.number, report(ended="failed", reason="out of memory", kind="OutOfMemory"))
        ended = state_of(engine, 0)
        assert (ended.state.name, ended.user_attrs["reason"]) == ("FAIL", "out of memory")
        assert begin(engine).frozen.number == 1


@pytest.mark.parametrize(("unit", "state"), [("epochs", "PRUNED"), ("seconds", "COMPLETE")])
def test_a_script_that_runs_out_of_time_is_whole_only_where_seconds_are_what_it_is_given(
    tmp_path: Path, unit: str, state: str
) -> None:
    with engine_in(tmp_path / "s") as engine:
        engine.scheduler.unit = unit
        live = begin(engine)
        engine.heard(live.frozen.number, report({"validation_loss": 0.5}, ended="out_of_time"))
        ended = state_of(engine, 0)
        live = begin(engine)
        engine.heard(live.frozen.number, report(ended="out_of_time"))
        nothing = state_of(engine, 1)
    assert ended.state.name == state
    if unit == "epochs":
        assert ended.user_attrs["reason"] == "MaxRuntimeExceeded: train.max_time is over"
        assert nothing.state.name == "FAIL"


def test_a_metric_that_no_report_carries_ends_the_study_with_those_that_do(tmp_path: Path) -> None:
    with engine_in(tmp_path / "s", metrics=["validation_los"]) as engine:
        first, second = begin(engine), begin(engine)
        engine.heard(first.frozen.number, report({"train_loss": 0.7}))
        assert engine.failure is None
        engine.heard(first.frozen.number, report({"validation_loss": 0.7, "validation_accuracy": 0.9}))
        assert isinstance(engine.failure, UserError)
        assert "did you mean 'validation_loss'" in str(engine.failure)
        assert "validation_accuracy" in str(engine.failure)
        assert engine.next() is None
        order = read_json(second.job.dir / ORDER)
        assert order is not None
        assert order["what"] == "pause"


def test_points_to_start_from_come_first(tmp_path: Path) -> None:
    points = [{"algorithm.lr": 0.01}, {"algorithm.lr": 0.02}]
    with engine_in(tmp_path / "s", start_from=points) as engine:
        assert begin(engine).values == points[0]
    with engine_in(tmp_path / "s", start_from=points) as engine:
        assert begin(engine).values == points[0]  # it was under way
        assert begin(engine).values == points[1]
        assert begin(engine).values not in points


def test_the_next_driver_goes_on_with_the_same_trials_in_the_same_folders(tmp_path: Path) -> None:
    with engine_in(tmp_path / "s") as engine:
        first, second = begin(engine), begin(engine)
        complete(engine, first, validation_loss=0.4)
    with engine_in(tmp_path / "s") as engine:
        again = begin(engine)
        assert (again.job.dir, again.values) == (second.job.dir, second.values)
        assert begin(engine).frozen.number == 2


def test_the_budget_of_trials_is_exact_over_drivers(tmp_path: Path) -> None:
    for _ in range(2):
        with engine_in(tmp_path / "s", trials=3) as engine:
            lives = [live for _ in range(5) if (live := engine.next()) is not None]
            assert len(lives) == 3
    assert engine.end is not None


def test_a_configuration_that_the_schema_refuses_fails_and_costs_no_job(tmp_path: Path) -> None:
    space = Space((Parameter("train.gradient_accumulation", "int", 33, 64),))
    with engine_in(tmp_path / "s", space, max_failures=3) as engine:
        assert engine.next() is None
        assert engine.end is not None
        assert engine.end.failed
        assert "train.gradient_accumulation" in engine.end.reason
    assert list((tmp_path / "s" / "trials").iterdir()) == []


def test_at_its_target_what_runs_is_stopped_or_finished_as_asked(tmp_path: Path) -> None:
    for at_end, ordered in (("stop", True), ("finish", False)):
        with engine_in(tmp_path / at_end, target=0.5, at_end=at_end) as engine:
            first, second = begin(engine), begin(engine)
            complete(engine, first, validation_loss=0.4)
            assert engine.next() is None
            assert (second.job.dir / ORDER).exists() is ordered


def test_on_a_signal_jobs_are_asked_to_leave_and_their_trials_stay_under_way(tmp_path: Path) -> None:
    with engine_in(tmp_path / "s") as engine:
        live = begin(engine)
        engine.leave("SIGTERM")
        order = read_json(live.job.dir / ORDER)
        assert order is not None
        assert order["what"] == "pause"
        engine.heard(live.frozen.number, report(ended="paused"))
        assert engine.next() is None
    with engine_in(tmp_path / "s") as engine:
        assert begin(engine).job.dir == live.job.dir
        assert (read_json(live.job.dir / ORDER) or {})["what"] == "go on"


def test_what_a_scheduler_stopped_stays_stopped_for_the_next_driver(tmp_path: Path) -> None:
    with engine_in(tmp_path / "s", scheduler="asha") as engine:
        lives = [begin(engine) for _ in range(8)]
        for i, live in enumerate(lives):
            engine.heard(live.frozen.number, report({"validation_loss": float(i)}))
        stopped = [live for live in lives if (live.job.dir / ORDER).exists()]
        assert lives[0] not in stopped
        assert lives[7] in stopped
    with engine_in(tmp_path / "s", scheduler="asha") as engine:
        again = {live.frozen.number: live for live in (begin(engine) for _ in range(8))}
        assert (again[7].job.dir / ORDER).exists()
        engine.heard(7, report(ended="stopped"))
        assert state_of(engine, 7).state.name == "PRUNED"
        assert "asha" in state_of(engine, 7).user_attrs["reason"]


def test_when_what_followed_a_trial_dies_the_trial_comes_again(tmp_path: Path) -> None:
    with engine_in(tmp_path / "s") as engine:
        live = begin(engine)
        engine.lost(live.frozen.number)
        assert begin(engine).job.dir == live.job.dir


@pytest.mark.parametrize(("at_end", "what"), [("stop", "pause"), ("finish", None)])
def test_what_a_dead_driver_left_under_way_at_the_end_is_stopped_or_finished(
    tmp_path: Path, at_end: str, what: str | None
) -> None:
    """Its job may live on, where the launcher is a cluster's."""
    with engine_in(tmp_path / "s") as engine:
        begin(engine)
    with engine_in(tmp_path / "s", max_time=1e-6, at_end=at_end) as engine:
        engine.began = time.monotonic() - 1
        live = begin(engine)
        order = read_json(live.job.dir / ORDER)
        assert (order["what"] if order else None) == what
        assert engine.next() is None
