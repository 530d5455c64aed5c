"""A population whose worst trials go on as near copies of the best: over a real study's storage, with jobs that don't train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.jobs import end, make_job, start
from tests.tuning.studies import LR, MOMENTUM, space_of, study_in
from trainer.errors import UserError
from trainer.job import checkpoint
from trainer.job.directory import Job
from trainer.tuning.options import SchedulerConfig
from trainer.tuning.record import TRIALS
from trainer.tuning.schedulers.choice import scheduler_of
from trainer.tuning.schedulers.pbt import Population, refuse_too_few, refuse_unfit
from trainer.tuning.schedulers.scheduler import STOPPED
from trainer.tuning.spaces.parameter import Parameter
from trainer.tuning.spaces.space import Space
from trainer.tuning.stopping import ends_of
from trainer.tuning.study import Study

SPACE = space_of(LR, MOMENTUM)
STEPS = 50  # an epoch
EPOCHS = 10


@contextmanager
def population_in(
    folder: Path, count: int = 4, goal: str = "min", **options: Any
) -> Iterator[tuple[Study, Population]]:
    """A study of so many trials that train at a time, compared after every second epoch."""
    more = {"tune": {"trials": count}}
    train = {"epochs": EPOCHS, "max_steps": None, "max_time": None, "validate_every": None}
    with study_in(folder, SPACE, base={"train": train}, options=more, goals=[goal], scheduler="pbt") as study:
        scheduler = scheduler_of(study, {**vars(SchedulerConfig()), "name": "pbt", "interval": 2, **options})
        assert isinstance(scheduler, Population)
        for number in range(len(study.trials()), count):
            frozen = study.storage.get_trial(study.storage.create_new_trial(study.optuna._study_id))
            values = {"algorithm.lr": 0.01 * (number + 1), "algorithm.momentum": 0.99}
            job = make_job(folder / TRIALS / f"{number:04d}")
            start(job, steps=EPOCHS * STEPS)
            study.note(frozen, config=values, job=job.name, started=1.0)
        yield study, scheduler


def save(job: Job, step: int) -> Path:
    place = checkpoint.begin(job.checkpoints, step)
    (place / "training.pt").write_text(f"{job.name} at {step}")
    return checkpoint.commit(job.checkpoints, step, "", {"training.pt": checkpoint.entry(place / "training.pt")})


def report(study: Study, scheduler: Population, number: int, epoch: int, value: float) -> dict[int, str]:
    """A trial's epoch ends: it saves its state, and reports."""
    frozen = study.trials()[number]
    save(study.job(frozen), epoch * STEPS)
    at = {"epochs": epoch, "steps": epoch * STEPS, "seconds": epoch, "total": EPOCHS * STEPS}
    return scheduler.decide(frozen, at, value)


def report_all(study: Study, scheduler: Population, epoch: int, values: dict[int, float]) -> dict[int, str]:
    orders: dict[int, str] = {}
    for number, value in values.items():
        orders |= report(study, scheduler, number, epoch, value)
    return orders


def stop(study: Study, number: int) -> None:
    study.optuna.tell(number, state=TrialState.PRUNED)


def test_the_worst_of_the_population_stops_for_the_best(tmp_path: Path) -> None:
    with population_in(tmp_path / "s") as (study, pbt):
        assert report_all(study, pbt, 1, {0: 4.0, 1: 3.0, 2: 2.0, 3: 1.0}) == {}  # no interval yet
        orders = report_all(study, pbt, 2, {0: 1.9, 1: 3.0, 2: 2.0, 3: 1.0})
        words = "pbt, after 2 epochs with validation_loss 3.000: trial 3 has 1.000"
        assert orders == {1: words}
        assert report_all(study, pbt, 3, {0: 9.0, 2: 1.0, 3: 1.0}) == {}  # not compared there


def test_more_is_better_where_the_goal_is_max(tmp_path: Path) -> None:
    with population_in(tmp_path / "s", goal="max") as (study, pbt):
        assert list(report_all(study, pbt, 2, {0: 1.9, 1: 3.0, 2: 2.0, 3: 1.0})) == [3]


def test_the_quantile_says_how_many_are_replaced_by_how_many(tmp_path: Path) -> None:
    with population_in(tmp_path / "s", count=8, quantile=0.25) as (study, pbt):
        orders = report_all(study, pbt, 2, {n: float(n) for n in range(8)})
        assert set(orders) == {6, 7}
        assert {study.trials()[n].user_attrs["donor"] for n in orders} <= {0, 1}


