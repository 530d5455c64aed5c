from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jobs import end, make_job, start, validate
from tests.tuning.browser import Page, browser
from tests.tuning.reports.test_report import EVIL, NARROW
from tests.tuning.written import interrupt, written
from trainer.job.directory import Job, State
from trainer.job.view.seen import see
from trainer.tuning.reports.job_data import job_data
from trainer.tuning.reports.report import job_page, write_job_report


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """One that was interrupted twice, came to some steps again and ended."""
    job = make_job(tmp_path / "runs" / "mine")
    start(job)
    for step in (50, 100, 150, 100, 150, 200):
        validate(job, step, validation_loss=10.0 ** (-step / 50), validation_accuracy=0.9, lr=0.1)
    interrupt(job)
    start(job, attempt=2, step=150)
    end(job)
    return job


def test_a_job_is_told_with_its_command_code_and_machine(job: Job):
    (job.dir / "submission").mkdir()
    told = {
        "host": "node7",
        "python": "3.12.1",
        "command": "/opt/python /opt/bin/headway train algorithm=linear 'data.train=my file.csv'",
        "git": {"commit": "0123456789abcdef", "branch": "main", "dirty": False},
    }
    (job.dir / "submission" / "submission.json").write_text(json.dumps(told))
    rows = job_data(see(job, all_of_it=True))["study"]["about"]
    assert rows.pop("began")
    assert rows == {
        "trained": "linear on digits",
        "command": "headway train algorithm=linear 'data.train=my file.csv'",
        "code": "0123456789ab on main, unchanged",
        "machine": "node7",
        "versions": "Python 3.12.1",
        "folder": str(job.dir),
    }


def test_its_metrics_interruptions_events_and_config_are_told(job: Job):
    data = job_data(see(job, all_of_it=True))
    assert data["job"]["state"] == "Completed"
    assert [m["name"] for m in data["metrics"]] == ["validation_accuracy", "validation_loss", "lr"]
    assert [m["log"] for m in data["metrics"]] == [False, True, False]
    steps, losses, _ = data["trials"][0]["c"][1]
    assert (steps, losses) == ([50, 100, 150, 200], [0.1, 0.01, 0.001, 0.0001])
    assert data["job"]["metrics"][0] == ["validation_accuracy", "0.9500", "0.9750", 400]
    assert [row[:3] for row in data["job"]["interruptions"]] == [["spot", "150", "100"], ["spot", "150", "150"]]
    assert data["job"]["resumed"] == [100, 150]
    assert [state for _, _, state, _ in data["job"]["events"]][:3] == ["Pending", "Starting", "Running"]
    assert dict(map(tuple, dict(map(tuple, data["job"]["config"]))["algorithm"]))["algorithm.lr"] == "0.03"
    assert data["totals"]["interruptions"] == 2


def test_a_failure_and_what_is_damaged_are_told_first(job: Job):
    end(job, State.FAILED, {"type": "ValueError", "message": "the loss is a ghost", "rank": 0})
    job.events_path.write_bytes(b'\xff\xfe{"time": 1}\n' + job.events_path.read_bytes())
    notes = job_data(see(job, all_of_it=True))["study"]["notes"]
    assert notes[0].startswith("damaged: events.jsonl")
    assert any("the loss is a ghost" in note for note in notes)


def test_a_job_that_has_not_reported_yet_has_a_page(tmp_path: Path):
    data = job_data(see(make_job(tmp_path / "new"), all_of_it=True))
    assert (data["metrics"], data["trials"][0]["b"], data["job"]["steps"]) == ([], None, None)


def evil(tmp_path: Path) -> Job:
    job = make_job(tmp_path / "evil", train=json.dumps(EVIL))
    start(job)
    validate(job, 50, **{EVIL: 1.0, "validation_loss": float("nan"), "train_loss": float("inf")})
    job.add_event(State.INTERRUPTED, source=EVIL, step=50, reason=EVIL)
    return job


def test_whatever_a_job_holds_is_data_and_valid_json(tmp_path: Path):
    text = job_page(see(evil(tmp_path), all_of_it=True))
    assert text.count("<script") == text.count("</script>") == 2
    assert "<img" not in text
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    json.loads(found[1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("which", ["whole", "evil", "new", "trial"])
def test_it_opens_without_an_error_or_a_sideways_scroll(which: str, width: int, tab: Page, job: Job, tmp_path: Path):
    made: dict[str, Any] = {
        "whole": lambda: job,
        "evil": lambda: evil(tmp_path),
        "new": lambda: make_job(tmp_path / "new"),
        "trial": lambda: Job(written(tmp_path / "digits") / "trials" / "0004-0badcafe"),
    }
    path = write_job_report(see(made[which](), all_of_it=True))
    tab.open(path, width=width, dark=width == 360)
    assert tab.errors == []
    assert tab.requests == [path.as_uri()]
    assert tab.run("window.evil") is None
    found = tab.run("[...document.querySelectorAll('section')].map((s) => s.id)")
    assert found == ["summary", "metrics", "timeline", "config"]
    tab.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    tab.run("new Promise((done) => setTimeout(done, 50))")
    assert tab.run(NARROW) == [width, width, []]
    assert "undefined" not in tab.run("document.body.innerText")


@pytest.mark.slow
def test_the_arrow_keys_go_through_the_reports_and_tell_all_metrics(tab: Page, job: Job):
    tab.open(write_job_report(see(job, all_of_it=True)))
    tab.run("document.querySelector('#metrics svg').focus()")
    tab.press("ArrowRight")
    tab.press("ArrowRight")
    assert tab.run("document.querySelector('#tip b').innerText") == "Step 100"
    assert "validation_loss\n0.01" in tab.run("document.querySelector('#tip').innerText")
    assert tab.run("document.querySelectorAll('.spot.on').length") == 3
    assert tab.errors == []
