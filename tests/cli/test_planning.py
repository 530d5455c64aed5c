"""`headway plan`: what is asked, what is answered, and how it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from trainer.cli.command import main
from trainer.cli.planning import size_of, table

GPUS = ["algorithm=gpt", "data=text", "devices=8", "memory=80GB"]


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_a_plan_tells_every_strategy_and_the_one_auto_takes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = planned(capsys, "launcher.workers=2")
    names = [row["name"] for row in answer["strategies"]]
    assert names == ["single", "ddp", "fsdp", *(f"deepspeed {stage}" for stage in range(4))]
    assert (answer["parameters"], answer["devices"], answer["auto"]) == (650, 2, "ddp")
    assert answer["reason"].startswith("the whole model fits")
    assert not list(folder.iterdir()), "nothing is trained, nothing is written"


def test_seven_billion_weights_on_eight_devices_that_are_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    answer = planned(capsys, "algorithm=gpt_7b", *GPUS[1:], "algorithm.layers=8", "train.batch_size=8")
    rows = {row["name"]: row for row in answer["strategies"]}
    assert (answer["device"], answer["memory"], answer["precision"]) == ("GPU", 80 * 10**9, "bf16")
    assert rows["ddp"]["weights"] == 4 * answer["parameters"]
    assert rows["fsdp"]["weights"] * 8 == pytest.approx(4 * answer["parameters"], rel=0.01)
    assert rows["deepspeed 3 +cpu"]["host"] > 0


def test_a_plan_reads_as_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *GPUS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "model  gpt, 885.9 K parameters"
    assert lines[1] == "on     8 × GPU of 80 GB, bf16"
    assert lines[2].startswith("step   32 samples, 2,048 tokens, 11.")
    assert lines[4].split()[:3] == ["MB", "a", "device"]
    assert lines[-1].startswith("auto   ddp: the whole model fits each device")


def test_what_does_not_fit_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    answer = planned(capsys, *GPUS[:2], "devices=2", "memory=10MB")
    assert answer["auto"] == "fsdp"
    assert "neither fits" in answer["reason"]
    assert not any(row["fits"] for row in answer["strategies"])


@pytest.mark.slow
def test_the_largest_batch_that_fits_is_planned(capsys: pytest.CaptureFixture[str]) -> None:
    answer = planned(capsys, *GPUS[:2], "devices=2", "memory=200MB", "train.batch_size=auto")
    assert answer["samples"] > 32
    assert answer["reason"].startswith("the whole model fits")


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_a_terminal(width: int) -> None:
    row = dict.fromkeys(
        ("weights", "gradients", "optimizer", "activations", "gathered", "total", "host", "sent"), 999e9
    )
    rows = [{**row, "name": name, "fits": True, "problem": None} for name in ("deepspeed 3 +cpu", "fsdp")]
    console = Console(width=width, record=True)
    console.print(table({"auto": "fsdp", "strategies": rows}, 999 * 10**9, console))
    text = console.export_text()
    assert "…" not in text
    assert text.count("yes") == 2
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(
    ("text", "bytes_"), [("80GB", 80e9), ("24g", 24e9), ("1.5 TB", 1.5e12), ("16GiB", 16 * 2**30), ("512", 512)]
)
def test_an_amount_of_memory_is_read_as_it_is_written(text: str, bytes_: float) -> None:
    assert size_of(text) == bytes_


MISTAKES = {
    "no amount": (["memory=lots"], ["memory", "'lots'", "80GB"]),
    "no memory": (["memory=0GB"], ["memory", "'0GB'"]),
    "no number": (["devices=many"], ["devices", "'many'", "whole number"]),
    "no devices": (["devices=0"], ["devices", "'0'"]),
    "fits by itself": (["algorithm=xgboost"], ["XGBoost", "nothing to plan"]),
    "a loop": (["algorithm._target_=looping.main", "data=none"], ["looping.main fits by itself", "nothing to plan"]),
    "a loop's file": (["algorithm=./looping.py:main"], ["looping.main fits by itself", "nothing to plan"]),
    "a loop by its file alone": (["algorithm=./looping.py"], ["class or function", "algorithm=./looping.py:main"]),
    "unknown choice": (["algorithm=linaer"], ["did you mean 'linear'"]),
    "unknown key": (["device=8"], ["device"]),
    "no text there": (["algorithm=gpt", "data=text", "data.train=nowhere.txt"], ["nowhere.txt"]),
    "no path": (["data=csv", "data.label=price"], ["data.train"]),
    "out of range": (["train.batch_size=0"], ["train.batch_size", "more than 0"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(
    mistake: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, words = MISTAKES[mistake]
    (folder / "looping.py").write_text("def loss(x): ...\n\n\ndef main(context, lr: float = 0.1): ...\n")
    monkeypatch.syspath_prepend(str(folder))
    assert main(["plan", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.strip().splitlines()) == 1
    assert all(word in shown.err for word in words), shown.err


def test_the_page_tells_keys_columns_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--help"]) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 120
    for word in ("devices", "memory", "--json", "gathered", "host", "headway plan algorithm=gpt_7b"):
        assert word in page
