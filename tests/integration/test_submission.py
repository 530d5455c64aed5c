"""What was submitted runs, whatever has become of the place it came from; and a correction counts when a job goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.command import headway, start
from tests.integration.studies import own_temporary_folder
from tests.projects import MINE, edit, project
from trainer.job.directory import Job, State

pytestmark = pytest.mark.slow

COMMON = ["train", MINE, "data=digits", "train.epochs=4", "checkpoint.every=10", "tracking=none"]


def weights(job: Job) -> bytes:
    assert job.state() is State.COMPLETED, job.events()
    return (job.model / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What an undisturbed job of the project learns."""
    root = tmp_path_factory.mktemp("whole")
    tree = project(root / "proj")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tree)
        done = headway(*COMMON, f"job.dir={root}/job")
    assert done.returncode == 0, done.stderr
    return weights(Job(root / "job"))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, in which a person works."""
    made = project(tmp_path / "proj")
    monkeypatch.chdir(made)
    return made


def stopped(*more: str) -> Job:
    """A job that was stopped by hand on its way."""
    process = start(*COMMON, "job.name=one", *more)
    job = Job(Path("runs/one").absolute())
    end = time.monotonic() + 600
    while ((job.progress() or {}).get("step") or 0) < 25:
        assert time.monotonic() < end, job.events()
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    assert headway("stop", "one").returncode == 0
    process.communicate(timeout=600)
    assert job.state() is State.STOPPED
    return job


def test_started_by_hand_a_job_runs_what_was_submitted_though_its_source_has_changed(tree: Path, whole: bytes) -> None:
    job = stopped()
    edit(tree / "layers.py", "SCALE = 1.0", "SCALE = 3.0")
    edit(tree / "mine.py", "import layers", "raise RuntimeError('half written')")
    agent = [sys.executable, "-m", "launchers.agent", str(job.dir), "--workers", "1"]
    done = subprocess.run(agent, timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert weights(job) == whole


def test_gone_on_with_on_another_day_a_job_runs_what_was_submitted_though_its_source_is_gone(
    tree: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = stopped()
    shutil.move(job.dir, tmp_path / "kept")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shutil.rmtree(tree)
    done = headway("resume", str(tmp_path / "kept"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert weights(Job(tmp_path / "kept")) == whole
    predicted = headway("predict", f"model={tmp_path}/kept/model", "model.trust_code=true", "data=digits")
    assert predicted.returncode == 0, predicted.stderr
    assert "prediction" in predicted.stdout


def test_a_correction_runs_when_the_job_goes_on(tree: Path) -> None:
    edit(tree / "layers.py", "return x", "return no_such_name")
    failed = headway(*COMMON, "job.name=one")
    assert failed.returncode == 1
    assert "no_such_name" in failed.stdout + failed.stderr
    edit(tree / "layers.py", "no_such_name", "x")
    done = headway("resume", "one")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "code that has changed since: layers.py" in done.stdout
    assert Job(Path("runs/one")).state() is State.COMPLETED


def test_workers_that_start_again_run_what_was_submitted(tree: Path, whole: bytes) -> None:
    process = start(*COMMON, "job.name=one")
    job = Job(Path("runs/one").absolute())
    end = time.monotonic() + 600
    while ((job.progress() or {}).get("step") or 0) < 25:
        assert time.monotonic() < end, job.events()
        time.sleep(0.02)
    edit(tree / "layers.py", "SCALE = 1.0", "SCALE = 3.0")
    os.kill(min(job.workers()), 9)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert weights(job) == whole
    assert (job.result() or {})["attempts"] == 2


def test_a_study_takes_the_code_once_and_each_of_two_its_own(tree: Path) -> None:
    with own_temporary_folder():
        scales = {}
        for name, scale in (("first", "0.0"), ("second", "1.0")):
            edit(tree / "layers.py", f"SCALE = {'1.0' if scale == '0.0' else '0.0'}", f"SCALE = {scale}")
            tune = [
                "tune",
                *COMMON[1:],
                "algorithm.lr=0.1,0.01",
                "search=grid",
                "train.max_steps=20",
                "train.log_every=10",
            ]
            done = headway(*tune, f"study.name={name}")
            assert done.returncode == 0, done.stdout + done.stderr
            study = Path("studies", name)
            assert f"SCALE = {scale}" in (study / "code/proj/layers.py").read_text()
            trials = list((study / "trials").iterdir())
            assert len(trials) == 2
            assert not any((trial / "code").exists() for trial in trials)
            assert (study / "submission/requirements.lock").exists()
            scales[name] = {line["values"].get("train_loss") for trial in trials for line in Job(trial).metrics()}
    assert scales["first"] - {None} == {0.0}
    assert 0.0 not in scales["second"]


def test_a_job_of_a_sweep_that_starts_late_runs_what_was_submitted(tree: Path) -> None:
    sweep = ["train", "-m", "hydra/launcher=headway", "hydra.launcher.parallel=1", *COMMON[1:], "train.log_every=10"]
    process = start(*sweep, "algorithm.lr=0.1,0.01", "job.name=two")
    first, second = (Job(Path("runs/two", name).absolute()) for name in ("lr=0.1", "lr=0.01"))
    end = time.monotonic() + 600
    while ((first.progress() or {}).get("step") or 0) < 10:
        assert time.monotonic() < end, first.events()
        time.sleep(0.02)
    assert not second.exists()
    edit(tree / "layers.py", "SCALE = 1.0", "SCALE = 0.0")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    losses = {line["values"].get("train_loss") for line in second.metrics()} - {None}
    assert losses
    assert 0.0 not in losses
    assert (second.dir / "submission/requirements.lock").exists()


def test_two_jobs_in_one_warm_agent_have_each_its_own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same module names, other modules."""
    from launchers.local import Local
    from trainer.config import schema
    from trainer.config.compose import compose
    from trainer.submission import bundle
    from trainer.submission.submit import write

    losses, agents = [], set()
    for number, scale in enumerate(("0.0", "1.0")):
        made = project(tmp_path / f"{number}" / "proj")
        edit(made / "layers.py", "SCALE = 1.0", f"SCALE = {scale}")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [*sys.path, str(made)])
            config = schema.check(compose([*COMMON[1:], "train.max_steps=20", "train.log_every=10"]))
            job = write(Job(tmp_path / f"job-{number}"), config, is_new=True)
            bundle.take(job.dir, [config])
        launcher = Local()
        launcher.keep_warm()
        launcher.submit(job, launcher.plan(job))
        launcher.wait(job, timeout=120)
        assert job.state() is State.COMPLETED, job.events()
        losses.append({line["values"].get("train_loss") for line in job.metrics()} - {None})
        agents.add(json.loads((job.logs / "node-0.json").read_text())["agent"])
    assert len(agents) == 1
    assert losses[0] == {0.0}
    assert 0.0 not in losses[1]


def test_folders_of_a_project_hide_none_of_ours(tmp_path: Path) -> None:
    """It may well have a package `trainer`, or a `statistics.py`."""
    folder = project(tmp_path / "mine")
    for package in ("trainer", "launchers", "algorithms", "conf"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    (folder / "statistics.py").write_text("raise RuntimeError('the wrong one')\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("headway"), *COMMON, "launcher.workers=2"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
