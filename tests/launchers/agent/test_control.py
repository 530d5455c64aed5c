"""What is asked of a node's workers reaches them, whoever asks and whenever, and is asked no longer than it is meant."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launchers.agent import control as module
from launchers.agent.control import Control
from launchers.notices.notices import SIGNALS, Notice
from trainer.job import node_state
from trainer.job.directory import State

# says "ready", then a line for each SIGUSR1 and SIGUSR2
WORKER = """
import signal, sys, time
for name in ("SIGUSR1", "SIGUSR2"):
    signal.signal(getattr(signal, name), lambda n, f: print(signal.Signals(n).name, flush=True))
print("ready", flush=True)
while True:
    time.sleep(60)
"""


class Worker:
    """A process that says what it was told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"
        self.heard: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.heard.append(line.strip())

    def hears(self, seconds: float = 10.0, after: int = 0) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if len(self.heard) > after:
                return True
            time.sleep(0.01)
        return False

    def ends(self) -> int:
        return self.process.wait(5)


@pytest.fixture(scope="module")
def spare() -> Iterator[list[Worker]]:
    """Workers left over by tests that did not kill theirs."""
    workers: list[Worker] = []
    yield workers
    for worker in workers:
        worker.process.kill()


@pytest.fixture
def worker(spare: list[Worker]) -> Iterator[Worker]:
    worker = spare.pop() if spare else Worker()
    yield worker
    if worker.process.poll() is None:
        worker.heard.clear()
        spare.append(worker)


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    """A control, with the signal handlers and tellers of a test gone after it."""
    known = {number: signal.getsignal(number) for number in SIGNALS}
    made = Control(tmp_path)
    yield made
    for number, handler in known.items():
        signal.signal(number, handler)
    made._pids, made._tell_until = [], 0.0
    if made._teller:
        made._teller.join(2)


def notice(reason: str = "capacity goes away", **more: object) -> Notice:
    return Notice(source="aws", reason=reason, **more)  # type: ignore[arg-type]


def test_a_notice_is_told_to_the_workers_and_to_the_other_nodes(
    control: Control, worker: Worker, tmp_path: Path
) -> None:
    spread: list[Notice] = []
    control.spread = spread.append
    control.watch([worker.process.pid])
    given = notice(seconds=120.0)
    control.on_notice(given)
    assert worker.hears()
    asked = node_state.asked(tmp_path)
    assert asked is not None
    assert (asked.leave, asked.why) == (True, "aws: capacity goes away")
    assert asked.deadline == pytest.approx(given.seen + 120)
    assert spread == [given]
    assert control.leave is not None
    assert (control.leave.state, control.leave.source, control.leave.here) == (State.INTERRUPTED, "aws", True)


@pytest.mark.parametrize(
    ("number", "state"),
    [
        (signal.SIGINT, State.STOPPED),
        (signal.SIGTERM, State.INTERRUPTED),
        (signal.SIGHUP, State.INTERRUPTED),
        (signal.SIGUSR1, State.INTERRUPTED),
        (signal.SIGUSR2, State.INTERRUPTED),
    ],
)
def test_a_signal_to_the_agent_is_a_notice(
    control: Control, worker: Worker, number: signal.Signals, state: State
) -> None:
    control.listen()
    control.watch([worker.process.pid])
    os.kill(os.getpid(), number)
    assert worker.hears()
    assert control.leave is not None
    assert control.leave.state is state
    assert number.name in control.leave.why
    assert worker.process.poll() is None  # it is left to save its state


def test_workers_that_still_start_are_told_once_they_listen(control: Control, worker: Worker) -> None:
    control.on_notice(notice())
    control.watch([worker.process.pid])
    assert worker.hears()


def test_workers_are_told_again_as_they_may_not_have_listened_yet(control: Control, worker: Worker) -> None:
    control.watch([worker.process.pid])
    control.on_notice(notice())
    assert worker.hears(after=1)


def test_ctrl_c_twice_and_quit_end_the_workers_now(control: Control, worker: Worker) -> None:
    control.listen()
    control.watch([worker.process.pid])
    os.kill(os.getpid(), signal.SIGINT)
    assert worker.hears()
    os.kill(os.getpid(), signal.SIGINT)
    assert worker.ends() == -signal.SIGKILL
    assert control.leave is not None
    assert control.leave.state is State.STOPPED


def test_terminated_twice_still_leaves_in_order(control: Control, worker: Worker) -> None:
    """A cluster may tell more than once."""
    control.listen()
    control.watch([worker.process.pid])
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert worker.hears()
    assert not control.now
    assert worker.process.poll() is None


def test_workers_that_do_not_leave_before_the_deadline_are_ended(control: Control, worker: Worker) -> None:
    control.watch([worker.process.pid])
    control.on_notice(notice(seconds=1.0))
    assert worker.ends() == -signal.SIGKILL
    assert control.leave is not None
    assert "did not leave in time" in control.leave.why
    assert control.leave.state is State.INTERRUPTED


