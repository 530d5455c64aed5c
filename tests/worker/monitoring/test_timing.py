"""Where the time goes: parts that sum to the whole, whoever measures them."""

from __future__ import annotations

import time
from itertools import count
from typing import Any

import pytest

from trainer.job import node_state
from trainer.worker.monitoring.timing import (
    BACKWARD,
    CHECKPOINT,
    COMMUNICATION,
    DATA,
    FORWARD,
    IDLE,
    OPTIMIZER,
    SAMPLE_EVERY,
    DeviceLaps,
    Laps,
    by_name,
)


def step(laps: Laps) -> None:
    for part in (DATA, FORWARD, BACKWARD, OPTIMIZER):
        laps.mark(part)
    laps.end_step()


def test_every_moment_belongs_to_one_part() -> None:
    laps = Laps()
    began = time.perf_counter()
    laps.start()
    for _ in range(100):
        step(laps)
    laps.begin(CHECKPOINT)
    time.sleep(0.02)
    laps.mark(CHECKPOINT)
    whole = time.perf_counter() - began
    assert sum(laps.seconds) == pytest.approx(whole, abs=0.01)
    assert laps.seconds[CHECKPOINT] >= 0.02
    assert laps.steps == 100


def test_what_nobody_counted_is_idle_and_earlier_sessions_are_added() -> None:
    laps = Laps()
    laps.seconds[FORWARD], laps.seconds[BACKWARD] = 1.0, 2.0
    split = by_name(laps.split(), 5.0, {"forward": 10.0, "idle": 1.0})
    assert split == {**dict.fromkeys(node_state.PARTS, 0.0), "forward": 11.0, "backward": 2.0, "idle": 3.0}


def test_waiting_in_the_backward_is_communication_and_never_more_than_it() -> None:
    laps = Laps()
    laps.seconds[BACKWARD] = 2.0
    laps.waited = 0.5
    assert (laps.split()[BACKWARD], laps.split()[COMMUNICATION]) == (1.5, 0.5)
    laps.waited = 3.0
    assert (laps.split()[BACKWARD], laps.split()[COMMUNICATION]) == (0.0, 2.0)


def test_a_worker_tells_what_it_is_at() -> None:
    at = memoryview(bytearray(8)).cast("q")
    laps = Laps(at)
    laps.mark(DATA)
    assert node_state.standing(20, at[0]) == "in the forward of step 21"
    laps.mark(FORWARD)
    assert node_state.standing(20, at[0]) == "in the backward of step 21"
    laps.mark(BACKWARD)
    laps.mark(OPTIMIZER)
    assert node_state.standing(21, at[0]) == "after step 21"
    laps.begin(CHECKPOINT)
    assert node_state.standing(21, at[0]) == "in the checkpoint after step 21"
    laps.mark(CHECKPOINT)
    laps.end_step()
    assert node_state.standing(21, at[0]) == "waiting for the data of step 22"


class Device:
    """A GPU that takes 1, 2, 4 and 2 ms for the parts of a step, while its host runs ahead."""

    def __init__(self) -> None:
        self.events = count()
        self.milliseconds = {IDLE: 0.0, DATA: 1.0, FORWARD: 3.0, BACKWARD: 7.0, OPTIMIZER: 9.0}

    def __call__(self) -> Any:
        return Event(list(self.milliseconds.values())[next(self.events) % 5])


class Event:
    def __init__(self, at: float) -> None:
        self.at = at

    def record(self) -> None:
        pass

    def elapsed_time(self, other: Event) -> float:
        return other.at - self.at


def test_on_a_gpu_sampled_steps_say_how_the_time_of_all_divides() -> None:
    device = Device()
    laps = DeviceLaps(event=device)
    for _ in range(4 * SAMPLE_EVERY):
        step(laps)
    laps.begin(CHECKPOINT)
    laps.mark(CHECKPOINT)
    assert next(device.events) <= 5 * 5  # no other step pays for an event
    laps.read()
    split = laps.split()
    assert sum(split) == pytest.approx(sum(laps.seconds))
    assert split[BACKWARD] == pytest.approx(2 * split[FORWARD])
    assert split[FORWARD] == pytest.approx(split[OPTIMIZER])
    assert split[CHECKPOINT] == laps.seconds[CHECKPOINT]
    assert split[IDLE] > split[DATA]  # the host did not wait for data: the device stood still for other reasons


def test_a_save_in_the_middle_of_a_sampled_step_spoils_no_sample() -> None:
    laps = DeviceLaps(event=Device())
    for _ in range(SAMPLE_EVERY):
        step(laps)
    laps.mark(DATA)
    laps.begin(CHECKPOINT)
    laps.mark(CHECKPOINT)
    laps.mark(FORWARD)
    laps.mark(BACKWARD)
    laps.mark(OPTIMIZER)
    laps.read()
    assert laps.split() == laps.seconds
