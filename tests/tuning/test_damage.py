"""What a loss of power, a person or another version has made of a study's files: looking at it says which, in one line,
and shows what the others hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.test_damage import DAMAGES, FEW
from tests.tuning.written import over, written
from trainer.cli.command import main

OF_THE_STUDY = ["study.yaml", "study.journal", "events.jsonl"]
OF_A_TRIAL = [
    f"trials/0001-0badcafe/{name}" for name in ("config.yaml", "events.jsonl", "metrics.jsonl", "result.json")
]
NO_LINE = ("missing", "empty", "zeroed", "null", "a list", "a number", "a text", "an empty record", "a link to nowhere")
CASES = [
    pytest.param(name, how, id=f"{name}-{how}")
    for name in (*OF_THE_STUDY, *OF_A_TRIAL)
    for how in (DAMAGES if name in OF_THE_STUDY else FEW)
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = written(tmp_path_factory.mktemp("template") / "study")
    over(directory, "3 trials were made")
    return directory


@pytest.fixture
def study(folder: Path, template: Path) -> Path:
    shutil.copytree(template, folder / "studies/study")
    return folder / "studies/study"


@pytest.mark.parametrize(("name", "how"), CASES)
def test_looking_at_a_study_names_the_damaged_file_and_shows_the_rest(
    study: Path, capsys: pytest.CaptureFixture[str], name: str, how: str
) -> None:
    DAMAGES[how](study / name)
    for verb in (["show", "study"], ["show", "study", "--json"], ["report", "study"]):
        code = main(["tune", *verb])
        out, err = capsys.readouterr()
        assert code in (0, 2), (verb, out, err)
        assert len(err.splitlines()) == (code == 2), (verb, err)
        if code == 2:
            assert name in OF_THE_STUDY
            assert name in err or "there is no study" in err
        elif "--json" in verb and name != "study.journal":
            assert len(json.loads(out)["trials"]) == 6
        elif name == "study.journal" and how in NO_LINE and verb == ["show", "study"]:
            assert "study.journal holds no trial, and trials/ holds 5: restore it from a copy" in out


def test_the_sound_study_is_told_as_ever(study: Path, capsys: Any) -> None:
    assert main(["tune", "show", "study", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [trial["state"] for trial in found["trials"]][:4] == ["completed", "completed", "stopped_early", "failed"]
