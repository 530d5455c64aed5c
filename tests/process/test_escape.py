"""What jobs call their metrics, files and reasons obeys no terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs import end, make_job, progress, start, validate
from tests.tuning.written import written
from trainer.cli.command import main
from trainer.job.directory import State
from trainer.process.escape import coloured, shown, visible

BAD = "a\x1b[31mb\rc\bd\u202ee\nf[red]g"
SEEN = r"a\x1b[31mb\rc\x08d\u202ee\nf[red]g"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (BAD, SEEN),
        ("plain é 中 👩‍👩‍👧", "plain é 中 👩‍👩‍👧"),
        ("\x9b2J\x7f\x00", r"\x9b2J\x7f\x00"),
        ("\u2066x\u2069\u200f\ufeff\u2028", r"\u2066x\u2069\u200f\ufeff\u2028"),
        ("\udcff", r"\udcff"),
        ("a\tb", r"a\tb"),
    ],
)
def test_what_a_terminal_would_obey_is_an_escape(text: str, seen: str) -> None:
    assert visible(text) == seen
    assert shown({text: [text, (text, 1)]}) == {seen: [seen, (seen, 1)]}


def test_lines_may_stay_lines() -> None:
    assert visible("a\nb\r", lines=True) == "a\nb\\r"


def test_of_a_log_a_terminal_is_given_the_colours() -> None:
    assert coloured("\x1b[31mred\x1b[0m \x1b]0;title\x07") == "\x1b[31mred\x1b[0m \\x1b]0;title\\x07\x1b[0m"
    assert coloured(" 10 %\r 20 %\r 30 %") == " 30 %"
    assert coloured("a\tb\u202e") == "a    b\\u202e"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_every_verb_shows_names_and_reasons_as_escapes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = make_job(runs / "one\x1b[2J", data=f"Digits\n  x: {json.dumps(BAD)}")
    job.config_path.write_text(job.config_path.read_text().replace("\x1b", ""))
    start(job, strategy_reason=BAD)
    validate(job, 10, **{f"validation_{BAD}": 1.0, BAD: 2.0})
    progress(job, 10)
    error = {"type": BAD, "message": BAD, "rank": 0, "where": BAD, "log": BAD}
    job.add_event(State.INTERRUPTED, attempt=0, step=10, reason=BAD)
    end(
        job,
        State.FAILED,
        error=error,
        notes=[BAD],
        metrics={BAD: {k: {"value": 1.0, "step": 1} for k in ("last", "best")}},
    )
    (job.dir / "events.out.tfevents.1.host.2").touch()
    for verb in (["ls"], ["show", "one\x1b[2J"], ["stop", "one\x1b[2J"], ["show", "two\x1b[2J"], [BAD]):
        main(verb)
        told = capsys.readouterr()
        text = told.out + told.err
        assert r"\x1b" in text, verb
        assert not [c for c in text if c != "\n" and visible(c) != c], verb
        assert "\nf[red]g" not in text
    main(["show", "one\x1b[2J"])
    assert SEEN in capsys.readouterr().out
    main(["ls", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["name"] == "one\x1b[2J"
    main(["show", "one\x1b[2J", "--json"])
    assert BAD in json.loads(capsys.readouterr().out)["metrics"]


def test_a_study_shows_names_and_reasons_as_escapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "s")
    text = (tmp_path / "s/study.yaml").read_text()
    (tmp_path / "s/study.yaml").write_text(text + f"notes: [{json.dumps(BAD)}, '<script>mark()</script>']\n")
    assert main(["tune", "show", str(tmp_path / "s")]) == 0
    told = capsys.readouterr().out
    assert SEEN in told
    assert not [c for c in told if c != "\n" and visible(c) != c]
    assert main(["tune", "report", str(tmp_path / "s")]) == 0
    page = (tmp_path / "s/report.html").read_text()
    assert "<script>mark()" not in page
    assert "\u202e" not in page
    assert "\\u202e" not in page.replace("\\\\u202e", "")


def test_logs_go_into_a_pipe_as_they_are_and_to_a_terminal_without_orders(runs: Path) -> None:
    job = make_job(runs / "one")
    start(job)
    end(job)
    (job.logs / "attempt-0-rank-0.log").write_bytes(b"\x1b[32mgreen\x1b[0m \x1b]0;title\x07\n")
    command = [sys.executable, "-m", "trainer", "logs", "one"]
    assert (
        subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout == b"\x1b[32mgreen\x1b[0m \x1b]0;title\x07\n"
    )
    leader, follower = pty.openpty()
    subprocess.run(command, stdout=follower, check=True)
    os.close(follower)
    assert os.read(leader, 1000).strip() == b"\x1b[32mgreen\x1b[0m \\x1b]0;title\\x07\x1b[0m"
    os.close(leader)
