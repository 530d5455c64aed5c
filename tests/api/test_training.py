"""Jobs trained from Python: silent, or as the command shows them, and further than they were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import trainer
from tests.jobs import end, make_job
from trainer.api import training
from trainer.api.overrides import written_as_yaml
from trainer.job.directory import Job, State


def test_a_job_is_silent_unless_asked_and_goes_on_with_what_is_told_anew(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = trainer.train(algorithm="linear", data="digits", train={"epochs": 1}, job={"name": "more"})
    assert capfd.readouterr() == ("", "")
    more = trainer.resume(first, train={"epochs": 2}, **{"algorithm.lr": 5e-5, "verbose": True})
    out = capfd.readouterr().out
    assert "train  linear on digits, seed 0" in out
    assert "Completed  more" in out
    assert (first.steps, more.steps) == (45, 90)
    assert "lr: 5.0e-05" in (folder / "runs/more/config.yaml").read_text()
    trainer.resume("more", verbose=True)
    assert "more is already completed" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("name", "keywords", "said"),
    [
        ("mor", {}, "did you mean 'more'"),
        ("more", {"train": {"epoch": 3}}, "the job has no such key; did you mean 'train.epochs'"),
        ("more", {"data": {"train": [[1.0]]}}, "goes on with the rows that it began with"),
    ],
)
def test_what_a_job_cannot_go_on_with_is_one_line(folder: Path, name: str, keywords: Any, said: str) -> None:
    end(make_job(folder / "runs/more"))
    with pytest.raises(trainer.UserError, match=said):
        trainer.resume(name, **keywords)


@pytest.mark.parametrize(("mistaken", "error"), [(True, trainer.UserError), (False, trainer.HeadwayError)])
def test_a_failure_is_raised_with_its_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch, mistaken: bool, error: type[Exception]
) -> None:
    job = make_job(folder / "runs/failed")
    end(job, State.FAILED, {"type": "UserError", "message": "column 'a' is empty", "rank": 0})
    job.add_event(State.FAILED, user_error=mistaken)

    def run(config: Mapping[str, Any], **watching: Any) -> tuple[Job, int]:
        return job, 1

    monkeypatch.setattr(training, "run", run)
    with pytest.raises(trainer.HeadwayError, match="failed failed: column 'a' is empty") as raised:
        trainer.train(job={"name": "failed"})
    assert type(raised.value) is error


def test_values_are_read_back_by_yaml() -> None:
    values = {"a": [1e-05, None, True, 'it\'s "1e5"\n', "${x}"], "b c": {"d: e": "null"}}
    (written,) = written_as_yaml({"data.train": values})
    assert yaml.safe_load(written.partition("=")[2]) == values
