"""What follows a trial as Ray Tune's actor does, without Ray: whatever goes wrong there is a failed trial, with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jobs import make_job
from trainer.tuning.ray.trial import Trial


def config_of(folder: Path) -> dict[str, Any]:
    return {"dir": str(folder), "number": 3, "retries": 0, "folder": str(folder.parent), "path": [], "env": {}}


def reported(config: dict[str, Any]) -> dict[str, Any]:
    trial = Trial.__new__(Trial)  # Ray makes the rest of it
    trial.setup(config)
    told = trial.step()
    assert told["done"]
    assert told["number"] == 3
    report: dict[str, Any] = json.loads(told["report"])
    return report


def test_a_job_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = reported(config_of(tmp_path / "gone"))
    assert report["ended"] == "failed"
    assert "gone" in report["reason"]


def test_a_launcher_that_raises_what_nobody_foresaw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unforeseen.py").write_text(
        "from launchers.local import Local\n\n\n"
        "class Broken(Local):\n    def is_alive(self, job):\n        raise ZeroDivisionError('by nothing')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    job = make_job(tmp_path / "job")
    job.config_path.write_text(job.config_path.read_text().replace("launchers.local.Local", "unforeseen.Broken"))
    report = reported(config_of(tmp_path / "job"))
    assert (report["ended"], report["reason"]) == ("failed", "ZeroDivisionError: by nothing")
