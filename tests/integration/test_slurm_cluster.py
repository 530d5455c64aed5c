"""scripts/slurm-cluster: a SLURM to try things on, which takes nothing with it that isn't its own."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.brought_up import SCRIPTS
from tests.integration.conftest import slurm_cluster
from tests.integration.slurms import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SCRIPT = SCRIPTS / "slurm-cluster"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def script(verb: str, state: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "STATE": str(state), **settings}
    return subprocess.run([SCRIPT, verb], env=environment, capture_output=True, text=True, check=False)


def submit(*options: str) -> str:
    return run("sbatch", "--parsable", "--output=/dev/null", "--time=5", *options)


def until(condition: Callable[[], bool], seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, run("squeue", "--states=all", "--format=%i|%T|%r")
        time.sleep(0.2)


def states(*numbers: str) -> list[str]:
    said = run("squeue", "--noheader", "--states=all", f"--jobs={','.join(numbers)}", "--format=%A|%T|%r")
    return sorted(said.splitlines())


def is_alive(pid: int) -> bool:
    """Not one that only waits to be reaped."""
    status = Path("/proc", str(pid), "status")
    return status.exists() and "\nState:\tZ" not in status.read_text()


@pytest.fixture
def on_slurm(slurm: Path) -> Iterator[Path]:
    yield slurm
    run("scancel", "--user=root")


def test_a_command_runs_on_two_nodes_each_of_which_has_a_name_that_leads_to_it(on_slurm: Path) -> None:
    said = run(
        "srun",
        "--nodes=2",
        "--gpus-per-node=1",
        "sh",
        "-c",
        "getent hosts $SLURMD_NODENAME; echo $CUDA_VISIBLE_DEVICES",
    )
    addresses = {line.split()[0] for line in said.splitlines() if line.startswith("127.")}
    assert len(addresses) == 2
    assert said.splitlines().count("0") == 2


def test_a_job_in_low_gives_way_to_one_in_high_and_starts_again_once(on_slurm: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    write = f"""trap 'echo warned >>{told}; exit' USR1; echo "start $SLURM_RESTART_COUNT" >>{told}; while :; do sleep 0.2; done"""
    (tmp_path / "task").write_text(write)
    batch = f'srun bash {tmp_path}/task; [ -n "$SLURM_RESTART_COUNT" ] || scontrol requeue $SLURM_JOB_ID'
    low = submit("--partition=low", "--nodes=4", "--exclusive", "--requeue", "--signal=USR1@60", f"--wrap={batch}")
    until(lambda: told.exists())
    high = submit("--partition=high", "--nodes=4", "--exclusive", "--wrap=true")
    until(lambda: states(high) == [f"{high}|COMPLETED|None"])
    until(lambda: told.read_text().splitlines().count("start 1") == 4)
    assert sorted(told.read_text().splitlines()) == [*["start "] * 4, *["start 1"] * 4, *["warned"] * 4]
    assert states(low) == [f"{low}|RUNNING|None"]


def test_squeue_tells_how_jobs_ended(on_slurm: Path) -> None:
    good, bad = submit("--wrap=true"), submit("--wrap=exit 3")
    cancelled, held = submit("--wrap=sleep 60"), submit("--hold", "--wrap=true")
    until(lambda: f"{cancelled}|RUNNING|None" in states(cancelled))
    run("scancel", cancelled)
    ends = [f"{good}|COMPLETED|None", f"{bad}|FAILED|NonZeroExitCode", f"{cancelled}|CANCELLED|None"]
    until(lambda: states(good, bad, cancelled, held) == sorted([*ends, f"{held}|PENDING|JobHeldUser"]))


def test_a_cluster_goes_with_all_that_it_ran_and_leaves_its_neighbour(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with slurm_cluster(NODES="2") as state:
        beside = Path(f"{state}-2")  # a name that begins with the other's
        try:
            assert script("up", beside, NODES="1").returncode == 0
            monkeypatch.setenv("SLURM_CONF", str(state / "etc" / "slurm.conf"))
            stubborn = f"echo $$ >{tmp_path}/pid; trap '' TERM; while :; do sleep 0.2; done"
            submit(f'--wrap=srun sh -c "{stubborn}"'.replace("$$", r"\$\$"))
            until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text().strip()))
            pid = int((tmp_path / "pid").read_text())
            daemons = [int(path.read_text()) for path in (state / "run").glob("*.pid")]
            assert script("down", state).returncode == 0
            assert not any(map(is_alive, [pid, *daemons]))
            assert not state.exists()
            assert not [line for line in Path("/etc/hosts").read_text().splitlines() if line.endswith(f" {state}")]
            monkeypatch.setenv("SLURM_CONF", str(beside / "etc" / "slurm.conf"))
            assert run("srun", "sh", "-c", "getent hosts $SLURMD_NODENAME")
        finally:
            assert script("down", beside).returncode == 0


def test_up_again_keeps_the_cluster_and_brings_a_dead_node_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with slurm_cluster(NODES="2") as state:
        monkeypatch.setenv("SLURM_CONF", str(state / "etc" / "slurm.conf"))
        controller = (state / "run" / "slurmctld.pid").read_text()
        os.kill(int(next((state / "run").glob("slurmd-*.pid")).read_text()), signal.SIGKILL)
        again = script("up", state, NODES="2")
        assert again.returncode == 0
        assert "up already" in again.stderr
        assert (state / "run" / "slurmctld.pid").read_text() == controller
        assert run("srun", "--nodes=2", "--immediate=30", "echo", "here").split() == ["here", "here"]
        assert script("env", state).stdout == f"export SLURM_CONF={state}/etc/slurm.conf\n"


@needs_root
@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_folder_of_something_else_is_left_alone(verb: str) -> None:
    with tempfile.TemporaryDirectory(prefix="hw-", dir="/var/tmp") as name:
        mine = Path(name, "etc", "mine")
        mine.parent.mkdir()
        mine.write_text("mine")
        done = script(verb, Path(name))
        assert done.returncode == 2
        assert done.stderr == f"error: STATE: {name} holds something else than a SLURM cluster; choose another folder\n"
        assert mine.read_text() == "mine"


def test_a_pid_file_whose_number_is_anothers_by_now_harms_nobody() -> None:
    with slurm_cluster(NODES="1") as state, subprocess.Popen(["sleep", "60"]) as other:
        try:
            (state / "run" / "slurmdbd.pid").write_text(str(other.pid))
            assert script("down", state).returncode == 0
            assert other.poll() is None
        finally:
            other.kill()


@needs_root
def test_without_root_it_says_so_in_a_line() -> None:
    with open(SCRIPT) as text:
        command = ["setpriv", "--reuid=65534", "--clear-groups", "bash", "-s", "up"]
        done = subprocess.run(command, stdin=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: a SLURM cluster needs root\n")


def test_of_a_cluster_that_is_not_up_there_is_nothing_to_export(tmp_path: Path) -> None:
    done = script("env", tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: no cluster is up in {tmp_path}; {SCRIPT} up starts one\n"
