"""A command that is told to leave drops what it has not begun, and leaves in order what it has."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import UserError
from trainer.job.directory import Job, State, Status
from trainer.process import signals
from trainer.submission.interrupts import Heeding

TERM, HUP, INT = signal.SIGTERM, signal.SIGHUP, signal.SIGINT


@pytest.fixture(autouse=True)
def command() -> Iterator[None]:
    """This process hears as a command does, begun in a terminal."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals.ASKS}
    signals.hear()
    yield
    signals._told.clear()
    signals._handlers.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


def tell(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "codes"), [(TERM, (75, 143)), (HUP, (75, 129)), (INT, (130, 130))], ids=["TERM", "HUP", "INT"]
)
def test_what_is_not_begun_is_dropped_at_once(number: int, codes: tuple[int, int]) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        tell(number)
    error = caught.value
    assert (signals.exit_code(error, can_go_on=True), signals.exit_code(error, can_go_on=False)) == codes


def test_what_is_begun_is_not_broken_off_and_hears_each_ask_once() -> None:
    with signals.held() as asks:
        tell(TERM, TERM, HUP)  # as `timeout` and clusters do: the same, again
        assert asks.take() == [TERM]
        tell(INT, TERM, INT)
        assert asks.take() == [INT, INT]
        assert asks.take() == []
        assert (asks.by_hand, bool(asks.by_machine)) == (2, True)
        with pytest.raises(KeyboardInterrupt):
            tell(INT)  # a third time: it waits for nobody


def test_nothing_new_is_begun_once_it_was_told() -> None:
    with signals.held():
        tell(TERM)
    with pytest.raises(signals.Leave), signals.held():
        pytest.fail("begun")


def test_what_a_library_swallows_is_not_forgotten() -> None:
    with contextlib.suppress(BaseException):  # as some do around their imports
        tell(TERM)
    with pytest.raises(signals.Leave), signals.held():
        pytest.fail("begun")


def test_from_python_ctrl_c_alone_is_held_back() -> None:
    signals._handlers.clear()
    signal.signal(TERM, signal.SIG_DFL)
    signal.signal(INT, signal.default_int_handler)
    with signals.held() as asks:
        tell(INT)
        assert asks.take() == [INT]
        assert signal.getsignal(TERM) is signal.SIG_DFL
    assert signal.getsignal(INT) is signal.default_int_handler
    with signals.held() as asks:  # a later job is another matter
        assert asks.take() == []


def test_what_nohup_or_a_shell_ignores_stays_ignored_but_not_sigterm() -> None:
    for number in signals.ASKS:
        signal.signal(number, signal.SIG_IGN)
    signals._handlers.clear()
    signals.hear()
    tell(HUP, INT)
    with pytest.raises(signals.Leave):
        tell(TERM)


class Backend:
    """A launcher that writes down what it is told. here: whether the job ends with who submitted it."""

    def __init__(self, *, here: bool = True, ended: bool = False) -> None:
        self.told: list[Any] = []
        self._here, self._ended = here, ended

    def status(self, job: Job) -> Status:
        return Status(State.RUNNING, True)

    def is_alive(self, job: Job) -> bool:
        return True

    def stop(self, job: Job, *, now: bool = False) -> None:
        self.told.append("now" if now else "stop")
        if self._ended:
            raise UserError("it is not running")

    def interrupt(self, job: Job, number: int) -> bool:
        self.told.append(number)
        return self._here


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([TERM], [TERM]),
        ([TERM, TERM], [TERM]),
        ([HUP, TERM], [HUP]),
        ([TERM, INT], [TERM, "stop"]),
        ([INT, TERM], ["stop", TERM]),
        ([INT, INT], ["stop", "now"]),
    ],
)
def test_a_followed_job_is_told_what_the_command_is_told(tmp_path: Path, numbers: list[int], told: list[Any]) -> None:
    backend = Backend()
    with signals.held() as asks:
        heeding = Heeding(Job(tmp_path), backend, asks, print)
        tell(*numbers)
        assert heeding.look().alive
    assert backend.told == told


def test_a_job_that_ends_just_then_is_no_mistake(tmp_path: Path) -> None:
    with signals.held() as asks:
        tell(INT)
        Heeding(Job(tmp_path), Backend(ended=True), asks, print).look()


def test_a_job_on_a_cluster_goes_on_without_who_follows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = Job(tmp_path / "writer")
    with signals.held() as asks:
        tell(HUP)
        with pytest.raises(signals.Leave) as caught:
            Heeding(job, Backend(here=False), asks, print).look()
    assert signals.exit_code(caught.value, can_go_on=True) == 129
    assert "writer goes on without this command" in capsys.readouterr().out


CONTAINER = """
import os, subprocess, sys, time
from trainer.process import first_process, signals
signals.hear()
first_process.stand_by()
assert os.getpid() != 1
"""


def contained(source: str) -> subprocess.Popen[str]:
    """Python as the first process of a PID namespace."""
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    unshare = ["unshare", *own, "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make a PID namespace")
    return subprocess.Popen(
        [*unshare, sys.executable, "-c", CONTAINER + source],
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.STDOUT,
    )


def first_in(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


@pytest.mark.parametrize(("number", "code"), [(TERM, 75), (HUP, 75), (INT, 130)])
def test_the_first_process_of_a_container_hears_too(number: int, code: int) -> None:
    process = contained(
        """
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt as asked:
    sys.exit(signals.exit_code(asked, can_go_on=True))
"""
    )
    os.kill(first_in(process), number)
    assert process.wait(600) == code


def test_the_first_process_reaps_orphans_and_takes_nobodys_exit_code() -> None:
    process = contained(
        """
subprocess.run(["sh", "-c", "for i in 1 2 3; do (sleep 0.1 &) ; done"])
codes = [subprocess.Popen(["sh", "-c", f"sleep 0.2; exit {code}"]) for code in (3, 4)]
assert [one.wait() for one in codes] == [3, 4]
time.sleep(0.3)
states = [open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] for pid in os.listdir("/proc") if pid.isdigit()]
print(states)
sys.exit(5 if "Z" in states else 7)
"""
    )
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 7, said


def test_those_whom_a_killed_command_leaves_in_a_container_may_save(tmp_path: Path) -> None:
    process = contained(
        f"""
import signal
subprocess.Popen(["sh", "-c", "sleep 0.7; echo saved > {tmp_path}/state"], start_new_session=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    assert process.wait(600) == 137
    assert (tmp_path / "state").read_text() == "saved\n"
