"""Jobs on a real SLURM of four nodes on this machine, without slurmdbd."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command import FAULTY, headway, start, trained, until
from tests.integration.slurms import lose, nodes_of, number_of, run
from trainer.job.directory import Job, State

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ON = "launcher=slurm"
# 90 steps, each of so many seconds
SLOW = [FAULTY, "data=digits", "train.epochs=2", "checkpoint.every=10", "tracking=none", "+algorithm.seconds=0.08"]


@pytest.fixture(autouse=True)
def _on_slurm(slurm: Path, folder: Path) -> Iterator[None]:
    yield
    run("scancel", "--user=root")


def submitted(name: str, *overrides: str) -> Job:
    done = headway("train", ON, *overrides, f"job.name={name}", "job.detach=true")
    assert done.returncode == 0, done.stderr
    assert f"headway logs -f {name}" in done.stdout
    return Job(Path("runs", name).absolute())


def reaches(job: Job, step: int) -> None:
    until(lambda: ((job.progress() or {}).get("step") or 0) >= step, job)


def ends(job: Job) -> State:
    until(lambda: job.state().is_final, job)
    return job.state()


def weights(job: Job) -> bytes:
    return (job.model / "model.safetensors").read_bytes()


def trained_here(name: str, *overrides: str) -> Job:
    return trained(Path("runs", name).absolute(), *overrides)


def interruptions(job: Job) -> list[str]:
    return [str(event["source"]) for event in job.events() if event["state"] == State.INTERRUPTED]


def worlds(job: Job) -> list[int]:
    return [event["world_size"] for event in job.events() if event["state"] == State.RUNNING]


def test_two_nodes_train_what_two_nodes_here_train_and_the_directory_says_the_same() -> None:
    options = ["algorithm=linear", "data=digits", "train.epochs=2", "launcher.nodes=2", "launcher.workers=2"]
    done = headway("train", ON, *options, "job.name=there")
    assert done.returncode == 0, done.stderr
    assert "slurm, 2 workers on each of 2 nodes" in done.stdout
    assert "Completed  there" in done.stdout
    there, here = Job(Path("runs/there").absolute()), trained_here("here", *options)
    assert weights(there) == weights(here)
    assert [e["state"] for e in there.events()] == [e["state"] for e in here.events()]
    held = {job.name: {p.name for p in job.dir.iterdir() if p not in job.event_files} for job in (there, here)}
    assert held["there"] - held["here"] == {"job.sbatch", "slurm.json"}
    for job in (there, here):
        assert headway("show", job.name).stdout.splitlines()[0] == f"{job.name}  Completed"


@pytest.mark.promise
def test_a_job_that_others_take_the_nodes_of_goes_on_by_itself_to_the_same_end() -> None:
    options = [*SLOW, "launcher.nodes=2", "+launcher.extra.comment=tried"]
    job = submitted("low", *options, "launcher.partition=low")
    reaches(job, 20)
    number = number_of(job)
    run("sbatch", "--partition=high", "--nodes=4", "--exclusive", "--time=1", "--output=/dev/null", "--wrap=sleep 4")
    until(lambda: interruptions(job), job)
    until(lambda: "BeginTime" in headway("show", "low").stdout, job)
    assert ends(job) is State.COMPLETED
    assert interruptions(job) == ["preempted"]
    assert number_of(job) == number
    result = job.result() or {}
    assert result["interruptions"][0]["steps_lost"] == 0
    assert weights(job) == weights(trained_here("calm", *options[:-1]))


def test_what_an_administrator_does_with_a_job_is_told_and_it_goes_on_to_the_same_end(slurm: Path) -> None:
    """It is held and let go, the slurmd of its node is killed and started again, the node drained, the job queued again by hand."""
    job = submitted("handled", *SLOW, "+launcher.extra.hold=true")
    until(lambda: "held by hand" in headway("show", "handled").stdout, job)
    run("scontrol", "release", number_of(job))
    reaches(job, 10)
    [node] = nodes_of(job)
    os.kill(int((slurm / f"run/slurmd-{node}.pid").read_text()), signal.SIGKILL)
    run("slurmd", "-N", node)
    run("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    try:
        reaches(job, 20)  # it is at work there all the same
        run("scontrol", "requeue", number_of(job))
        assert ends(job) is State.COMPLETED
    finally:
        run("scontrol", "update", f"nodename={node}", "state=resume")
    result = job.result() or {}
    assert [line["steps_lost"] for line in result["interruptions"]] == [0]
    assert weights(job) == weights(trained_here("calm", *SLOW))


def test_a_job_longer_than_its_time_limit_is_one_job() -> None:
    # some 30 s, and the warning comes after 20
    job = submitted("long", *SLOW, "+algorithm.rank=0", "train.epochs=8", "launcher.time=1m", "launcher.warning=40s")
    reaches(job, 5)
    number = number_of(job)
    assert ends(job) is State.COMPLETED
    assert set(interruptions(job)) == {"time limit"}
    assert number_of(job) == number
    assert run("squeue", "--noheader", "--states=all", f"--jobs={number}", "--format=%i").split() == [number]
    assert all(line["steps_lost"] == 0 for line in (job.result() or {})["interruptions"])


def test_a_node_that_dies_is_replaced(slurm: Path) -> None:
    job = submitted("lost", *SLOW, "launcher.nodes=2")
    reaches(job, 20)
    gone = nodes_of(job)[1]
    lose(slurm, gone)
    run("scontrol", "update", f"nodename={gone}", "state=down", "reason=lost")  # SLURM sees it too, after half a minute
    try:
        assert ends(job) is State.COMPLETED
    finally:
        run("slurmd", "-N", gone)
    assert set(interruptions(job)) <= {"lost node", "signal"}  # whoever is first: its own agents, or SLURM
    assert worlds(job) == [2, 2]


@pytest.mark.parametrize("preempted", [False, True], ids=["to its end", "queued again"])
def test_a_job_outlives_the_node_with_its_batch_script(slurm: Path, preempted: bool) -> None:
    job = submitted("outlives", *SLOW, "launcher.nodes=2", "launcher.min_nodes=1")
    reaches(job, 20)
    gone, number = nodes_of(job)[0], number_of(job)
    lose(slurm, gone)
    try:
        until(lambda: worlds(job) == [2, 1], job)
        if preempted:
            reaches(job, (job.last_event()["step"] or 0) + 5)
            run("scancel", "--signal=USR1", number)
            until(lambda: interruptions(job)[1:] == ["preempted"], job)
            run("scontrol", "update", f"nodename={gone}", "state=down", "reason=lost")  # as SLURM finds in time
        assert ends(job) is State.COMPLETED
        until(lambda: run("squeue", "--noheader", "--states=running,pending", f"--jobs={number}") == "", job)
    finally:
        run("slurmd", "-N", gone)
    assert number_of(job) == number
    assert worlds(job) == ([2, 1, 2] if preempted else [2, 1])
    assert all(line["steps_lost"] == 0 for line in (job.result() or {})["interruptions"][1:])


def test_cancelled_by_scancel_it_is_stopped_with_its_state_and_goes_on_when_asked() -> None:
    follower = start("train", ON, *SLOW, "job.name=cancelled")
    job = Job(Path("runs/cancelled").absolute())
    reaches(job, 20)
    run("scancel", number_of(job))
    said, _ = follower.communicate(timeout=600)
    assert follower.returncode == 130, said
    assert "cancelled in SLURM" in headway("show", "cancelled").stdout
    done = headway("resume", "cancelled")
    assert done.returncode == 0, done.stderr
    assert (job.result() or {})["interruptions"][0]["steps_lost"] == 0


def test_the_script_in_the_directory_starts_it_by_hand() -> None:
    job = submitted("by_hand", *SLOW)
    reaches(job, 10)
    headway("stop", "by_hand")
    number = run("sbatch", "--parsable", str(job.dir / "job.sbatch"))
    until(lambda: number_of(job) == number, job)
    until(lambda: job.state() is State.COMPLETED, job)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["launcher.partition=lo"], "invalid partition specified: lo; launcher.partition: did you mean 'low'?"),
        (["launcher.time=90"], "launcher.time: 90 has no unit; write 90m for minutes"),
        (["launcher.gpus=2", "launcher.workers=4"], "launcher.workers: 4 workers need as many GPUs"),
        (["launcher.setup=[exit 3]"], ""),
    ],
)
def test_what_is_refused_is_told_in_a_line(overrides: list[str], words: str) -> None:
    done = headway("train", ON, "algorithm=linear", "data=digits", "job.name=refused", *overrides)
    if words:
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert words in done.stderr
    else:  # found out only there
        assert done.returncode == 1
        assert "its agents did not start" in done.stderr


def test_whatever_stands_in_a_name_a_path_or_an_option_reaches_slurm_as_it_was_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = folder / """it's %j #1 $HOME "é\""""
    here.mkdir()
    monkeypatch.chdir(here)
    words = """say "hi", it's #1 of 100% $USER é"""
    given = [
        "+launcher.extra.comment='{}'".format(words.replace("'", "\\'")),
        """launcher.setup=["export GREETING='a  $HOME #x'", 'echo "$GREETING"']""",
    ]
    options = [
        "algorithm=linear",
        "data=digits",
        "train.epochs=1",
        "tracking=none",
        "seed=1,2",
        'job.name="a %x #b"',
        *given,
    ]
    done = headway("train", "-m", ON, "launcher.array=true", *options, "hydra/launcher=headway")
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = [Job(folder) for folder in sorted((here / "runs/a %x #b").iterdir()) if folder.is_dir()]
    number = number_of(jobs[0]).partition("_")[0]
    told = run("squeue", "--noheader", "--states=all", f"--jobs={number}", "--format=%j|%k|%Z").splitlines()
    assert set(told) == {f"a %x #b|{words}|{here}"}
    for job in jobs:
        assert [log.read_text() for log in job.logs.glob("slurm-*.log")] == ["a  $HOME #x\n"]
        assert list(job.logs.glob("node-0.log"))


