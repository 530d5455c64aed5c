"""Who stops early: over a real study's storage, with learning curves that are made up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.jobs import make_job
from tests.tuning.studies import LR, space_of, study_in
from trainer.errors import UserError
from trainer.job import checkpoint
from trainer.tuning.options import SchedulerConfig, TuneConfig
from trainer.tuning.record import TRIALS
from trainer.tuning.schedulers.choice import scheduler_of
from trainer.tuning.schedulers.scheduler import Scheduler
from trainer.tuning.spaces.parameter import Parameter
from trainer.tuning.study import Study

TRAIN = {"epochs": 16, "max_steps": None, "max_time": None, "validate_every": None}


def options(name: str, **more: Any) -> dict[str, Any]:
    return {**vars(SchedulerConfig()), "name": name, **more}


def about(unit: str = "epochs", goal: str = "min", **train: Any) -> dict[str, Any]:
    """What the study of `study_in` is."""
    return {"unit": unit, "goals": [goal], "base": {"train": {**TRAIN, **train}}}


def begin(study: Study) -> Any:
    return study.storage.get_trial(study.storage.create_new_trial(study.optuna._study_id))


def at(epoch: float, steps_per_epoch: int = 10, total: float = math.inf, **more: float) -> dict[str, float]:
    return {"epochs": epoch, "steps": epoch * steps_per_epoch, "seconds": epoch / 2, "total": total, **more}


def train(
    study: Study, scheduler: Scheduler, curve: Callable[[int], float], epochs: int = 16, frozen: Any = None
) -> tuple[int, str]:
    """A whole trial, a report an epoch. Returns after how many it ended, and why it stopped, if it did."""
    frozen = frozen or begin(study)
    for epoch in range(1, epochs + 1):
        stopped = scheduler.decide(frozen, at(epoch, total=epochs * 10), curve(epoch))
        if frozen.number in stopped:
            study.optuna.tell(frozen.number, state=TrialState.PRUNED)
            return epoch, stopped[frozen.number]
    study.optuna.tell(frozen.number, curve(epochs))
    return epochs, ""


def level(value: float) -> Callable[[int], float]:
    """A curve that falls, and stays as far from the others as it is."""
    return lambda epoch: value + 1 / epoch


def test_asha_lets_the_best_quarter_of_each_rung_go_on(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR), **about()) as study:
        asha = scheduler_of(study, options("asha"))
        assert train(study, asha, level(0.5)) == (16, "")
        assert train(study, asha, level(0.9)) == (1, "asha, after 1 epoch with validation_loss 1.900")
        assert train(study, asha, level(0.8))[0] == 1
        assert train(study, asha, level(0.1)) == (16, "")  # the best of four
        middling = [train(study, asha, lambda epoch: 0.05 if epoch < 4 else 2.0)[0] for _ in range(1)]
        assert middling == [4]  # good at the first rung, the worst at the second
        assert train(study, asha, level(0.2))[0] == 1


def stopped(study: Study, frozen: Any, step: int) -> None:
    """A trial's job stops, its state saved."""
    job = make_job(study.dir / TRIALS / f"{frozen.number:04d}")
    checkpoint.begin(job.checkpoints, step)
    checkpoint.commit(job.checkpoints, step, "", {})
    study.note(frozen, job=job.name)
    study.optuna.tell(frozen.number, state=TrialState.PRUNED)


def bounded(trials: int, **more: Any) -> dict[str, Any]:
    return {**about(), "options": {"tune": {**vars(TuneConfig()), "trials": trials, **more}}}


