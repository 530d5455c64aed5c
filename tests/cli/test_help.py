"""The pages of --help, and completion in a real shell."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs import make_job
from trainer.cli import help as pages
from trainer.cli.command import main
from trainer.config.conf_files import choices, groups, keys, study_groups


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["train", "--help"], ["predict", "--help"]])
def test_a_page_fits_a_terminal_and_names_every_choice(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 120
    for choice in choices("data"):
        assert choice in page


def test_the_train_page_has_groups_keys_examples_and_flags(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--help"])
    page = capsys.readouterr().out
    for group in groups():
        assert f"  {group} " in page
    assert page.count("  headway ") >= 5
    assert "train.max_steps=null" in page
    assert "--multirun" in page


def test_help_of_a_choice_explains_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "algorithm=gpt", "--help"]) == 0
    page = capsys.readouterr().out
    assert "algorithm.layers=" in page
    assert all(key.comment for key in keys("algorithm", "gpt") if key.name != "_target_")


def test_help_of_an_algorithm_says_what_a_study_searches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "algorithm=linear", "algorithm=gpt_7b", "--help"]) == 0
    page = capsys.readouterr().out
    assert "headway tune searches lr, l1, l2, train.batch_size\n" in page
    assert "headway tune searches lr, warmup, weight_decay, beta2, min_lr\n" in page
    assert "interval(" not in page


def test_a_preset_explains_what_it_inherits() -> None:
    inherited = {key.name: key for key in keys("algorithm", "gpt_small")}
    assert inherited["layers"].comment
    assert inherited["lr"].comment


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("line", "offers"),
    [("headway tr", "train"), ("headway train algo", "algorithm="), ("headway train algorithm=g", "algorithm=gpt")],
)
def test_tab_completes_verbs_groups_and_choices(line: str, offers: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = f"""
        eval "$(headway train -sc install=bash)"
        COMP_LINE='{line}' COMP_POINT={len(line)} COMP_WORDS=({line}) COMP_CWORD={len(line.split()) - 1}
        hydra_bash_completion
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False
    )
    assert offers in done.stdout.split(), done.stderr


def test_the_tune_page_has_ranges_groups_and_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--help"]) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 120
    for group in study_groups():
        assert f"  {group} " in page
    for key in keys("tune", "default"):
        assert f"tune.{key.name}=" in page
    assert "tag(log,interval(" in page


def test_help_of_a_studys_choice_explains_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "scheduler=asha", "--help"]) == 0
    assert "scheduler.reduction=" in capsys.readouterr().out


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize(
    "verb", [[], ["train"], ["tune"], ["predict"], ["plan"], ["chaos"], ["train", "algorithm=gpt"]]
)
def test_pages_are_as_wide_as_the_terminal(
    verb: list[str], width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([*verb, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > width and " " in line.strip()[: width // 2]] == []
    commands = " ".join(lines).replace("\\ ", "")
    assert "headway" in commands


def test_a_command_that_is_folded_can_be_copied() -> None:
    line = "  headway train algorithm=linear data=digits launcher.workers=2"
    folded = pages.fitted(line, 50).splitlines()
    assert len(folded) == 2
    assert folded[0].endswith(" \\")
    assert shlex.split(pages.fitted(line, 50).replace("\\\n", "")) == shlex.split(line)


def test_tab_offers_jobs_and_those_of_sweeps(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "sweep/lr=0.1"):
        make_job(folder / "runs" / name)
    monkeypatch.setenv("COMP_LINE", "headway show ")
    assert main(["-sc", "query=bash", "show"]) == 0
    assert capsys.readouterr().out.split() == ["one", "sweep", "sweep/lr=0.1"]