def test_one_that_came_first_is_found_to_be_the_worst_later(tmp_path: Path) -> None:
    with population_in(tmp_path / "s") as (study, pbt):
        assert report(study, pbt, 1, 2, 3.0) == {}
        assert report(study, pbt, 1, 4, 2.9) == {}
        assert list(report_all(study, pbt, 2, {0: 1.9, 2: 2.0, 3: 1.0})) == [1]


def test_one_that_is_better_than_the_best_by_now_goes_on(tmp_path: Path) -> None:
    with population_in(tmp_path / "s") as (study, pbt):
        assert report(study, pbt, 1, 2, 3.0) == {}
        assert report(study, pbt, 1, 4, 0.5) == {}
        assert report_all(study, pbt, 2, {0: 1.9, 2: 2.0, 3: 1.0}) == {}


def test_nobody_stops_at_the_end_or_for_one_that_has_ended(tmp_path: Path) -> None:
    with population_in(tmp_path / "s") as (study, pbt):
        for number in (0, 2, 3):
            study.note(study.trials()[number], marks={"2": float(number)})
        study.optuna.tell(0, 0.0)  # the best one has trained to its end
        assert report(study, pbt, 1, 4, 9.0) == {}
        assert report_all(study, pbt, EPOCHS, {1: 9.0, 2: 2.0, 3: 1.0}) == {}


def test_a_donor_without_a_state_to_go_on_from_is_none(tmp_path: Path) -> None:
    with population_in(tmp_path / "s") as (study, pbt):
        for number in range(4):
            at = {"epochs": 2, "steps": 100, "seconds": 2, "total": 500}
            assert pbt.decide(study.trials()[number], at, float(number)) == {}


def test_a_successor_goes_on_from_the_donors_newest_state_with_values_near_its_own(tmp_path: Path) -> None:
    with population_in(tmp_path / "s", resample=0.0) as (study, pbt):
        report_all(study, pbt, 2, {0: 1.9, 1: 3.0, 2: 2.0, 3: 1.0})
        assert pbt.successor() is None  # its job hasn't stopped yet
        stop(study, 1)
        found = pbt.successor()
        assert found is not None
        frozen, values = found
        assert frozen.user_attrs["parent"] == 3
        assert frozen.user_attrs["replaces"] == 1
        assert round(values["algorithm.lr"], 6) in (0.032, 0.05)
        assert round(values["algorithm.momentum"], 6) in (0.992, 0.9875)
        assert frozen.params == SPACE.stored(values)
        save(study.job(study.trials()[3]), 120)  # the donor has gone on
        job = make_job(tmp_path / "s" / TRIALS / "0004")
        pbt.prepare(frozen, job)
        found_there = checkpoint.newest(job.checkpoints).checkpoint
        assert found_there is not None
        assert (found_there / "training.pt").read_text() == "0003 at 120"
        assert checkpoint.read_manifest(found_there)["origin"] == "trial 3"
        assert pbt.successor() is None


def test_a_successor_has_something_left_to_train(tmp_path: Path) -> None:
    with population_in(tmp_path / "s") as (study, pbt):
        report_all(study, pbt, 2, {0: 1.9, 1: 3.0, 2: 2.0, 3: 1.0})
        stop(study, 1)
        donor = study.job(study.trials()[3])
        save(donor, (EPOCHS - 1) * STEPS)
        save(donor, EPOCHS * STEPS)
        end(donor)
        found, job = pbt.successor(), make_job(tmp_path / "s" / TRIALS / "0004")
        assert found is not None
        pbt.prepare(found[0], job)
        assert [c.name for c in checkpoint.listing(job.checkpoints)] == [f"step-{(EPOCHS - 1) * STEPS:08d}"]


def test_a_damaged_state_is_passed_over_and_none_is_said(tmp_path: Path) -> None:
    with population_in(tmp_path / "s") as (study, pbt):
        report_all(study, pbt, 2, {0: 1.9, 1: 3.0, 2: 2.0, 3: 1.0})
        stop(study, 1)
        found, job = pbt.successor(), make_job(tmp_path / "s" / TRIALS / "0004")
        assert found is not None
        donor = study.job(study.trials()[3])
        (save(donor, 120) / "training.pt").write_text("0003 at 129")
        pbt.prepare(found[0], job)
        assert [c.name for c in checkpoint.listing(job.checkpoints)] == ["step-00000100"]
        for place in checkpoint.listing(donor.checkpoints):
            (place / "training.pt").write_text("0003 at 999")
        with pytest.raises(UserError, match=r"trial 3 has no checkpoint to go on from: training\.pt is not"):
            pbt.prepare(found[0], make_job(tmp_path / "s" / TRIALS / "0005"))