def test_a_sweep_is_one_array_of_which_so_many_run_at_a_time() -> None:
    options = ["algorithm=linear", "data=digits", "train.epochs=1", "tracking=none", "job.name=sweep"]
    seeds = ",".join(str(seed) for seed in range(20))
    command = ["train", "-m", ON, "launcher.array=true", *options, f"seed={seeds}", "hydra/launcher=headway"]
    done = headway(*command, "hydra.launcher.parallel=4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "20 of 20 completed"
    jobs = [Job(folder) for folder in Path("runs/sweep").absolute().iterdir() if folder.is_dir()]
    arrays = {number_of(job).partition("_")[0] for job in jobs}
    assert len(arrays) == 1
    assert sorted(int(number_of(job).partition("_")[2]) for job in jobs) == list(range(20))
    assert "%4" in Path("runs/sweep/sweep.sbatch").read_text()
    moments = sorted([(job.events()[1]["time"], 1) for job in jobs] + [(job.events()[-1]["time"], -1) for job in jobs])
    running = [sum(change for _, change in moments[: i + 1]) for i in range(len(moments))]
    assert max(running) <= 4


def test_a_task_of_an_array_that_others_take_the_node_of_goes_on_to_the_same_end_and_the_others_stay() -> None:
    options = [*SLOW, "job.name=sweep"]
    sweep = start("train", "-m", ON, "launcher.array=true", "launcher.partition=low", "launcher.exclusive=true", *options,
                  "seed=1,2", "hydra/launcher=headway")  # fmt: skip
    until(lambda: len(list(Path("runs/sweep").glob("*/slurm.json"))) == 2)
    first, second = (Job(path.parent) for path in sorted(Path("runs/sweep").absolute().glob("*/slurm.json")))
    reaches(first, 10)
    reaches(second, 10)
    number, [node] = number_of(first), nodes_of(first)
    run(
        "sbatch",
        "--partition=high",
        f"--nodelist={node}",
        "--exclusive",
        "--time=1",
        "--output=/dev/null",
        "--wrap=sleep 3",
    )
    until(lambda: interruptions(first), first)
    until(
        lambda: first.name in headway("ls", "--json").stdout and "BeginTime" in headway("show", str(first.dir)).stdout,
        first,
    )
    said, _ = sweep.communicate(timeout=600)
    assert sweep.returncode == 0, said
    assert (interruptions(first), interruptions(second)) == (["preempted"], [])
    assert (number_of(first), worlds(second)) == (number, [1])
    assert (first.result() or {})["interruptions"][0]["steps_lost"] == 0
    for job, seed in ((first, 1), (second, 2)):
        assert weights(job) == weights(trained_here(f"calm-{seed}", *SLOW, f"seed={seed}"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_machine_that_ends_the_command_that_follows_a_job_leaves_the_job_to_slurm(number: signal.Signals) -> None:
    follower = start("train", ON, *SLOW, "job.name=followed")
    job = Job(Path("runs/followed").absolute())
    reaches(job, 5)
    follower.send_signal(number)
    said, _ = follower.communicate(timeout=600)
    assert follower.returncode == 128 + number, said
    assert "goes on without this command; `headway stop followed` stops it" in said
    reaches(job, 10)
    assert headway("stop", "followed").returncode == 0
    until(lambda: job.state() is State.STOPPED, job)
    assert interruptions(job) == []


def test_ctrl_c_at_the_command_that_follows_a_job_stops_it_with_its_state() -> None:
    follower = start("train", ON, *SLOW, "job.name=followed")
    job = Job(Path("runs/followed").absolute())
    reaches(job, 5)
    follower.send_signal(signal.SIGINT)
    said, _ = follower.communicate(timeout=600)
    assert follower.returncode == 130, said
    assert job.state() is State.STOPPED
    done = headway("resume", "followed")
    assert done.returncode == 0, done.stderr
    assert weights(job) == weights(trained_here("calm", *SLOW))


def test_a_job_that_is_taken_away_each_time_before_its_first_step_ends_with_a_line(folder: Path) -> None:
    (folder / "notice").touch()
    options = ["algorithm=linear", "data=digits", "tracking=none", f"launcher.notices=['file:{folder}/notice']"]
    done = headway("train", ON, *options, "job.name=taken")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "taken failed: 5 attempts in a row made no step before they were interrupted" in done.stderr
    assert len(interruptions(Job(Path("runs/taken")))) == 4


TELLS = """
import os, pathlib
wanted = {"HF_TOKEN": "hunter2-and" + "-more", "OTHER_TOKEN": "hunter3-and" + "-more"}
told = all(os.environ.get(name) == value for name, value in wanted.items())
pathlib.Path(os.environ["SM_MODEL_DIR"], "told").write_text(str(told))
"""


def test_secrets_reach_the_nodes_and_no_file_and_a_private_job_is_its_users_alone(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src/train.py").write_text(TELLS)
    given = ["algorithm=script", "algorithm.source_dir=src", "+algorithm.environment.HF_TOKEN=hunter2-and-more"]
    given += ['launcher.setup=["export OTHER_TOKEN=hunter3-and-more"]', "job.private=true", "job.name=secret"]
    done = headway("train", ON, *given)
    assert done.returncode == 0, done.stdout + done.stderr
    job = Job(Path("runs/secret").absolute())
    assert (job.model / "told").read_text() == "True"
    files = [path for path in job.dir.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in files if b"and-more" in path.read_bytes()]
    assert "and-more" not in done.stdout + done.stderr
    assert not [path for path in [job.dir, *files] if path.stat().st_mode & 0o077]