def test_asha_lets_a_stopped_trial_go_on_once_it_is_among_the_best(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR), **bounded(100)) as study:
        asha = scheduler_of(study, options("asha"))
        trials = []
        for value in (0.3, 0.5, 0.4):
            frozen = begin(study)
            study.note(frozen, config={"algorithm.lr": value})
            assert asha.decide(frozen, at(1), value)  # less than one in four goes on
            stopped(study, frozen, 10)
            trials.append(frozen)
            assert asha.successor() is None
        assert asha.decide(begin(study), at(1), 0.6)
        found = asha.successor()  # one of four may
        assert found is not None
        frozen, values = found
        assert values == {"algorithm.lr": 0.3}
        assert (frozen.user_attrs["parent"], frozen.user_attrs["replaces"]) == (0, 0)
        job = make_job(tmp_path / "s" / TRIALS / "0009")
        asha.prepare(frozen, job)
        assert [c.name for c in checkpoint.listing(job.checkpoints)] == ["step-00000010"]
        assert asha.decide(frozen, at(2), 0.2) == {}
        assert asha.decide(frozen, at(4), 0.2)  # the second rung is the first that it comes to
        assert study.trials()[frozen.number].user_attrs["rungs"] == {"1": 0.2}
        assert asha.successor() is None


def test_asha_brings_the_best_to_their_ends_once_all_have_begun(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR), **bounded(2)) as study:
        asha = scheduler_of(study, options("asha"))
        first = begin(study)
        study.note(first, config={"algorithm.lr": 0.1})
        assert asha.decide(first, at(1), 0.1)
        stopped(study, first, 10)
        assert asha.successor() is None
        second = begin(study)
        assert asha.goes_on()
        assert asha.decide(second, at(1), 0.2)
        study.optuna.tell(second.number, state=TrialState.PRUNED)
        assert asha.goes_on()
        found = asha.successor()
        assert found is not None
        assert train(study, asha, level(-9.0), frozen=found[0]) == (16, "")
        assert not asha.goes_on()


@pytest.mark.parametrize("bound", [{"max_time": "1h"}, {"max_device_hours": 1.0}, {"trials": None, "target": 0.1}])
def test_asha_has_a_whole_training_to_show_where_time_may_end_the_study(tmp_path: Path, bound: dict[str, Any]) -> None:
    with study_in(tmp_path / "s", space_of(LR), **bounded(**{"trials": 50, **bound})) as study:
        asha = scheduler_of(study, options("asha"))
        assert train(study, asha, level(0.5)) == (16, "")
        assert train(study, asha, level(0.9))[0] == 1


def test_more_is_better_where_the_goal_is_max(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR), **about(goal="max")) as study:
        asha = scheduler_of(study, options("asha"))
        ends = [train(study, asha, lambda epoch, v=value: v)[0] for value in (0.5, 0.4, 0.6)]  # type: ignore[misc]
        assert ends == [16, 1, 16]


def test_nobody_stops_at_the_end_of_a_training(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR), **about()) as study:
        asha = scheduler_of(study, options("asha", min=4))
        assert train(study, asha, level(0.1), epochs=4) == (4, "")
        assert train(study, asha, level(0.9), epochs=4) == (4, "")  # a rung, and nothing left to save
        assert study.trials()[1].values == [0.9 + 0.25]


def test_a_trial_that_stopped_has_its_last_value(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR), **about()) as study:
        asha = scheduler_of(study, options("asha"))
        train(study, asha, level(0.1))
        frozen = begin(study)
        assert asha.decide(frozen, at(1), 3.0)
        assert asha.decide(frozen, at(2), 2.5)  # it had reported again when it was told to stop
        study.optuna.tell(frozen.number, state=TrialState.PRUNED)
        assert study.trials()[1].state is TrialState.PRUNED
        assert study.trials()[1].values == [2.5]


