"""`headway ls` with --where, --sort and --columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.jobs import make_job, start, validate
from trainer.cli.command import main


@pytest.fixture(autouse=True)
def runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three jobs of different rates; the last one has reported nothing."""
    monkeypatch.setenv("COLUMNS", "160")
    for name, lr, accuracy in (("a", 0.3, 0.7), ("b", 0.1, 0.9), ("c", 0.2, None)):
        job = make_job(folder / "runs" / name)
        config = yaml.safe_load(job.config_path.read_text())
        config["algorithm"]["lr"] = lr
        job.config_path.write_text(yaml.safe_dump(config))
        if accuracy is not None:
            start(job)
            validate(job, 10, validation_accuracy=accuracy)


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["ls", "--json", *arguments]) == 0
    return [row["name"] for row in json.loads(capsys.readouterr().out)]


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("algorithm.lr<0.25", "bc"),
        ("algorithm.lr>=0.2", "ac"),
        ("algorithm.lr = 0.10", "b"),
        ("algorithm.lr!=0.1", "ac"),
        ("validation_accuracy>0.8", "b"),
        ("validation_accuracy!=0.9", "ac"),
        ("validation_accuracy=null", "c"),
        ("state=pending", "c"),
        ("algorithm=linear", "abc"),
        ("algorithm!=linear", ""),
        ("name=a", "a"),
    ],
)
def test_where_lists_those_of_which_it_holds(capsys: Any, expression: str, names: str) -> None:
    assert sorted(listed(capsys, "--where", expression)) == list(names)


def test_several_conditions_all_hold(capsys: Any) -> None:
    assert listed(capsys, "--where", "algorithm.lr<0.25", "--where", "state=Pending") == ["c"]


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("algorithm.lr", "bca"),
        ("-algorithm.lr", "acb"),
        ("validation_accuracy", "abc"),
        ("-validation_accuracy", "bac"),
    ],
)
def test_sort_has_what_a_job_lacks_last(capsys: Any, key: str, order: str) -> None:
    assert listed(capsys, "--sort", key) == list(order)
    assert listed(capsys, f"--sort={key}") == list(order)


def test_columns_are_config_keys_and_metrics(capsys: Any) -> None:
    assert main(["ls", "--columns", "algorithm.lr,validation_accuracy", "--sort", "name"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()[:4]
    assert header.split()[:3] == ["job", "algorithm.lr", "validation_accuracy"]
    assert [row.split()[:3] for row in rows] == [["a", "0.3", "0.7"], ["b", "0.1", "0.9"], ["c", "0.2", "-"]]
    assert main(["ls", "--json", "--columns", "algorithm.lr", "--where", "name=a"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["algorithm.lr"] == 0.3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--where", "algorithm.lrr<1"], "no job here has 'algorithm.lrr'; did you mean 'algorithm.lr'"),
        (["--where", "algorithm.lr"], "write KEY=VALUE"),
        (["--where", "algorithm.lr<small"], "'small' is not a number to compare with"),
        (
            ["--sort", "nothing_like_it"],
            "no job here has 'nothing_like_it'; there is state, steps, a config key or a metric",
        ),
        (["--columns", "algorithm.lrr"], "--columns: no job here has"),
    ],
)
def test_what_cannot_be_meant_is_one_line(capsys: Any, arguments: list[str], says: str) -> None:
    assert main(["ls", *arguments]) == 2
    errors = capsys.readouterr().err
    assert says in errors
    assert len(errors.splitlines()) == 1


def test_none_such_is_said(capsys: Any) -> None:
    assert main(["ls", "--where", "algorithm.lr>5"]) == 0
    assert capsys.readouterr().out == "no job in runs is such a one\n"
