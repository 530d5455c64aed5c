"""A notebook gets a bar that is one line, with the lines of figures above it."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.jobs import end, make_job, progress, start, validate
from trainer.job.directory import State, Status
from trainer.job.view.notebook import WIDTH, OneLine, is_notebook
from trainer.job.view.terminal import follow


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object())))


def on_screen(text: str) -> list[str]:
    """The lines that are left to be seen, each written over from its beginning after a carriage return."""
    lines = []
    for line in text.split("\n"):
        seen = ""
        for part in line.split("\r"):
            seen = part + seen[len(part) :]
        lines.append(seen.rstrip())
    return lines


def test_a_line_stands_below_others_and_is_written_over() -> None:
    below = io.StringIO()
    line = OneLine(below)
    line.stand("a long bar")
    line.stand("short")
    assert on_screen(below.getvalue()) == ["short"]
    line.write("a figure\n")
    line.stand("shorter")
    assert on_screen(below.getvalue()) == ["a figure", "shorter"]
    line.stand("")
    assert on_screen(below.getvalue()) == ["a figure", ""]


def test_only_a_kernel_is_a_notebook(notebook: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_notebook()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not is_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not is_notebook()


def test_a_notebook_shows_a_bar_in_one_line(
    tmp_path: Path, notebook: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = make_job(tmp_path / "runs" / "first")
    happens = iter(
        [
            lambda: None,
            lambda: (start(job), progress(job, 100)),
            lambda: validate(job, 100, validation_loss=0.5),
            lambda: progress(job, 400),
            lambda: end(job),
        ]
    )

    def look() -> Status:
        next(happens)()
        return Status(State.RUNNING, True)

    assert follow(job, look) is State.COMPLETED
    out = capsys.readouterr().out
    assert "starting the workers" in out
    assert "step 400/500  ━" in out
    assert "\x1b" not in out
    lines = on_screen(out)
    assert lines[-2:] == ["step 100  epoch 2  validation_loss 0.5000 best", ""]
    assert max(map(len, lines)) <= WIDTH
