"""The nodes of a job meet, lose one another and meet again, by nothing but files."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launchers.notices.notices import Notice, of_signal
from launchers.rendezvous import rendezvous as module
from launchers.rendezvous import store
from launchers.rendezvous.rendezvous import Events, Meeting, Place, Round
from launchers.rendezvous.store import Files
from trainer.job.directory import Job, read_json, write_json

# the agent of a node, without workers: it joins, and again whenever it is asked to or has lost a node
AGENT = """
import sys, threading
from pathlib import Path
from launchers.rendezvous import rendezvous as meeting
from trainer.job.directory import Job
meeting.open_store = lambda address: (None, 4711)
moved = threading.Event()
node, nodes, least = map(int, sys.argv[2:])
events = meeting.Events(lambda notice, regroup: moved.set(), lambda words: moved.set())
place = meeting.Place(node, "127.0.0.1", nodes, least)
met = meeting.Meeting(Job(Path(sys.argv[1])), place, 1, events)
while True:
    moved.clear()
    found = met.join(lambda: False)
    print("round", found.number, found.rank, found.nodes, flush=True)
    moved.wait()
"""


class Node:
    """A node in this process, and what it was told."""

    def __init__(self, job: Job, node: int, nodes: int = 2, least: int = 1) -> None:
        self.asks: list[tuple[Notice, bool]] = []
        self.lost: list[str] = []
        self.given_up = False
        events = Events(lambda notice, regroup: self.asks.append((notice, regroup)), self.lost.append)
        self.meeting = Meeting(job, Place(node, "127.0.0.1", nodes, least), 1, events)

    def join(self) -> Round:
        found = self.meeting.join(lambda: self.given_up)
        assert found is not None
        return found


@pytest.fixture(autouse=True)
def _no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_store", lambda address: ("store", 4711))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.fixture
def make(job: Job) -> Iterator[Callable[..., Node]]:
    """Makes nodes that are gone after the test."""
    made: list[Node] = []

    def one(node: int, nodes: int = 2, least: int = 1) -> Node:
        made.append(Node(job, node, nodes, least))
        return made[-1]

    yield one
    for node in made:
        node.given_up = True
        node.meeting.close()


@pytest.fixture
def agents(job: Job) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts nodes in processes of their own, which can be killed."""
    started: list[subprocess.Popen[str]] = []

    def one(node: int, nodes: int = 2, least: int = 1) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", AGENT, str(job.dir), str(node), str(nodes), str(least)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield one
    for agent in started:
        agent.kill()
        agent.wait()


