from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from optuna import load_study
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests.jobs import make_job, validate
from tests.tuning.written import START, begun, big, over, written
from trainer.errors import UserError
from trainer.job.directory import Job, State
from trainer.tuning.record import StudyRecord, Trial, read, short_keys


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return written(tmp_path / "digits")


def made(*objectives: tuple[float, ...], goals: tuple[str, ...] = ("min", "max")) -> StudyRecord:
    trials = [Trial(number=i, state="completed", objective=o) for i, o in enumerate(objectives)]
    return StudyRecord(name="s", dir=Path("s"), metrics=["a", "b"][: len(goals)], goals=list(goals), trials=trials)


def test_a_study_is_read_from_its_directory(study: Path):
    record = read(study)
    assert (record.name, record.metrics, record.goals) == ("digits", ["validation_accuracy"], ["max"])
    assert (record.search, record.scheduler, record.unit, record.seed) == ("bayes", "asha", "epochs", 3)
    assert record.ended is None
    states = ["completed", "completed", "stopped_early", "failed", "interrupted", "completed"]
    assert [trial.state for trial in record.trials] == states


def test_a_trial_tells_what_its_job_reported(study: Path):
    trial = read(study).trials[1]
    assert trial.values == {"algorithm.lr": 0.1}
    assert trial.objective == (pytest.approx(0.919),)
    assert [point[0] for point in trial.curve] == [pytest.approx(step) for step in range(1, 10)]
    assert [point[2] for point in trial.curve] == [pytest.approx(0.91 + 0.001 * step) for step in range(1, 10)]
    assert (trial.job, trial.seconds, trial.device_seconds) == ("0001-0badcafe", 90.5, 181.0)


def test_a_trial_that_stopped_early_has_its_last_value_and_a_failed_one_none(study: Path):
    record = read(study)
    assert record.trials[2].objective == (pytest.approx(0.923),)
    assert record.trials[2].reason == "worse than half"
    assert record.trials[3].objective is None
    assert record.trials[3].reason == "NaN: the loss is not finite"


def test_interruptions_are_counted_and_what_was_lost(study: Path):
    trial = read(study).trials[4]
    assert len(trial.interruptions) == 2
    assert trial.interruptions[0]["steps_lost"] == 50
    assert trial.lost_seconds == pytest.approx(5, abs=0.01)
    assert trial.device_seconds == pytest.approx(60, abs=2)
    assert trial.ended is None


def test_what_a_launcher_knows_of_a_job_decides_whether_it_runs(study: Path):
    assert read(study, lambda job: State.RUNNING).trials[4].state == "running"


def test_the_best_is_a_completed_trial_of_this_study(study: Path):
    best = read(study).best()
    assert best is not None
    assert best.number == 1


def test_the_end_and_its_reason_are_told(study: Path):
    over(study, "six trials were made")
    record = read(study)
    assert (record.ended, record.ends) == (START + 600, "six trials were made")


def test_a_study_without_a_trial_has_no_best(tmp_path: Path):
    begun(tmp_path / "new", metrics=("loss",), goals=("min",))
    record = read(tmp_path / "new")
    assert record.trials == []
    assert record.best() is None
    assert record.front() == []


def test_a_folder_that_is_no_study_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"is not a study's directory: it has no study\.yaml"):
        read(tmp_path)


def test_a_damaged_storage_is_named(study: Path):
    journal = study / "study.journal"
    journal.write_text("garbage\n" + journal.read_text())
    with pytest.raises(UserError, match=r"study\.journal can't be read: .*; restore it from a copy"):
        read(study)


def test_a_storage_of_another_study_is_named(study: Path):
    (study / "study.yaml").write_text("name: digit\nmetrics: [loss]\n")
    with pytest.raises(UserError, match="holds no study 'digit'; did you mean 'digits'"):
        read(study)


def test_a_job_whose_folder_is_gone_is_still_told_from_the_storage(study: Path):
    (study / "trials" / "0002-0badcafe").rename(study / "elsewhere")
    trial = read(study).trials[2]
    assert trial.objective == (pytest.approx(0.923),)
    assert [(x, y) for x, _, y in trial.curve] == [(3.0, pytest.approx(0.923))]


def test_a_trial_that_went_on_from_another_tells_how_far_that_one_had_come(study: Path):
    storage = JournalStorage(JournalFileBackend(str(study / "study.journal")))
    trial = load_study(study_name="digits", storage=storage).ask(
        {"algorithm.lr": FloatDistribution(1e-4, 1.0, log=True)}
    )
    job = make_job(study / "trials" / "0006-0badcafe")
    job.add_event(State.RUNNING, step=220, world_size=1)  # validated each epoch of 50 steps, saved in the fifth
    for key, told in {"config": {"algorithm.lr": 0.2}, "job": job.dir.name, "parent": 1}.items():
        trial.set_user_attr(key, told)
    found = read(study).trials[6]
    assert (found.parent, found.branch) == (1, 4.0)


def test_a_value_that_is_not_finite_and_a_broken_constraint_are_never_best():
    record = made((math.nan,), (3.0,), (math.inf,), (1.0,), goals=("min",))
    trials = [*record.trials[:3], replace(record.trials[3], feasible=False)]
    best = replace(record, trials=trials).best()
    assert best is not None
    assert best.number == 1


def test_the_front_is_what_no_other_beats_in_every_metric():
    record = made((1, 1), (2, 3), (3, 2), (4, 9), (2, 3), (1, 0))
    assert [trial.number for trial in record.front()] == [0, 1, 3]


def test_three_metrics_have_a_front_too():
    points = [(1, 1, 1), (1, 1, 2), (2, 0, 0), (3, 3, 3)]
    trials = [Trial(number=i, state="completed", objective=p) for i, p in enumerate(points)]
    record = StudyRecord(name="s", dir=Path("s"), metrics=["a", "b", "c"], goals=["min", "min", "min"], trials=trials)
    assert [trial.number for trial in record.front()] == [0, 2]


def test_two_metrics_of_many_trials_have_a_front_that_nothing_dominates(tmp_path: Path):
    record = big(tmp_path, 300, objectives=2)
    front = record.front()
    for trial in front:
        beats = [o for o in record.ranked() if all(x <= y for x, y in zip(o.objective, trial.objective, strict=True))]  # type: ignore[arg-type]
        assert beats == [trial]


def test_short_names_are_used_where_they_tell_apart():
    keys = ["algorithm.lr", "train.batch_size", "a.depth", "b.depth"]
    assert list(short_keys(keys).values()) == ["lr", "batch_size", "a.depth", "b.depth"]


def test_a_stopped_trial_has_one_figure_its_last_report(tmp_path: Path):
    folder = written(tmp_path / "digits")
    job = next(job for job in (folder / "trials").iterdir() if job.name.startswith("0002"))
    validate(Job(job), 200, validation_accuracy=0.5)
    trial = read(folder).trials[2]
    assert trial.state == "stopped_early"
    assert trial.objective == (0.5,)
    assert trial.metrics["validation_accuracy"] == trial.curve[-1][2] == 0.5