@pytest.mark.parametrize(
    ("unit", "first", "second"), [("steps", 5.0, 20.0), ("seconds", 0.25, 1.0), ("epochs", 0.5, 2.0)]
)
def test_rungs_are_counted_in_any_unit_and_in_parts_of_it(
    tmp_path: Path, unit: str, first: float, second: float
) -> None:
    """Trials that report twice an epoch, of ten steps and half a second: the first report is the first rung."""
    with study_in(tmp_path / "s", space_of(LR), **about(unit, validate_every=5)) as study:
        asha = scheduler_of(study, options("asha", unit=unit))
        good, bad = begin(study), begin(study)
        stops = {}
        for number, frozen in enumerate((good, bad)):
            for half in range(1, 9):
                value = 1.0 if number == 0 or half < 4 else 5.0  # the second becomes bad before the second rung
                where = at(half / 2)
                if asha.decide(frozen, where, value) and frozen.number not in stops:
                    stops[frozen.number] = where[unit]
        assert stops == {bad.number: second}
        assert good.number not in stops
        key = min(study.trials()[0].intermediate_values)
        assert key / asha.fineness == first


def test_whole_epochs_are_kept_as_they_are(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR), **about()) as study:
        scheduler = scheduler_of(study, options("none"))
        train(study, scheduler, level(0.1), epochs=3)
        assert list(study.trials()[0].intermediate_values) == [1, 2, 3]


def test_the_first_report_past_a_rung_decides(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR), **about()) as study:
        asha = scheduler_of(study, options("asha", min=2, reduction=2))
        good, bad = begin(study), begin(study)
        for epoch in (3, 5, 9):  # rungs at 2, 4 and 8
            assert not asha.decide(good, at(epoch), 1.0)
        assert not asha.decide(bad, at(1), 9.0)
        assert asha.decide(bad, at(3), 2.0)
        assert study.trials()[0].user_attrs["rungs"] == {"0": 1.0, "1": 1.0, "2": 1.0}
        assert study.trials()[1].user_attrs["rungs"] == {"0": 2.0}


def test_a_driver_that_takes_over_decides_the_same(tmp_path: Path) -> None:
    values = [0.5, 0.4, 0.9, 0.3, 0.8, 0.35, 0.2, 0.7]

    def ended(folder: Path, drivers: int) -> list[int]:
        ends = []
        for start in range(0, len(values), len(values) // drivers):
            with study_in(folder, space_of(LR), **about()) as study:
                scheduler = scheduler_of(study, options(name))
                ends += [train(study, scheduler, level(v))[0] for v in values[start : start + len(values) // drivers]]
        return ends

    for name in ("asha", "hyperband", "median"):
        assert ended(tmp_path / f"{name}-1", 1) == ended(tmp_path / f"{name}-8", 8), name


def test_what_one_driver_decided_the_next_one_does(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR), **about()) as study:
        asha = scheduler_of(study, options("asha"))
        train(study, asha, level(0.1))
        frozen = begin(study)
        reason = asha.decide(frozen, at(1), 3.0)[frozen.number]  # and it died before it said so
    with study_in(tmp_path / "s", space_of(LR), **about()) as study:
        asha = scheduler_of(study, options("asha"))
        assert asha.decide(study.trials()[1], at(1), 3.0) == {1: reason}  # the job's reports are read again


def test_the_first_rung_is_that_of_the_first_report_whoever_drives(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR), **about("steps")) as study:
        scheduler_of(study, options("asha", unit="steps")).decide(begin(study), at(1, steps_per_epoch=40), 1.0)
    with study_in(tmp_path / "s", space_of(LR), **about("steps")) as study:
        asha, second = scheduler_of(study, options("asha", unit="steps")), begin(study)
        assert not asha.decide(second, at(1, steps_per_epoch=20), 9.0)  # a larger batch: no rung yet
        assert asha.decide(second, at(2, steps_per_epoch=20), 9.0)


def test_a_value_that_is_no_number_stops_a_trial(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR), **about()) as study:
        assert scheduler_of(study, options("asha")).decide(begin(study), at(1), math.nan) == {
            0: "validation_loss is nan"
        }
        assert scheduler_of(study, options("none")).decide(begin(study), at(1), math.nan) == {}


