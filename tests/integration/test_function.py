"""A training loop of the user's own, made interruption-proof by a few lines: scripts/examples/plain_loop."""

from __future__ import annotations

import difflib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.command import environment
from trainer.job.directory import Job, State, read_json

EXAMPLE = Path(__file__).parents[2] / "scripts" / "examples" / "plain_loop"
LOOP = ["algorithm._target_=resumable.main", "data=none", "tracking=none", "checkpoint.every=5"]


@pytest.fixture
def slow(folder: Path) -> Path:
    """The working folder with the example in it, whose steps take long enough to interrupt them."""
    text = (EXAMPLE / "resumable.py").read_text(encoding="utf-8")
    slowed = text.replace("optimizer.step()", "optimizer.step(), time.sleep(0.02)").replace(
        "import torch", "import time\n\nimport torch", 1
    )
    assert slowed != text
    (folder / "resumable.py").write_text(slowed, encoding="utf-8")
    return folder


def headway(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment(), check=False)


def train(name: str, *more: str) -> Job:
    done = headway("train", *LOOP, f"job.name={name}", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    return Job(Path("runs", name).absolute())


def weights(job: Job) -> bytes:
    return (job.model / "model.safetensors").read_bytes()


def until_step(job: Job, step: int) -> None:
    end = time.monotonic() + 600
    while ((job.progress() or {}).get("step") or 0) < step:
        assert time.monotonic() < end, job.events()
        time.sleep(0.05)


def test_a_handful_of_changed_lines_make_a_plain_loop_interruption_proof() -> None:
    plain, resumable = (
        (EXAMPLE / name).read_text(encoding="utf-8").split('"""')[2].split("\ndef validate")[0].splitlines()
        for name in ("plain.py", "resumable.py")
    )
    added = [line for line in difflib.ndiff(plain, resumable) if line.startswith("+ ")]
    assert len(added) <= 8


def test_the_plain_loop_runs_without_headway() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE / "plain.py"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1].startswith("240 {'validation_loss'")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_or_killed_a_loop_ends_with_the_same_bits(slow: Path, workers: int) -> None:
    calm = weights(train("calm", f"launcher.workers={workers}"))
    command = [sys.executable, "-m", "trainer", "train", *LOOP, "job.name=shaken", f"launcher.workers={workers}"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
    job = Job(slow / "runs" / "shaken")
    until_step(job, 30)
    os.kill((read_json(job.logs / "node-0.json") or {})["workers"][0], signal.SIGKILL)
    while len([event for event in job.events() if event["state"] == State.RUNNING]) < 2:
        time.sleep(0.05)
        assert process.poll() is None
    until_step(job, 60)
    os.kill((read_json(job.logs / "node-0.json") or {})["agent"], signal.SIGTERM)
    assert process.wait(600) == 75
    shaken = train("shaken", f"launcher.workers={workers}")
    begun = [event["step"] for event in shaken.events() if event["state"] == State.RUNNING]
    assert len(begun) == 3
    assert begun[2] > begun[1] > 0
    assert weights(shaken) == calm
    assert [line["step"] for line in shaken.metrics()] == list(range(20, 241, 20))


@pytest.mark.slow
def test_a_loop_goes_on_with_another_number_of_workers_and_is_tuned(slow: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "trainer", "train", *LOOP, "job.name=grown"], env=environment())
    job = Job(slow / "runs" / "grown")
    until_step(job, 30)
    os.kill((read_json(job.logs / "node-0.json") or {})["agent"], signal.SIGTERM)
    assert process.wait(600) == 75
    assert train("grown", "launcher.workers=2").metrics()[-1]["samples"] == 15000
    tuned = headway("tune", *LOOP, "algorithm.lr=tag(log,interval(0.01,0.2))", "algorithm.epochs=1", "tune.trials=2")
    assert tuned.returncode == 0, tuned.stdout + tuned.stderr


def test_what_is_wrong_with_a_loops_arguments_is_said_before_it_starts(folder: Path) -> None:
    (folder / "loops.py").write_text("def main(context, *, lr: float, layers: int = 2): ...\ndef bare(): ...\n")
    cases = {
        "algorithm._target_=loops.main": "algorithm.lr: a value is needed",
        "algorithm._target_=loops.main algorithm.lr=0.1 algorithm.layers=two": "algorithm.layers: 'two'",
        "algorithm._target_=loops.main algorithm.lr=0.1 +algorithm.layer=2": "did you mean 'layers'",
        "algorithm._target_=loops.bare": "write def bare(context, …)",
        "algorithm=linear data=none": "data=none: linear learns from data",
    }
    for given, said in cases.items():
        done = headway("train", "data=none", *given.split())
        assert (done.returncode, said in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr
    assert not Path("runs").exists()


def test_what_a_loop_prepares_wrongly_is_said_in_one_line(folder: Path) -> None:
    (folder / "loops.py").write_text("def main(context): context.prepare(3)\ndef data(context): context.train\n")
    for name, said in (("main", "a int has no state_dict"), ("data", "data=none: there is none")):
        done = headway("train", f"algorithm._target_=loops.{name}", "data=none", f"job.name={name}")
        assert done.returncode == 2
        assert said in done.stdout + done.stderr


def test_a_loop_may_use_the_jobs_data_and_keep_what_a_library_made(folder: Path) -> None:
    (folder / "loops.py").write_text(
        "def main(context):\n"
        "    context.report(1, {'rows': context.train.rows, 'classes': context.schema.classes})\n"
        "    context.checkpoint(1, extra={'note': 'a'}, save=lambda f: (f / 'own.txt').write_text('mine'))\n"
        "    context.save_model(lambda folder: (folder / 'mine.txt').write_text('kept'))\n"
    )
    done = headway("train", "algorithm._target_=loops.main", "data=digits", "job.name=own", "checkpoint.every=1")
    assert done.returncode == 0, done.stdout + done.stderr
    job = Job(Path("runs/own").absolute())
    assert job.metrics()[0]["values"].items() >= {"rows": 1438.0, "classes": 10.0}.items()
    assert (job.model / "mine.txt").read_text() == "kept"
    assert [path.read_text() for path in job.checkpoints.glob("*/estimator/own/own.txt")] == ["mine"]
