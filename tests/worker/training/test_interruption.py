"""All workers leave, or save, after the same step, and nobody's wish is lost or done twice."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker.threads import Thread, together, workers
from trainer.job import node_state
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.training.interruption import LEAVE, LEAVE_UNSAVED, OUT_OF_TIME, SAVE, Interruption, Verdict

STEPS = 400


@pytest.fixture(autouse=True)
def _no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers belong to main threads; here workers are told by a call."""
    monkeypatch.setattr("trainer.worker.training.interruption.signal.signal", lambda number, handler: None)


def hear(interruption: Interruption) -> None:
    """What the signal of the agent does."""
    interruption._on_signal(signal.SIGUSR1, None)


Happened = list[tuple[int, Verdict]]
Hook = Callable[[Ranks, int, Interruption], None]


def train(places: list[Thread], folder: Path | list[Path], hook: Hook, steps: int = STEPS) -> list[Happened]:
    """A training whose workers meet at every step, as gradients do. What happened to each, and after which step.

    folder: that of their node, or each its own.
    """
    folders = folder if isinstance(folder, list) else [folder] * len(places)

    def work(ranks: Thread) -> Happened:
        interruption, found = Interruption(ranks, folders[ranks.rank]), []
        for step in range(1, steps + 1):
            hook(ranks, step, interruption)
            interruption.check_clock()
            if interruption.noticed and (verdict := interruption.before(step)):
                found.append((step - 1, verdict))
                if verdict.leaves:
                    break
            ranks.barrier()  # the gradients of this step
        return found

    return together(places, work)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_all_leave_after_the_same_step_though_they_hear_of_it_at_different_ones(tmp_path: Path, world: int) -> None:
    node_state.ask(tmp_path, node_state.Ask(1, True, "aws: capacity goes away"))

    def hook(ranks: Ranks, step: int, interruption: Interruption) -> None:
        if step == 20 + 7 * ((ranks.rank + 1) % 3):
            hear(interruption)

    first, *others = train(workers(world), tmp_path, hook)
    assert others == [first] * (world - 1)
    [(step, verdict)] = first
    assert verdict == Verdict(LEAVE, "aws: capacity goes away")
    assert 20 <= step <= 40


@pytest.mark.parametrize("first_to_hear", [0, 1, 2])
def test_they_agree_however_they_are_timed(tmp_path: Path, first_to_hear: int) -> None:
    """Told at any moment between their steps, by a thread of its own."""
    node_state.ask(tmp_path, node_state.Ask(1, True, "why"))
    known: dict[int, Interruption] = {}

    def tell() -> None:
        time.sleep(0.005)
        for i in range(3):
            rank = (first_to_hear + i) % 3
            while rank not in known:
                time.sleep(0.0005)
            hear(known[rank])
            time.sleep(0.0007)

    def hook(ranks: Ranks, step: int, interruption: Interruption) -> None:
        known[ranks.rank] = interruption

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    first, *others = train(workers(3), tmp_path, hook, steps=100_000)
    teller.join()
    assert len(first) == 1
    assert others == [first, first]


def test_nothing_happens_before_all_have_heard(tmp_path: Path) -> None:
    node_state.ask(tmp_path, node_state.Ask(1, True, "why"))

    def hook(ranks: Ranks, step: int, interruption: Interruption) -> None:
        if ranks.rank != 1 and step == 5:
            hear(interruption)

    assert train(workers(3), tmp_path, hook) == [[], [], []]


def test_a_signal_without_an_ask_means_nothing(tmp_path: Path) -> None:
    def hook(ranks: Ranks, step: int, interruption: Interruption) -> None:
        if step == 5:
            hear(interruption)

    assert train(workers(2), tmp_path, hook) == [[], []]


def test_a_warning_saves_and_they_go_on(tmp_path: Path) -> None:
    node_state.ask(tmp_path, node_state.Ask(1, False, "may go away"))

    def hook(ranks: Ranks, step: int, interruption: Interruption) -> None:
        if step == 20 + 3 * ranks.rank:
            hear(interruption)

    first, second = train(workers(2), tmp_path, hook)
    assert first == second
    assert [verdict for _, verdict in first] == [Verdict(SAVE, "may go away")]


def test_told_again_and_again_it_is_done_once(tmp_path: Path) -> None:
    """The agent repeats itself, as workers may not listen yet."""
    node_state.ask(tmp_path, node_state.Ask(1, False, "may go away"))

    def hook(ranks: Ranks, step: int, interruption: Interruption) -> None:
        if step >= 10 + ranks.rank:
            hear(interruption)

    first, second = train(workers(2), tmp_path, hook)
    assert first == second
    assert len(first) == 1


