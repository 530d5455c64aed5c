from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from launchers.slurm.launcher import Slurm, gpus_of, limit
from launchers.slurm.queue import Record
from launchers.slurm.script import array_script
from launchers.slurm.states import status_of
from trainer.errors import UserError
from trainer.job.directory import Job, State, Status

GOLDEN = Path(__file__).parents[2] / "golden" / "job.sbatch"


def test_the_script_is_the_one_that_was_agreed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/home/me/code")
    monkeypatch.setattr("os.getcwd", lambda: "/home/me")
    launcher = Slurm(
        nodes=2, workers=4, min_nodes=1, partition="gpu", account="lab", qos="long", time="4h", gpus="a100:4", cpus=32,
        mem="200G", constraint="ib", reservation="mine", exclusive=True, extra={"nice": 100, "comment": "a try"},
        srun={"container-image": "/images/torch.sqsh"}, setup=["module load cuda", "export A=b"], python="/env/bin/python",
    )  # fmt: skip
    [text] = launcher.plan(Job(Path("/shared/runs/writer"))).files.values()
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_an_array_runs_the_scripts_of_its_jobs_so_many_at_a_time() -> None:
    plans = [Slurm(partition="gpu", array=True).plan(Job(Path(f"/shared/sweep/seed={n}"))) for n in (1, 2, 3)]
    text = array_script("sweep", [item for plan in plans for item in plan.files.items()], 2)
    assert "#SBATCH --array=0-2%2\n" in text
    assert "#SBATCH --partition=gpu\n" in text
    assert "#SBATCH --job-name=sweep\n" in text
    assert [line.strip() for line in text.splitlines() if line.endswith("job.sbatch")] == [
        f"/shared/sweep/seed={n}/job.sbatch" for n in (1, 2, 3)
    ]


def test_jobs_become_an_array_if_that_is_asked_for_and_they_ask_for_the_same() -> None:
    def pairs(*launchers: Slurm) -> list[Any]:
        jobs = [Job(Path(f"/shared/sweep/{n}")) for n in range(len(launchers))]
        return [(job, launcher.plan(job)) for job, launcher in zip(jobs, launchers, strict=True)]

    array = Slurm(array=True)
    assert array.takes_many(pairs(array, array))
    assert not Slurm().takes_many(pairs(Slurm(), Slurm()))
    assert not array.takes_many(pairs(array))
    assert not array.takes_many(pairs(array, Slurm(array=True, nodes=2)))


@pytest.mark.parametrize(
    ("given", "told"),
    [("4h", "0-04:00:00"), ("90m", "0-01:30:00"), ("2d", "2-00:00:00"), ("10s", "0-00:01:00"), ("1-12:00:00", "1-12:00:00"), (None, None)],
)  # fmt: skip
def test_time_limits_are_told_as_slurm_has_them(given: Any, told: str | None) -> None:
    assert limit(given) == told


@pytest.mark.parametrize("given", [60, "60", "soon"])
def test_a_time_limit_that_could_mean_two_things_or_nothing_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match=r"launcher\.time"):
        limit(given)


@pytest.mark.parametrize(
    ("gpus", "gres", "count"),
    [(4, None, 4), ("a100:2", None, 2), (None, "gpu:a100:8,nvme:1", 8), (None, "gpu", 1), (None, None, 0), (None, "nvme:1", 0)],
)  # fmt: skip
def test_gpus_are_counted_whatever_option_asks_for_them(gpus: Any, gres: str | None, count: int) -> None:
    assert gpus_of(gpus, gres) == count
    assert Slurm(nodes=3, gpus=gpus, gres=gres).world_size() == 3 * (count or 1)


@pytest.mark.parametrize(
    ("record", "told", "status"),
    [
        (Record("PENDING", "Priority"), State.PENDING, Status(State.PENDING, True, "in SLURM's queue: Priority, others come first")),
        (Record("PENDING", "(None)"), State.PENDING, Status(State.PENDING, True)),
        (Record("PENDING", "BeginTime"), State.INTERRUPTED, Status(State.PENDING, True, "in SLURM's queue: BeginTime, a moment, as it was queued again")),
        (Record("RUNNING", "None", "n1"), State.PENDING, Status(State.STARTING, True)),
        (Record("CONFIGURING", "None", "n1"), State.PENDING, Status(State.STARTING, True, "configuring on n1")),
        (Record("RUNNING"), State.RUNNING, Status(State.RUNNING, True)),
        (Record("SUSPENDED"), State.RUNNING, Status(State.RUNNING, True, "suspended in SLURM")),
        (Record("COMPLETING"), State.INTERRUPTED, Status(State.INTERRUPTED, True)),
        (Record("CANCELLED"), State.INTERRUPTED, Status(State.STOPPED, False, "cancelled in SLURM")),
        (Record("FAILED"), State.PENDING, Status(State.FAILED, False, "its agents did not start; `headway logs` tells why")),
        (Record("FAILED"), State.RUNNING, Status(State.INTERRUPTED, False, "its agents died")),
        (Record("COMPLETED"), State.INTERRUPTED, Status(State.INTERRUPTED, False)),
        (None, State.RUNNING, Status(State.INTERRUPTED, False, "SLURM knows nothing of it any more")),
    ],
)  # fmt: skip
def test_what_slurm_says_of_a_job_is_told_apart(record: Record | None, told: State, status: Status) -> None:
    assert status_of(record, told) == status


@pytest.mark.parametrize(
    ("word", "again", "state"),
    [("PENDING", False, State.PENDING), ("RUNNING", False, State.INTERRUPTED), ("RUNNING", True, State.STARTING)],
)
def test_a_job_that_was_interrupted_is_where_its_batch_job_is(word: str, again: bool, state: State) -> None:
    """In the queue, in its last moment before that, or at work again."""
    assert status_of(Record(word), State.INTERRUPTED, again=again) == Status(state, True)


@pytest.mark.parametrize(
    ("word", "state", "words"),
    [
        ("OUT_OF_MEMORY", State.FAILED, "raise launcher.mem"),
        ("TIMEOUT", State.INTERRUPTED, "raise launcher.warning"),
        ("PREEMPTED", State.INTERRUPTED, "preempted"),
        ("NODE_FAIL", State.INTERRUPTED, "a node failed"),
    ],
)
def test_ends_that_no_agent_could_tell_of(word: str, state: State, words: str) -> None:
    status = status_of(Record(word), State.RUNNING)
    assert (status.state, status.alive) == (state, False)
    assert words in status.reason


def test_a_copy_of_a_job_is_not_in_the_queue(tmp_path: Path) -> None:
    """Neither is the other's batch job told as its own, nor stopped for it."""
    job, copy, link = Job(tmp_path / "job"), Job(tmp_path / "copy"), Job(tmp_path / "link")
    job.dir.mkdir()
    Slurm()._keep(job, "7", 0.0)
    shutil.copytree(job.dir, copy.dir)
    link.dir.symlink_to(job.dir)
    assert [Slurm()._known(each)["id"] for each in (job, copy, link)] == ["7", None, "7"]
    moved = Job(tmp_path / "moved")
    shutil.move(job.dir, moved.dir)
    assert Slurm()._known(moved)["id"] == "7"
