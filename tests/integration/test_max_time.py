"""`train.max_time` ends what has no trained model to show before its end, a script or a loop, as stopped: not as done."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

import trainer
from tests.integration import test_sagemaker as container
from tests.integration.command import headway
from trainer.errors import UserError
from trainer.job import node_state
from trainer.job.directory import MAX_RUNTIME, Job, State

pytestmark = pytest.mark.slow

LOSS = '+algorithm.metrics.loss="loss=([0-9.]+)"'
SCRIPT = ["algorithm=script", "algorithm.source_dir=src"]
# its model is there from the first step on, and it ends well when it is asked to leave
TRAINS = """\
import os, signal, sys, time
def leave(*_):
    open(os.environ["SM_MODEL_DIR"] + "/last", "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
kept = os.path.join("/opt/ml/checkpoints", os.environ["SM_CURRENT_HOST"])
done = int(open(kept).read()) if os.path.exists(kept) else 0
open(os.environ["SM_MODEL_DIR"] + "/model", "w").close()
for step in range(done + 1, 31):
    print(f"loss={1 / step:.3f}", flush=True)
    open(kept, "w").write(str(step))
    time.sleep(0.1)
print("end")
"""
LOOP = """\
import time
def main(context):
    step = context.resume().step
    while step < 40:
        step += 1
        context.report(step, {"loss": 1.0 / step})
        context.checkpoint(step)
        if context.should_stop():
            return
        time.sleep(0.05)
    context.save_model(lambda folder: (folder / "steps").write_text(str(step)))
"""


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def stopped(job: Job) -> dict[str, object]:
    """Its result: nothing that uses models takes it for done."""
    event, result = job.last_event(), job.result() or {}
    assert (event["state"], event["source"], result["status"], result["model"]) == (
        "Stopped",
        MAX_RUNTIME,
        "Stopped",
        None,
    )
    assert str(event["reason"]).startswith(f"{MAX_RUNTIME}: train.max_time=")
    assert not job.model.exists()
    with pytest.raises(UserError, match="there is no model here"):
        trainer.load(job.model)
    return result


def test_a_script_on_two_hosts_is_stopped_with_what_it_has_and_goes_on_with_more_time(folder: Path) -> None:
    write(folder, "src/train.py", TRAINS)
    lacking = '+algorithm.metrics.acc="acc=([0-9.]+)"'
    where = ["launcher.nodes=2", "launcher.workers=1", "job.name=one"]
    command = ["train", *SCRIPT, LOSS, lacking, *where, "train.max_time=1.5s"]
    done = headway(*command)
    assert done.returncode == 130, done.stdout + done.stderr
    assert "MaxRuntimeExceeded: train.max_time=1.5s is over" in done.stdout
    assert "next   headway resume runs/one train.max_time=TIME" in done.stdout
    assert "no line of the log has so far told a figure of acc" in " ".join(done.stdout.split())
    job = Job(folder / "runs/one")
    stopped(job)
    assert 2 < len(job.metrics()) < 30
    with tarfile.open(job.dir / "output/model.tar.gz") as archive:  # as SageMaker keeps it
        assert sorted(archive.getnames()) == ["last", "model"]
    attempts = len(job.events())
    for again in (command, ["resume", "one"]):
        refused = headway(*again)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "one has used up train.max_time=1.5s; `headway resume one train.max_time=TIME`" in refused.stderr
    assert len(job.events()) == attempts
    done = headway("resume", "one", "train.max_time=1h")
    assert done.returncode == 0, done.stdout + done.stderr
    assert job.state() is State.COMPLETED
    assert len(job.metrics()) == 30
    assert (job.model / "model").exists()


def test_setting_up_counts_and_is_ended(folder: Path) -> None:
    write(folder, "src/train.py", "print('trained')\n")
    write(folder, "src/requirements.txt", "./slow\n")
    write(
        folder, "src/slow/pyproject.toml", "[build-system]\nrequires = []\nbuild-backend = 'b'\nbackend-path = ['.']\n"
    )
    hook = "def get_requires_for_build_wheel(settings=None):\n    import os, time\n"
    hook += f"    open({str(folder / 'pid')!r}, 'w').write(str(os.getpid()))\n    time.sleep(600)\n"
    write(folder, "src/slow/b.py", hook)
    done = headway("train", *SCRIPT, "train.max_time=4s", "job.name=one")
    assert done.returncode == 130, done.stdout + done.stderr
    job = Job(folder / "runs/one")
    stopped(job)
    assert "trained" not in job.log_path(0, 0).read_text()
    assert not node_state.process_lives(int((folder / "pid").read_text()))


def test_a_loop_is_stopped_with_its_state_saved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "loop.py", LOOP)
    monkeypatch.syspath_prepend(str(folder))
    settings = ["algorithm._target_=loop.main", "data=none", "tracking=none", "job.name=one"]
    result = trainer.train([*settings, "train.max_time=0.5s"])
    assert (result.status, result.model) == ("Stopped", None)
    job = Job(folder / "runs/one")
    stopped(job)
    assert [path.name for path in job.checkpoints.iterdir()] == [f"step-{result.steps:08}"]
    result = trainer.train([*settings, "train.max_time=1m"])
    assert result.status == "Completed"
    assert (job.model / "steps").read_text() == "40"
    assert [line["step"] for line in job.metrics()] == list(range(1, 41))


@pytest.mark.parametrize("how", [[], ["hydra/launcher=headway"]])
def test_a_sweep_goes_on_to_its_other_jobs_and_is_not_done(folder: Path, how: list[str]) -> None:
    write(folder, "loop.py", LOOP.replace("def main(context)", "def main(context, long: int)").replace("40", "long"))
    settings = ["algorithm._target_=loop.main", "data=none", "tracking=none", "train.max_time=1s"]
    done = headway("train", "-m", *settings, "+algorithm.long=400,2", *how)
    assert done.returncode == 130, done.stdout + done.stderr
    states = sorted(Job(path.parent).state().value for path in folder.rglob("events.jsonl"))
    assert states == ["Completed", "Stopped"]


def test_a_container_of_sagemakers_fails_and_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = container.lay_out(folder / "ml")
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
    write(folder, "src/train.py", TRAINS)
    source = {"algorithm.source_dir": str(folder / "src"), "train.max_time": "0.5s"}
    container.configure(base, algorithm="script", **source)
    code, output = container.ended(container.start())
    assert code not in (0, 75), output
    assert (base / "output/failure").read_text() == "MaxRuntimeExceeded: train.max_time=0.5s is over"
    assert not (base / "model").exists() or not os.listdir(base / "model")