def test_each_new_ask_is_heeded(tmp_path: Path) -> None:
    """Two warnings, then the notice."""

    def hook(ranks: Ranks, step: int, interruption: Interruption) -> None:
        if step in (50, 100, 150):
            ranks.barrier()
            if ranks.rank == 0:
                node_state.ask(tmp_path, node_state.Ask(step, step == 150, f"ask {step}"))
            ranks.barrier()
            hear(interruption)

    first, second = train(workers(2), tmp_path, hook)
    assert first == second
    assert [(verdict.what, verdict.why) for _, verdict in first] == [
        (SAVE, "ask 50"),
        (SAVE, "ask 100"),
        (LEAVE, "ask 150"),
    ]


@pytest.mark.parametrize("late", [0, 1])
def test_a_notice_that_follows_a_warning_at_once_is_not_lost(tmp_path: Path, late: int) -> None:
    """One worker hears of both together, the other of the warning first. All are told again, so all leave."""

    def hook(ranks: Ranks, step: int, interruption: Interruption) -> None:
        if step == 10 and ranks.rank != late:
            node_state.ask(tmp_path, node_state.Ask(1, False, "may go away"))
            hear(interruption)
        if step == 12:
            ranks.barrier()
            if ranks.rank == late:
                node_state.ask(tmp_path, node_state.Ask(2, True, "goes away"))
                hear(interruption)
        if step >= 30 and step % 10 == 0:
            hear(interruption)

    first, second = train(workers(2), tmp_path, hook)
    assert first == second
    assert first, "nobody ever saved or left"
    assert first[-1][1] == Verdict(LEAVE, "goes away")


@pytest.mark.parametrize("older", [0, 1])
def test_each_nodes_agent_counts_its_own_asks(tmp_path: Path, older: int) -> None:
    """One that came back begins at 1, the other has asked 7 times before; what follows is heard on both."""
    folders = [tmp_path / "node-0", tmp_path / "node-1"]

    def hook(ranks: Ranks, step: int, interruption: Interruption) -> None:
        if step in (20, 60):
            number = (1 if step == 20 else 2) + (7 if ranks.rank == older else 0)
            node_state.ask(folders[ranks.rank], node_state.Ask(number, step == 60, f"at {step}"))
            hear(interruption)

    first, second = train(workers(2), folders, hook)
    assert first == second
    assert [verdict for _, verdict in first] == [Verdict(SAVE, "at 20"), Verdict(LEAVE, "at 60")]


def test_too_little_time_leaves_unsaved(tmp_path: Path) -> None:
    """Rank 0 knows what a save takes; a checkpoint that would be half is not begun."""
    node_state.ask(tmp_path, node_state.Ask(1, True, "aws", deadline=time.monotonic() + 8))

    def hook(ranks: Ranks, step: int, interruption: Interruption) -> None:
        interruption.save_seconds = lambda: 60.0 if ranks.rank == 0 else 0.0
        if step == 5:
            hear(interruption)

    first, second = train(workers(2), tmp_path, hook)
    assert first == second
    [(_, verdict)] = first
    assert verdict.what == LEAVE_UNSAVED
    assert verdict.leaves
    assert "too few to save in about 90.0 s" in verdict.why


@pytest.mark.parametrize("deadline", [None, 3600.0])
def test_enough_time_saves(tmp_path: Path, deadline: float | None) -> None:
    node_state.ask(tmp_path, node_state.Ask(1, True, "aws", deadline=deadline and time.monotonic() + deadline))

    def hook(ranks: Ranks, step: int, interruption: Interruption) -> None:
        interruption.save_seconds = lambda: 60.0
        if step == 5:
            hear(interruption)

    assert [happened[0][1].what for happened in train(workers(2), tmp_path, hook)] == [LEAVE, LEAVE]


def test_out_of_time_at_the_same_step_though_clocks_differ(tmp_path: Path) -> None:
    def hook(ranks: Ranks, step: int, interruption: Interruption) -> None:
        if step == 20 + 5 * ranks.rank:
            interruption.deadline = time.monotonic()

    first, second = train(workers(2), tmp_path, hook)
    assert first == second
    assert [verdict.what for _, verdict in first] == [OUT_OF_TIME]


def test_workers_who_are_not_asked_pay_nothing(tmp_path: Path) -> None:
    places = workers(2)
    asked: list[str] = []

    class Store:
        def __getattr__(self, name: str) -> None:
            asked.append(name)
            raise AssertionError(f"the store was asked to {name}")

    for place in places:
        place.store = Store()
    assert train(places, tmp_path, lambda ranks, step, interruption: None) == [[], []]
    assert asked == []


def test_workers_who_meet_at_every_step_agree_at_once(tmp_path: Path) -> None:
    node_state.ask(tmp_path, node_state.Ask(1, True, "why"))

    def work(ranks: Thread) -> list[Verdict | None]:
        interruption, found = Interruption(ranks, tmp_path), []
        for step in range(3):
            if ranks.rank == step == 0:
                hear(interruption)
            if step == 2:
                hear(interruption)
            found.append(interruption.at_once())
        return found

    assert together(workers(2), work) == [[None, None, Verdict(LEAVE, "why")]] * 2