def test_a_driver_that_takes_over_goes_on_where_the_one_before_was(tmp_path: Path) -> None:
    points = []
    for folder, drivers in ((tmp_path / "one", 1), (tmp_path / "two", 4)):
        with population_in(folder) as (study, pbt):
            report_all(study, pbt, 2, {0: 1.9, 1: 3.0, 2: 2.0})
            if drivers == 1:
                assert list(report(study, pbt, 3, 2, 1.0)) == [1]
                stop(study, 1)
                points.append((pbt.successor() or (None, {}))[1])
        if drivers == 1:
            continue
        with population_in(folder) as (study, pbt):
            assert list(report(study, pbt, 3, 2, 1.0)) == [1]  # and it died before it said so
        with population_in(folder) as (study, pbt):
            assert list(report(study, pbt, 1, 3, 2.9)) == [1]
            stop(study, 1)
        with population_in(folder) as (study, pbt):
            points.append((pbt.successor() or (None, {}))[1])
        with population_in(folder) as (study, pbt):
            assert pbt.successor() is None  # nobody is replaced twice
    assert points[0] == points[1] != {}


def test_a_study_of_a_population_ends_when_nothing_trains_any_more(tmp_path: Path) -> None:
    tune: dict[str, Any] = dict.fromkeys(("max_time", "max_device_hours", "target", "patience"))
    ends = ends_of({**tune, "trials": 4, "max_failures": 5}, "min")
    with population_in(tmp_path / "s") as (study, pbt):
        assert ends.by_trials(study.trials(), pbt.goes_on) is None
        report_all(study, pbt, 2, {0: 1.9, 1: 3.0, 2: 2.0, 3: 1.0})
        stop(study, 1)
        for number in (0, 2, 3):
            study.optuna.tell(number, 1.0)
        assert ends.by_trials(study.trials(), pbt.goes_on) is None  # one is to be replaced
        assert pbt.successor() is not None
        assert ends.by_trials(study.trials(), pbt.goes_on) is None
        study.optuna.tell(4, 0.5)
        over = ends.by_trials(study.trials(), pbt.goes_on)
        assert over is not None
        assert over.reason == "4 trials done"


def test_a_space_that_shapes_the_model_is_refused_once_two_models_differ(tmp_path: Path) -> None:
    with population_in(tmp_path / "s") as (study, pbt):
        start(study.job(study.trials()[1]), parameters=999)
        report(study, pbt, 0, 1, 1.0)
        with pytest.raises(
            UserError, match=r"a model of 810,000 weights \(trial 0\) can't go on as one of 999 \(trial 1\)"
        ):
            report(study, pbt, 1, 1, 1.0)


@pytest.mark.parametrize("key", ["train.batch_size", "data.label", "train.epochs", "strategy"])
def test_what_cannot_change_in_a_training_is_refused_at_the_start(key: str) -> None:
    space = Space((LR, Parameter(key, "int", 1, 8)))
    with pytest.raises(UserError, match=f"{key} can't change then"):
        refuse_unfit(space, 4)


@pytest.mark.parametrize("population", [None, 1])
def test_a_population_has_two_trials_at_least(population: int | None) -> None:
    with pytest.raises(UserError, match=r"give tune.trials, 2 or more"):
        refuse_unfit(SPACE, population)


def test_a_population_that_cannot_train_at_a_time_is_refused() -> None:
    ray = {"cpus_per_worker": 1}
    refuse_too_few(8, 8, 8, ray)
    with pytest.raises(UserError, match=r"there is room for 2; .* ray\.cpus_per_worker=0.25"):
        refuse_too_few(8, 2, 2, ray)
    with pytest.raises(UserError, match=r"all 8 trials at a time, and tune.parallel is 3$"):
        refuse_too_few(8, 3, 16, ray)


def test_without_an_interval_it_is_a_tenth_of_a_training(tmp_path: Path) -> None:
    with population_in(tmp_path / "s", interval=None) as (study, pbt):
        assert list(report_all(study, pbt, 1, {0: 1.9, 1: 3.0, 2: 2.0, 3: 1.0})) == [1]
        assert STOPPED in study.trials()[1].user_attrs