def test_a_warning_asks_to_save_and_lets_them_go_on(
    control: Control, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TELL_SAVE_SECONDS", 0.3)
    control.watch([worker.process.pid])
    control.on_notice(notice("may go away", leave=False))
    assert worker.hears()
    asked = node_state.asked(tmp_path)
    assert asked is not None
    assert not asked.leave
    assert control.leave is None
    assert control._teller
    control._teller.join(10)
    assert worker.process.poll() is None


def test_each_ask_is_a_new_one_also_for_a_new_agent(control: Control, tmp_path: Path) -> None:
    """The workers tell what they have heard already by its number."""
    control.on_notice(notice("may go away", leave=False))
    first = node_state.asked(tmp_path)
    control.on_notice(notice())
    second = node_state.asked(tmp_path)
    later = Control(tmp_path)
    later.on_notice(notice(seconds=1000.0))
    third = node_state.asked(tmp_path)
    assert first
    assert second
    assert third
    assert first.id < second.id < third.id
    later._tell_until = 0.0


def test_a_warning_after_the_notice_changes_nothing(control: Control, tmp_path: Path) -> None:
    control.on_notice(notice())
    before = node_state.asked(tmp_path)
    control.on_notice(notice("may go away", leave=False))
    control.on_notice(notice("again"))
    assert node_state.asked(tmp_path) == before
    assert control.leave is not None
    assert control.leave.why == "aws: capacity goes away"


def test_who_stops_it_by_hand_is_heard_also_after_a_notice(control: Control) -> None:
    control.on_notice(notice())
    control.on_notice(Notice(source="signal", reason="stopped by hand", by_hand=True))
    assert control.leave is not None
    assert control.leave.state is State.STOPPED


def test_another_nodes_notice_is_told_to_our_workers_and_not_back(control: Control, worker: Worker) -> None:
    spread: list[Notice] = []
    control.spread = spread.append
    control.watch([worker.process.pid])
    control.hear(notice(), here=False)
    assert worker.hears()
    assert spread == []
    assert control.leave is not None
    assert not control.leave.here


def test_a_node_told_of_another_that_leaves_and_then_to_leave_itself_leaves(control: Control) -> None:
    """A cluster ends all nodes of a job within a moment; none of them may think that it stays."""
    control.hear(notice("node 0 goes away"), here=False)
    control.on_notice(notice("node 1 goes away", seconds=30.0))
    assert control.leave is not None
    assert control.leave.here


def test_a_notice_that_comes_while_they_regroup_counts(control: Control) -> None:
    control.hear(Notice(source="regroup", reason="node 1 has come"), here=False, regroup=True)
    control.on_notice(notice())
    assert control.leave is not None
    assert not control.leave.regroup
    assert control.leave.source == "aws"


def test_who_regrouped_is_asked_no_more(control: Control, worker: Worker) -> None:
    """The next workers are not told what the ones before were asked."""
    control.hear(Notice(source="regroup", reason="node 1 has come"), here=False, regroup=True)
    control.forget()
    assert control.leave is None
    control.watch([worker.process.pid])
    assert not worker.hears(0.6)


def test_workers_that_are_killed_for_a_reason_have_it(control: Control, worker: Worker) -> None:
    control.watch([worker.process.pid])
    control.kill(("hang", "worker 0 made no step"))
    assert worker.ends() == -signal.SIGKILL
    assert control.cause == ("hang", "worker 0 made no step")
    control.forget()
    assert control.cause is None


def test_a_node_lost_before_our_workers_are_known_ends_them_too(control: Control, worker: Worker) -> None:
    """Else they wait for the one that is gone."""
    control.kill(("lost node", "node 1 was lost"))
    control.watch([worker.process.pid])
    assert worker.ends() == -signal.SIGKILL


def test_workers_are_asked_where_they_stand_also_one_that_was_stopped(control: Control, worker: Worker) -> None:
    control.watch([worker.process.pid])
    worker.process.send_signal(signal.SIGSTOP)
    control.show_stacks()
    assert worker.hears()
    assert worker.heard == ["SIGUSR2"]


def test_a_worker_that_is_gone_already_is_no_trouble(control: Control, worker: Worker) -> None:
    worker.process.kill()
    worker.process.wait()
    control.watch([worker.process.pid])
    control.on_notice(notice())
    control.kill()


@pytest.mark.parametrize(("source", "stops"), [("signal", True), ("superseded", False)])
def test_what_is_learned_is_the_model_where_a_person_stops_and_not_where_another_copy_goes_on(
    tmp_path: Path, source: str, stops: bool
) -> None:
    control = Control(tmp_path)
    control.on_notice(Notice(source=source, reason="so it is", seconds=None, by_hand=True))
    ask = node_state.asked(tmp_path)
    assert ask is not None
    assert (ask.leave, ask.stop) == (True, stops)
