"""Workers that hang are found, and only those."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launchers.agent.hangs import Beats, HangWatch
from trainer.job import node_state

TIMEOUT = 0.6


class Heard:
    """What a watch said, and how often."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._event = threading.Event()

    def __call__(self, words: str) -> None:
        self.words.append(words)
        self._event.set()

    def within(self, seconds: float) -> bool:
        return self._event.wait(seconds)


@pytest.fixture
def beats(tmp_path: Path) -> Beats:
    return Beats(tmp_path, 2)


@pytest.fixture
def workers(beats: Beats, tmp_path: Path) -> list[memoryview]:
    """What two workers write."""
    return [node_state.beat_of(tmp_path, i, 2) for i in range(2)]


@pytest.fixture
def heard(beats: Beats) -> Iterator[Heard]:
    heard = Heard()
    watch = HangWatch(beats, TIMEOUT, [os.getpid()] * 2, heard)
    yield heard
    watch.stop()


def test_the_agent_sees_the_steps_of_its_workers(beats: Beats, workers: list[memoryview], tmp_path: Path) -> None:
    assert beats.steps() == [None, None]
    assert beats.reached is None
    workers[1][0] = 7
    assert beats.steps() == [None, 7]
    workers[0][0] = 6
    assert beats.steps() == [6, 7]
    assert beats.reached == 7
    assert node_state.steps_left_in(tmp_path / node_state.BEATS) == [6, 7]  # also after the agent's death


def test_a_new_life_has_not_begun(beats: Beats, workers: list[memoryview], tmp_path: Path) -> None:
    workers[0][0] = workers[1][0] = 7
    assert Beats(tmp_path, 2).steps() == [None, None]


def test_workers_that_still_start_do_not_hang(workers: list[memoryview], heard: Heard) -> None:
    workers[0][0] = 0  # the other one reads a large data set
    assert not heard.within(1.5 * TIMEOUT)


def test_workers_that_make_steps_do_not_hang(workers: list[memoryview], heard: Heard) -> None:
    for step in range(8):
        workers[0][0] = workers[1][0] = step
        assert not heard.within(0.1)


def test_workers_that_write_a_large_checkpoint_do_not_hang(workers: list[memoryview], heard: Heard) -> None:
    workers[0][0] = workers[1][0] = 5
    for _ in range(8):
        workers[0][1] += 1  # a block was written
        assert not heard.within(0.1)


def begin(workers: list[memoryview], step: int) -> None:
    """They go on from a step, and that is seen."""
    workers[0][0] = workers[1][0] = step
    time.sleep(0.5)


def test_the_first_step_may_take_longer(workers: list[memoryview], heard: Heard) -> None:
    """A model is compiled then; an estimator reads its data."""
    begin(workers, 0)
    assert not heard.within(2 * TIMEOUT)


def test_workers_that_never_make_a_first_step_hang(beats: Beats, workers: list[memoryview]) -> None:
    heard = Heard()
    begin(workers, 0)
    HangWatch(beats, TIMEOUT / 10, [os.getpid()] * 2, heard)
    assert heard.within(30)


def test_a_worker_that_falls_behind_hangs_and_is_named_once(workers: list[memoryview], heard: Heard) -> None:
    begin(workers, 1_000)
    workers[0][0] = 1_001
    assert heard.within(20)
    assert heard.words == ["worker 1 made no step for 0.6 s after step 1,001"]
    time.sleep(1.5 * TIMEOUT)
    assert len(heard.words) == 1


def test_workers_that_stand_at_the_same_step_all_hang(workers: list[memoryview], heard: Heard) -> None:
    begin(workers, 3)
    workers[0][0] = workers[1][0] = 4
    assert heard.within(20)
    assert heard.words[0].startswith("the workers made no step for 0.6 s")


def test_of_workers_at_the_same_step_the_one_that_others_wait_for_is_named(
    workers: list[memoryview], heard: Heard, tmp_path: Path
) -> None:
    begin(workers, 3)
    workers[0][0] = workers[1][0] = 4
    node_state.at_of(tmp_path, 0, 2)[0] = node_state.PARTS.index("backward")
    node_state.at_of(tmp_path, 1, 2)[0] = node_state.PARTS.index("data")
    assert heard.within(20)
    assert heard.words == [
        "worker 1 made no step for 0.6 s after step 4; worker 1 is waiting for the data of step 5, "
        "worker 0 is in the backward of step 5"
    ]


def test_a_worker_that_was_stopped_is_told_from_those_that_wait_for_it(beats: Beats, workers: list[memoryview]) -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    heard = Heard()
    try:
        sleeper.send_signal(signal.SIGSTOP)
        workers[0][0] = workers[1][0] = 4
        HangWatch(beats, TIMEOUT / 10, [sleeper.pid, os.getpid()], heard)
        assert heard.within(20)
    finally:
        sleeper.kill()
        sleeper.wait()
    assert heard.words[0].startswith("worker 0 (stopped by a signal) made no step")


def test_a_watch_that_was_stopped_says_nothing(beats: Beats, workers: list[memoryview]) -> None:
    heard = Heard()
    workers[0][0] = workers[1][0] = 4
    HangWatch(beats, TIMEOUT, [os.getpid()] * 2, heard).stop()
    assert not heard.within(1.5 * TIMEOUT)