def wait_for(condition: Callable[[], Any], seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def together(*nodes: Node) -> list[Round]:
    """What each gets when all join at once."""
    rounds: dict[int, Round] = {}

    def join(i: int) -> None:
        rounds[i] = nodes[i].join()

    threads = [threading.Thread(target=join, args=(i,), daemon=True) for i in range(len(nodes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return [rounds[i] for i in range(len(nodes))]


def said(agent: subprocess.Popen[str]) -> list[int]:
    """The next round of a node in another process: number, rank, nodes."""
    assert agent.stdout
    return [int(word) for word in agent.stdout.readline().split()[1:]]


def test_nodes_that_come_agree_on_their_places(make: Callable[..., Node]) -> None:
    late, first = make(1), make(0)
    rounds = together(late, first)
    assert [(r.rank, r.nodes) for r in rounds] == [(1, 2), (0, 2)]
    assert len({(r.number, r.address, r.port) for r in rounds}) == 1
    assert [r.store for r in rounds] == [None, "store"]  # the leader's own
    assert [r.leads for r in rounds] == [False, True]


def test_the_first_node_waits_for_the_others_to_come(
    make: Callable[..., Node], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REGROUP_SECONDS", 0.0)
    first = make(0)
    found: list[Round] = []
    thread = threading.Thread(target=lambda: found.append(first.join()), daemon=True)
    thread.start()
    time.sleep(0.3)
    assert found == []
    make(1).join()
    thread.join(20)
    assert found[0].nodes == 2


def test_it_goes_on_without_one_that_does_not_come(make: Callable[..., Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JOIN_SECONDS", 0.1)
    found = make(1).join()
    assert (found.rank, found.nodes, found.leads) == (0, 1, True)


def test_fewer_than_the_job_needs_wait_until_they_give_up(
    make: Callable[..., Node], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "JOIN_SECONDS", 0.0)
    node = make(0, nodes=3, least=2)
    end = time.monotonic() + 0.5
    assert node.meeting.join(lambda: time.monotonic() > end) is None
    assert not (job.dir / "nodes/round.json").exists()


def test_a_notice_is_told_to_the_other_node_once(make: Callable[..., Node]) -> None:
    one, two = make(0), make(1)
    together(one, two)
    notice = Notice(source="aws", reason="capacity goes away", seconds=120.0)
    two.meeting.tell(notice)
    wait_for(lambda: one.asks)
    time.sleep(0.3)
    assert one.asks == [(notice, False)]
    assert two.asks == []


def test_what_was_told_in_an_earlier_round_is_not_heard_again(make: Callable[..., Node]) -> None:
    one, two = make(0), make(1)
    together(one, two)
    two.meeting.tell(Notice(source="aws", reason="capacity goes away"))
    wait_for(lambda: one.asks)
    together(one, two)
    again = make(1)  # the same node, started anew
    wait_for(lambda: one.lost)
    together(one, again)
    time.sleep(0.3)
    assert len(one.asks) == 1
    assert again.asks == []


def test_a_node_that_was_killed_is_lost_and_the_other_goes_on(
    make: Callable[..., Node], agents: Callable[..., subprocess.Popen[str]]
) -> None:
    one, two = make(0), agents(1)
    first = one.join()
    assert said(two) == [first.number, 1, 2]
    assert one.meeting.others() == 1
    two.kill()
    two.wait()
    wait_for(lambda: one.lost)
    assert one.lost == ["node 1 was lost"]
    assert one.meeting.others() == 0
    second = one.join()
    assert second.number > first.number
    assert (second.rank, second.nodes) == (0, 1)


def test_a_lost_leader_is_followed_by_the_next(
    make: Callable[..., Node], agents: Callable[..., subprocess.Popen[str]]
) -> None:
    leader, two = agents(0), make(1)
    assert not two.join().leads
    leader.kill()
    leader.wait()
    wait_for(lambda: two.lost)
    assert two.lost == ["node 0 was lost"]
    found = two.join()
    assert found.leads
    assert found.nodes == 1
    assert found.store == "store"


def test_a_node_that_comes_back_is_let_in_by_a_regroup(
    make: Callable[..., Node], agents: Callable[..., subprocess.Popen[str]]
) -> None:
    one, two = make(0), agents(1)
    one.join()
    two.kill()
    two.wait()
    wait_for(lambda: one.lost)
    alone = one.join()
    back = agents(1)
    wait_for(lambda: one.asks)
    [(notice, regroup)] = one.asks
    assert regroup
    assert notice.source == "regroup"
    assert "node 1 has come" in notice.reason
    both = one.join()
    assert both.number > alone.number
    assert both.nodes == 2
    assert said(back) == [both.number, 1, 2]
    time.sleep(0.3)
    assert len(one.asks) == 1  # asked once


def test_a_leader_that_comes_back_leads_again(
    make: Callable[..., Node], agents: Callable[..., subprocess.Popen[str]]
) -> None:
    leader, two = agents(0), make(1)
    two.join()
    leader.kill()
    leader.wait()
    wait_for(lambda: two.lost)
    two.join()
    agents(0)
    wait_for(lambda: two.asks)
    assert two.asks[0][1]
    both = two.join()
    assert (both.rank, both.nodes) == (1, 2)


def test_a_node_that_leaves_in_order_is_gone_at_once(make: Callable[..., Node], job: Job) -> None:
    one, two = make(0), make(1)
    together(one, two)
    two.meeting.close()
    assert one.meeting.others() == 0
    wait_for(lambda: one.lost)
    time.sleep(0.2)  # its last beat does not bring it back
    assert one.meeting.others() == 0


def far_away(job: Job, beat: int) -> None:
    """A node of another machine, of which nothing is known but its file."""
    known = read_json(job.dir / "nodes/node-1.json") or {}
    line = {"node": 1, "id": "far", "host": "elsewhere", "pid": 1, "address": "10.0.0.2", "waiting": True}
    write_json(job.dir / "nodes/node-1.json", {**known, **line, "beat": beat})


def test_a_node_on_another_machine_lives_as_long_as_it_beats(
    make: Callable[..., Node], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Files, "lost", 0.8)
    far_away(job, 0)
    one = make(0)
    assert one.join().nodes == 2
    for beat in range(1, 13):
        far_away(job, beat)
        time.sleep(0.1)
        assert one.lost == []
    wait_for(lambda: one.lost)
    assert one.lost == ["node 1 was lost"]


@pytest.mark.timeout(10)
def test_a_signal_at_any_moment_of_joining_is_told(make: Callable[..., Node], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler runs in the thread that joins, between any two lines of it."""
    one, two = make(0), make(1)
    together(one, two)
    real, caught = store.write_json, []

    def interrupted(path: Path, value: Any, **more: Any) -> None:
        real(path, value, **more)
        if threading.current_thread() is threading.main_thread() and not caught:
            caught.append(path.name)
            signal.raise_signal(signal.SIGUSR1)

    monkeypatch.setattr(store, "write_json", interrupted)
    known = signal.signal(signal.SIGUSR1, lambda number, frame: one.meeting.tell(of_signal(number)))
    try:
        other = threading.Thread(target=two.join, daemon=True)
        other.start()
        one.join()
        other.join(5)
    finally:
        signal.signal(signal.SIGUSR1, known)
    assert caught == ["node-0.json"]


def test_a_round_is_one_of_its_own(make: Callable[..., Node], job: Job) -> None:
    """A new agent of a job that ran before does not take the last round for its own."""
    one, two = make(0), make(1)
    before = together(one, two)[0]
    one.meeting.close()
    two.meeting.close()
    after = together(make(0), make(1))[0]
    assert after.number > before.number
    assert replace(after, number=before.number) == before


def test_a_node_that_is_done_first_stays_until_the_job_has_ended(make: Callable[..., Node]) -> None:
    one, two = make(0), make(1)
    together(one, two)
    ended, answers = threading.Event(), list[bool]()
    waiting = threading.Thread(target=lambda: answers.append(two.meeting.sees_end(ended.is_set)), daemon=True)
    waiting.start()
    time.sleep(0.5)
    assert not one.lost
    assert not answers
    ended.set()
    waiting.join(20)
    assert answers == [True]


def test_a_node_that_is_done_stays_while_nothing_can_be_known_of_the_others(
    make: Callable[..., Node], job: Job
) -> None:
    one, two = make(0), make(1)
    together(one, two)
    unreadable = job.dir / "nodes" / "node-9.json"
    unreadable.mkdir()
    ended, answers = threading.Event(), list[bool]()
    waiting = threading.Thread(target=lambda: answers.append(two.meeting.sees_end(ended.is_set)), daemon=True)
    waiting.start()
    time.sleep(0.3)
    assert waiting.is_alive()
    unreadable.rmdir()
    ended.set()
    waiting.join(20)
    assert answers == [True]


def test_a_node_that_is_done_comes_again_if_the_others_begin_anew(make: Callable[..., Node]) -> None:
    one, two = make(0), make(1)
    together(one, two)
    threading.Thread(target=lambda: one.meeting.join(lambda: one.given_up), daemon=True).start()
    assert not two.meeting.sees_end(lambda: False)


def test_a_node_that_is_done_leaves_if_nobody_else_is_there(make: Callable[..., Node]) -> None:
    one, two = make(0), make(1)
    together(one, two)
    one.meeting.close()
    assert two.meeting.sees_end(lambda: False)