def test_an_estimator_that_reports_each_round_has_its_own_length(tmp_path: Path) -> None:
    """Hyperband needs a whole training: of 81 rounds here, whatever train.epochs says."""
    with study_in(tmp_path / "s", space_of(LR), **about()) as study:
        hyperband = scheduler_of(study, options("hyperband", reduction=3))
        hyperband.decide(begin(study), {"steps": 1, "epochs": 1, "seconds": 0.1, "total": math.inf}, 1.0)
        assert hyperband._pruner is None  # nothing tells yet
        hyperband.decide(begin(study), {"steps": 1, "epochs": 1, "seconds": 0.1, "total": 81}, 1.0)
        assert (hyperband._pruner._min_resource, hyperband._pruner._max_resource) == (1, 81)


def test_hyperband_keeps_the_good_and_stops_most_of_the_rest(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR), **about()) as study:
        hyperband = scheduler_of(study, options("hyperband", reduction=3))
        ends = [train(study, hyperband, level((i * 7 % 20) / 20))[0] for i in range(20)]
        best = min(range(20), key=lambda i: i * 7 % 20)
        assert ends[best] == 16
        assert sum(ends) < 0.6 * 20 * 16


@pytest.mark.parametrize(("unit", "train", "works"), [
    ("epochs", {"epochs": None, "max_time": "1m"}, False),
    ("seconds", {}, False),
    ("seconds", {"max_time": "1m"}, True),
    ("steps", {}, True),
])  # fmt: skip
def test_hyperband_asks_for_what_it_cannot_know(
    tmp_path: Path, unit: str, train: Mapping[str, Any], works: bool
) -> None:
    with study_in(tmp_path / "s", space_of(LR), **about(unit, **train)) as study:
        if works:
            scheduler_of(study, options("hyperband", unit=unit))
            return
        with pytest.raises(UserError, match=f"scheduler.max: hyperband needs to know how many {unit}"):
            scheduler_of(study, options("hyperband", unit=unit))


def test_median_stops_what_is_worse_than_half_of_the_completed(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR), **about()) as study:
        median = scheduler_of(study, options("median", startup=3))
        assert [train(study, median, level(v))[0] for v in (0.1, 0.5, 0.9)] == [16, 16, 16]
        assert train(study, median, level(0.6)) == (1, "median, after 1 epoch with validation_loss 1.600")
        assert train(study, median, level(0.5)) == (16, "")
        assert train(study, median, lambda epoch: 0.2 + 1 / epoch if epoch < 5 else 7.0)[0] == 16  # its best counts


def test_median_looks_at_trials_whose_reports_lie_elsewhere(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR), **about("seconds")) as study:
        median = scheduler_of(study, options("median", unit="seconds", startup=2, min=1, interval=2))
        for pace in (0.9, 1.1):
            frozen = begin(study)
            for epoch in range(1, 6):
                assert not median.decide(frozen, at(epoch, seconds=epoch * pace), 1 / epoch)
            study.optuna.tell(frozen.number, 0.2)
        slow = begin(study)
        assert not median.decide(slow, at(1, seconds=0.7), 9.0)  # before scheduler.min
        assert not median.decide(slow, at(1, seconds=1.4), 9.0)  # no multiple of scheduler.interval since
        assert median.decide(slow, at(2, seconds=2.3), 9.0)


def test_several_metrics_are_refused(tmp_path: Path) -> None:
    two = {"metrics": ["validation_loss", "validation_accuracy"], "goals": ["min", "max"]}
    with (
        study_in(tmp_path / "s", space_of(LR), **{**about(), **two}) as study,
        pytest.raises(UserError, match="scheduler=asha goes by one metric, and there are 2; choose scheduler=none"),
    ):
        scheduler_of(study, options("asha"))


def test_a_space_over_the_places_of_reports_counts_parts_of_epochs(tmp_path: Path) -> None:
    places = Parameter("train.validate_every", "int", 5, 50)
    with study_in(tmp_path / "s", space_of(places), **about()) as study:
        assert scheduler_of(study, options("asha")).fineness > 1
