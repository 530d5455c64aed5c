"""A study is a directory, driven by one process at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.studies import DEPTH, LR, ask_and_tell, asker, facts, space_of, study_in
from trainer.errors import UserError
from trainer.tuning.record import read
from trainer.tuning.spaces.parameter import Parameter
from trainer.tuning.study import Study, find, folder_of, held


def test_a_study_goes_on_with_its_trials(tmp_path: Path) -> None:
    space = space_of()
    with study_in(tmp_path / "s", space) as study:
        points = ask_and_tell(study, asker(study, space), 3, lambda v: v["algorithm.lr"])
    with study_in(tmp_path / "s", space) as study:
        assert [t.user_attrs["config"] for t in study.trials()] == points
    with held(tmp_path / "s") as study:
        assert study.name == "study"
    assert [t.values for t in read(tmp_path / "s").trials] == points


def test_a_new_study_that_ends_in_an_error_before_it_has_begun_leaves_nothing(tmp_path: Path) -> None:
    def fail(study: Study, events: Sequence[str]) -> None:
        for event in events:
            study.add_event(event)
        raise UserError("no room")

    def breaks(folder: Path, *events: str) -> None:
        with pytest.raises(UserError, match="no room"), study_in(folder, space_of()) as study:
            fail(study, events)

    breaks(tmp_path / "studies/s")
    assert not (tmp_path / "studies").exists()
    (tmp_path / "mine").mkdir()
    breaks(tmp_path / "mine")
    assert not list((tmp_path / "mine").iterdir())
    breaks(tmp_path / "studies/s", "started")
    breaks(tmp_path / "studies/s")  # it is there to go on with
    assert find(str(tmp_path / "studies/s"))


def test_a_second_driver_is_refused_and_told_who_drives(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of()):
        code = f"from pathlib import Path; from trainer.tuning.study import held\nwith held(Path({str(tmp_path / 's')!r})): pass"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UserError" in done.stderr
    assert "is driving this study" in done.stderr
    with held(tmp_path / "s") as study:
        assert study.trials() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"goals": ["max"]}, "goals"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"search": "random"}, "search: tpe there, random here"),
        ({"base": {"algorithm": {"l1": 1}, "data": {}, "train": {}, "job": {"seed": 0}}}, "algorithm.l1"),
    ],
)
def test_another_study_of_the_same_name_is_refused_with_what_differs(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with study_in(tmp_path / "s", space_of()):
        pass
    with pytest.raises(UserError, match=words), study_in(tmp_path / "s", space_of(), **change):
        pass


def test_another_space_is_refused_with_both(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(LR, DEPTH)):
        pass
    wider = Parameter("algorithm.depth", "int", 1, 16)
    with (
        pytest.raises(UserError, match=r"algorithm.depth: 1 … 8.* there, 1 … 16.* here"),
        study_in(tmp_path / "s", space_of(LR, wider)),
    ):
        pass


def test_other_ends_are_no_other_study(tmp_path: Path) -> None:
    with study_in(tmp_path / "s", space_of(), options={"tune": {"trials": 5}}):
        pass
    with study_in(tmp_path / "s", space_of(), options={"tune": {"trials": 9}}) as study:
        assert study.facts["options"] == {"tune": {"trials": 9}}
    with held(tmp_path / "s") as study:
        assert study.facts["options"] == {"tune": {"trials": 9}}


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(UserError, match="is not a study's directory"), held(tmp_path, facts(space_of())):
        pass


def test_a_study_is_found_by_its_name_or_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with study_in(tmp_path / "studies" / "digits", space_of()):
        pass
    assert find("digits") == find("studies/digits") == tmp_path / "studies" / "digits"
    with pytest.raises(UserError, match="did you mean 'digits'"):
        find("digit")


def test_a_trials_folder_is_that_of_its_configuration_alone() -> None:
    config = {"algorithm": {"lr": 0.1}, "data": {}, "train": {}, "strategy": {"name": "auto"}, "job": {"seed": 0}}
    other = {**config, "algorithm": {"lr": 0.2}}
    assert folder_of(3, config) == folder_of(3, {**config, "job": {"seed": 0, "name": "x"}})
    assert folder_of(3, config) != folder_of(3, other)
    assert folder_of(3, config).startswith("0003-")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0\0\0",
        "null\n",
        "[1]\n",
        "name: study\n",
        "name: study\nmetrics: [a]\n",
        "name: s\nmetrics: 5\n",
        "name: x",
    ],
)
def test_a_damaged_description_is_named(tmp_path: Path, text: str) -> None:
    with study_in(tmp_path / "s", space_of(LR)):
        pass
    (tmp_path / "s/study.yaml").write_text(text)
    with pytest.raises(UserError, match=r"study\.yaml (is damaged|can't be read): [^\n]*$"), held(tmp_path / "s"):
        pass
