from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tuning.written import written
from trainer.tuning.planning import Plan, begin
from trainer.tuning.record import read
from trainer.tuning.reports.about import about
from trainer.tuning.reports.chart_data import chart_data
from trainer.tuning.spaces.space import Space

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_study_says_what_it_was_of(tmp_path: Path):
    folder = written(tmp_path / "digits")
    path = folder / "study.yaml"
    known = yaml.safe_load(path.read_text())
    known["base"]["data"] = {"_target_": "trainer.data.sources.Text", "train": "corpus.txt"}
    path.write_text(yaml.safe_dump({**known, "command": "headway tune algorithm=linear"}))
    (folder / "submission").mkdir()
    told = {
        "host": "node7",
        "python": "3.12.1",
        "git": {"commit": COMMIT, "branch": "main", "dirty": True},
        "headway": {"version": "0.1.0", "git": None},
    }
    (folder / "submission" / "submission.json").write_text(json.dumps(told))
    (folder / "submission" / "requirements.lock").write_text("# Python\nnumpy==2.0\ntorch==2.9.0\n")
    rows = about(read(folder))
    assert rows.pop("began")
    assert rows == {
        "tuned": "linear on text corpus.txt",
        "command": "headway tune algorithm=linear",
        "goal": "validation_accuracy (max)",
        "space": "algorithm.lr  0.0001 … 1.0, log",
        "code": "0123456789ab on main, with changes",
        "machine": "node7",
        "versions": "Headway 0.1.0, Python 3.12.1, torch 2.9.0",
    }
    assert chart_data(read(folder))["study"]["about"]["machine"] == "node7"


def test_what_is_not_known_is_left_out(tmp_path: Path):
    assert list(about(read(written(tmp_path / "digits")))) == ["tuned", "goal", "space", "began"]


def test_the_command_is_kept_as_it_can_be_run_again_without_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    facts: dict[str, Any] = {"options": {"study": {"dry_run": False}}}
    monkeypatch.setattr("trainer.tuning.planning.planned", lambda *_: Plan(tmp_path, facts, Space([]), False))
    monkeypatch.setattr("trainer.tuning.planning._config_dir", lambda: None)
    monkeypatch.setattr("trainer.tuning.drive.run", lambda *_, **__: 0)
    begin({}, [], [], ["algorithm=linear", "algorithm.lr=interval(0.01,1)", "+algorithm.api_token=abcdef123456"])
    command = facts["command"]
    assert command.startswith("headway tune algorithm=linear 'algorithm.lr=interval(0.01,1)'")
    assert "abcdef123456" not in command
    assert "oc.env" in command
