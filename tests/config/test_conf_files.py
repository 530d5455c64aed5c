"""Choices that lie in a folder of the command line are in help, in lists and in suggestions, and in no other command's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trainer.cli.command import main
from trainer.config.compose import compose
from trainer.config.conf_files import choices, groups, join
from trainer.errors import UserError


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    files = {
        "algorithm/wide.yaml": "# Wider than the others.\ndefaults: [linear, _self_]\nlr: 0.5  # quick\n",
        "experiment/first.yaml": "# @package _global_\ntrain: {epochs: 3}\n",
        "experiment/deep/second.yaml": "# @package _global_\ntrain: {epochs: 4}\n",
        "paths/here.yaml": "root: /data\n",
    }
    for name, text in files.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "conf"


@pytest.mark.parametrize("flag", [["--config-dir", "conf"], ["--config-dir=conf"], ["-cd", "conf"]])
def test_the_page_has_them(own: Path, flag: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *flag, "--help"]) == 0
    page = capsys.readouterr().out
    for line in ("linear, script, wide, xgboost", "deep/second, digits_two_workers, first", "paths       here"):
        assert line in page
    assert main(["train", *flag, "algorithm=wide", "--help"]) == 0
    page = capsys.readouterr().out
    assert "algorithm=wide: Wider than the others." in page
    assert "algorithm.lr=0.5" in page
    assert main(["train", "--help"]) == 0
    assert "wide" not in capsys.readouterr().out


def test_mistakes_name_them(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config-dir", "conf", "algorithm=wied"]) == 2
    assert "did you mean 'wide'?" in capsys.readouterr().err
    assert main(["train", "+experiment=frist", "--config-dir", "conf"]) == 2
    assert "did you mean 'first'?" in capsys.readouterr().err
    assert main(["plan", "--config-dir=conf", "+experiment=deep/secnd"]) == 2
    assert "second" in capsys.readouterr().err
    with pytest.raises(UserError, match="did you mean 'wide'"):
        compose(["algorithm=wied"], config_dir=own)
    with pytest.raises(UserError, match=r"there is no such choice(?!.*wide)"):
        compose(["algorithm=wied"])


def test_they_are_chosen(own: Path) -> None:
    config = compose(["algorithm=wide", "+experiment=deep/second"], config_dir=own)
    assert (config["algorithm"]["lr"], config["train"]["epochs"]) == (0.5, 4)


def test_the_list_of_algorithms_has_them(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["algorithms", "--config-dir", "conf"]) == 0
    assert "Wider than the others." in capsys.readouterr().out
    assert main(["algorithms", "wide", "--config-dir", "conf"]) == 0
    assert "algorithm.lr=0.5" in capsys.readouterr().out
    assert main(["algorithms", "wide"]) == 2


def test_a_search_path_counts_too(own: Path) -> None:
    join([f"hydra.searchpath=[file://{own}]"])
    assert "wide" in choices("algorithm")
    assert groups()[-1] == "paths"
    join([])
    assert "paths" not in groups()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--config-path", "conf"],
            "--config-path: Headway's own configs stay where they are; --config-dir FOLDER adds your choices to them",
        ),
        (["--config_dir", "conf"], "--config_dir: the flag is --config-dir"),
    ],
)
def test_flags_that_are_called_otherwise(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *arguments]) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_code_that_lies_beside_them_is_found(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a study's lies beside its best.yaml."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (own / "code/proj").mkdir(parents=True)
    code = "from trainer import Estimator\n\n\nclass Mine(Estimator):\n    def fit(self, context): ...\n"
    (own / "code/proj/lies_beside.py").write_text(code)
    (own / "submission").mkdir()
    (own / "submission/submission.json").write_text('{"code": [{"folder": "proj", "from": "/gone", "paths": ["."]}]}')
    (own / "algorithm/mine.yaml").write_text("_target_: lies_beside.Mine\n")
    assert main(["train", "--config-dir", "conf", "algorithm=mine", "data=digits", "job.dry_run=true"]) == 0
    assert "lies_beside.Mine" in capsys.readouterr().out
