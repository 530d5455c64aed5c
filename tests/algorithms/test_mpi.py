"""A script under a real Open MPI: over hosts without sshd, to its end, to a failure, and asked to leave."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from algorithms.script import Script, mpi
from algorithms.script.contract import Container
from algorithms.script.distribution import Distribution
from algorithms.script.figures import Account, Heard
from algorithms.script.process import Process, leave
from tests.algorithms import open_mpi
from trainer.errors import UserError

BEGIN = """
import os, signal, sys, time
rank, host, out = os.environ["OMPI_COMM_WORLD_RANK"], os.environ["HOST"], os.environ["OUT"]
"""
MEETS = """
import json
from mpi4py import MPI
told = MPI.COMM_WORLD.allgather([int(rank), host, os.getcwd(), os.environ["OMPI_COMM_WORLD_LOCAL_RANK"]])
open(f"{out}/told-{rank}", "w").write(json.dumps(told))
print("words", "of", rank)
"""
FAILS = """
import threading
print("training")
if rank == "3":
    print("ValueError: no label")
    sys.exit(7)
time.sleep(60)
"""
LEAVES = """
def leave(*_):
    time.sleep(3.0)
    open(f"{out}/left-{rank}", "w").close()
    sys.exit(int(rank))
signal.signal(signal.SIGTERM, leave)
open(f"{out}/here-{rank}", "w").close()
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _open_mpi(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("slow"):
        open_mpi.needed()


@pytest.mark.slow
def test_all_processes_meet_each_with_its_own_hosts_variables_and_folder(tmp_path: Path) -> None:
    pytest.importorskip("mpi4py")
    hosts = open_mpi.Hosts(tmp_path, BEGIN + MEETS)
    assert hosts.codes() == [0, 0], hosts.said()
    told = json.loads((tmp_path / "told-3").read_text())
    code = [str(tmp_path / name / "code") for name in ("algo-1", "algo-2")]
    assert told == [
        *([0, "algo-1", code[0], "0"], [1, "algo-1", code[0], "1"]),
        *([2, "algo-2", code[1], "0"], [3, "algo-2", code[1], "1"]),
    ]
    own = [sorted(line for line in said.splitlines() if line.startswith("[1,")) for said in hosts.said()]
    assert own == [[f"[1,{rank}]<stdout>:words of {rank}" for rank in ranks] for ranks in ((0, 1), (2, 3))]
    assert not any(part.place.exists() for part in hosts.parts)


@pytest.mark.slow
def test_the_first_process_that_fails_is_told_by_its_host_with_its_code(tmp_path: Path) -> None:
    hosts = open_mpi.Hosts(tmp_path, BEGIN + FAILS)
    assert hosts.codes() == [7, 7], hosts.said()
    said = [mpi.said_by_failed(text.splitlines()) for text in hosts.said()]
    assert said == [[], ["training", "ValueError: no label"]]


@pytest.mark.slow
def test_every_process_hears_that_it_is_to_leave_and_has_the_time_to(tmp_path: Path) -> None:
    hosts = open_mpi.Hosts(tmp_path, BEGIN + LEAVES)
    hosts.until(lambda: len(list(tmp_path.glob("here-*"))) == 4)
    hosts.signal(signal.SIGTERM)
    hosts.codes()
    assert sorted(path.name for path in tmp_path.glob("left-*")) == [f"left-{rank}" for rank in range(4)], hosts.said()


@pytest.mark.slow
@pytest.mark.parametrize("asked", [True, False])
def test_so_it_is_under_the_guard_of_a_script(tmp_path: Path, asked: bool) -> None:
    container = Container(tmp_path / "ml", "train.py")
    container.code.mkdir(parents=True)
    (container.code / "train.py").write_text(BEGIN + LEAVES, encoding="utf-8")
    part = mpi.Part(container, Distribution.of({"mpi": {"enabled": True, "processes_per_host": 2}}), 1, leads=True)
    part.check()
    env = {**os.environ, "HOST": "algo-1", "OUT": str(tmp_path)}
    env = part.environment(env, mpi.Hosts(("algo-1",), ("here",), ("own",), ("lo",), 2))
    line = part.mpirun([sys.executable, "train.py"])
    process = Process(line, folder=container.code, env=env, mounts=[], metrics=[], tag=mpi.TAG)
    end = time.monotonic() + 600
    while len(list(tmp_path.glob("here-*"))) < 2:
        assert time.monotonic() < end, list(process.heard.lines)
        time.sleep(0.02)
    if asked:
        leave(process, 30)
    else:
        process.end()
    assert len(list(tmp_path.glob("left-*"))) == (2 if asked else 0), list(process.heard.lines)
    while _alive(tmp_path) or part.place.exists():
        assert time.monotonic() < end, _alive(tmp_path)
        time.sleep(0.1)


@pytest.mark.slow
def test_nothing_is_left_of_one_that_was_killed(tmp_path: Path) -> None:
    hosts = open_mpi.Hosts(tmp_path, BEGIN + LEAVES)
    hosts.until(lambda: len(list(tmp_path.glob("here-*"))) == 4)
    hosts.signal(signal.SIGKILL)
    end = time.monotonic() + 600
    while _alive(tmp_path) or any(part.place.exists() for part in hosts.parts):
        assert time.monotonic() < end, _alive(tmp_path)
        time.sleep(0.1)
    assert not list(tmp_path.glob("left-*"))


def _alive(folder: Path) -> list[str]:
    """The processes that were started for a folder."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                environment = (path / "environ").read_bytes()
            except OSError:
                continue
            if f"OUT={folder}".encode() in environment.split(b"\0"):
                found.append(path.name)
    return found


def test_a_machine_without_open_mpi_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    part = mpi.Part(Container(tmp_path, "train.py"), Distribution.of("mpi"), 1, leads=True)
    with pytest.raises(UserError, match=r"there is no mpirun of Open MPI on algo-1; .*apt-get install openmpi-bin"):
        part.check()


def test_hosts_of_several_machines_use_the_network_that_they_share() -> None:
    hosts = mpi.Hosts(("algo-1", "algo-2"), ("a", "b"), ("1", "1"), ("eth0", "eth0"), 8)
    told = hosts.variables("a", 4)
    assert told["OMPI_MCA_btl_tcp_if_include"] == told["OMPI_MCA_oob_tcp_if_include"] == "eth0"
    assert (told["OMPI_MCA_btl"], told["OMPI_MCA_mpi_yield_when_idle"]) == ("^openib", "0")
    other = mpi.Hosts(("algo-1", "algo-2"), ("a", "b"), ("1", "1"), ("eth0", "ib0"), 2).variables("a", 4)
    assert "OMPI_MCA_btl_tcp_if_include" not in other
    assert other["OMPI_MCA_mpi_yield_when_idle"] == "1"
    one = mpi.Hosts(("algo-1", "algo-2"), ("a", "a"), ("1", "1"), ("eth0", "eth0"), 2).variables("a", 4)
    assert one["OMPI_MCA_btl_tcp_if_include"] == one["OMPI_MCA_oob_tcp_if_include"] == "lo"
    assert one["OMPI_MCA_btl"] == "tcp,self"


def test_mpi4py_runs_a_python_script_where_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    line = [sys.executable, "train.py", "--lr", "1"]
    assert mpi.as_module(line, {}) == line
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "run.py").touch()
    env = {"PYTHONPATH": f"/nowhere{os.pathsep}{tmp_path}"}
    assert mpi.as_module(line, env) == [sys.executable, "-m", "mpi4py", "train.py", "--lr", "1"]
    assert mpi.as_module(["/bin/sh", "-c", "./train.sh"], env) == ["/bin/sh", "-c", "./train.sh"]


def test_a_figure_that_every_process_tells_counts_once() -> None:
    ears = Heard(Script(metrics={"loss": r"^loss=(\d+)", "own": r"own=(\d+)"})._metrics, mpi.TAG)
    for line in ("[1,1]<stdout>:loss=1", "[1,0]<stdout>:loss=2 own=5", "[1,1]<stdout>:loss=3", "loss=4"):
        ears.hear(f"{line}\n".encode())
    account = Account(0)
    told = account.add([ears.take(), []]) + account.end()
    assert told == [(1, {"loss": 2.0, "own": 5.0})]
