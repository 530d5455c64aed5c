"""What interruptions cost is told by the job's events alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainer.job.account import busy_seconds, interruptions, running_seconds, total_seconds, training_seconds
from trainer.job.directory import Job, State
from trainer.job.result import write_result


def event(time: float, state: State, **details: Any) -> dict[str, Any]:
    return {"time": time, "state": state.value, **details}


def killed_once() -> list[dict[str, Any]]:
    """Runs from second 10, is killed after step 60, goes on from step 50."""
    return [
        event(0, State.PENDING),
        event(5, State.STARTING, attempt=0),
        event(10, State.RUNNING, attempt=0, step=0, seconds=0.0),
        event(22, State.INTERRUPTED, attempt=0, source="worker died", reason="SIGKILL", step=60),
        event(23, State.STARTING, attempt=1),
        event(25, State.RUNNING, attempt=1, step=50, seconds=10.0),
        event(35, State.COMPLETED, attempt=1, step=100),
    ]


def test_an_undisturbed_job_has_no_interruptions() -> None:
    events = [
        event(0, State.PENDING),
        event(5, State.STARTING),
        event(10, State.RUNNING, step=0, seconds=0.0),
        event(20, State.COMPLETED, step=100),
    ]
    assert interruptions(events) == []
    assert total_seconds(events, 20) == 15


def test_a_kill_costs_the_steps_since_the_checkpoint_and_the_time_to_start_again() -> None:
    assert interruptions(killed_once()) == [
        {
            "time": 22.0,
            "source": "worker died",
            "reason": "SIGKILL",
            "step": 60,
            "resumed": 50,
            "steps_lost": 10,
            "seconds_lost": 2.0,  # 12 s of training, of which 10 were saved
            "recovery_seconds": 3.0,
        }
    ]


def test_a_notice_that_was_heeded_loses_no_step() -> None:
    events = killed_once()
    events[3] |= {"source": "aws", "step": 60}
    events[5] |= {"step": 60, "seconds": 11.9}
    [line] = interruptions(events)
    assert (line["steps_lost"], line["seconds_lost"], line["recovery_seconds"]) == (0, 0.0, 3.0)


def test_what_was_trained_before_counts_when_a_later_life_is_lost() -> None:
    """Each life's loss is its own: what it had trained, less what it left behind."""
    events = [
        *killed_once()[:6],
        event(40, State.INTERRUPTED, attempt=1, source="hang", step=125),
        event(41, State.STARTING, attempt=2),
        event(44, State.RUNNING, attempt=2, step=100, seconds=20.0),
    ]
    first, second = interruptions(events)
    assert (first["steps_lost"], first["seconds_lost"]) == (10, 2.0)
    assert (second["steps_lost"], second["seconds_lost"], second["recovery_seconds"]) == (25, 5.0, 4.0)


def test_a_job_without_any_checkpoint_loses_all_it_did() -> None:
    events = killed_once()
    events[5] |= {"step": 0, "seconds": 0.0}
    [line] = interruptions(events)
    assert (line["steps_lost"], line["seconds_lost"]) == (60, 12.0)


def test_a_life_that_never_came_to_train_costs_time_but_no_steps() -> None:
    events = [
        *killed_once()[:5],
        event(24, State.INTERRUPTED, attempt=1, source="worker died", step=0),
        event(25, State.STARTING, attempt=2),
        event(27, State.RUNNING, attempt=2, step=50, seconds=10.0),
    ]
    first, second = interruptions(events)
    assert (first["steps_lost"], first["seconds_lost"], first["recovery_seconds"]) == (10, 2.0, 5.0)
    assert (second["steps_lost"], second["seconds_lost"], second["recovery_seconds"]) == (0, 0.0, 3.0)


def test_as_long_as_the_job_has_not_gone_on_nobody_knows_what_was_lost() -> None:
    [line] = interruptions(killed_once()[:4])
    assert line["step"] == 60
    assert [line[name] for name in ("resumed", "steps_lost", "seconds_lost", "recovery_seconds")] == [None] * 4


def test_an_agents_death_counts_from_when_it_died_not_from_when_it_was_noticed() -> None:
    """The next agent writes it down, hours later perhaps."""
    events = killed_once()
    events[3] = event(4000, State.INTERRUPTED, at=22, attempt=0, source="agent died", step=60)
    for later in events[4:]:
        later["time"] += 4000
    [line] = interruptions(events)
    assert line["time"] == 22
    assert line["source"] == "agent died"
    assert line["seconds_lost"] == 2.0
    assert line["recovery_seconds"] == 4003.0
    assert total_seconds(events, 4035) == 4030  # nobody wished for that wait


@pytest.mark.parametrize("state", [State.STOPPED, State.FAILED])
def test_the_time_a_job_was_stopped_or_had_failed_does_not_count(state: State) -> None:
    events = killed_once()
    events[3] = event(22, state, attempt=0, step=60)
    events[4] = event(1022, State.PENDING, reason="goes on")
    events[5:] = [
        event(1023, State.STARTING, attempt=1),
        event(1025, State.RUNNING, attempt=1, step=60, seconds=12.0),
        event(1035, State.COMPLETED, attempt=1, step=100),
    ]
    assert total_seconds(events, 1035) == 17 + 12


def test_how_a_job_ended_is_no_interruption() -> None:
    for state in (State.STOPPED, State.FAILED, State.COMPLETED):
        events = killed_once()[:3]
        events.append(event(22, state, step=60))
        assert interruptions(events) == []


def test_a_job_that_never_began_took_no_time() -> None:
    assert total_seconds([event(0, State.PENDING)], 100) == 0


def test_result_json_sums_it_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goodput is the part of the time in which steps were trained that count."""
    monkeypatch.setattr("time.time", lambda: 35.0)
    job = Job(tmp_path)
    for line in killed_once()[:-1]:
        when = line.pop("time")
        state = State(line.pop("state"))
        job.add_event(state, **line, at=when)
    outcome = {"step": 100, "training_seconds": 20.0}
    result = write_result(
        job, State.COMPLETED, attempt=1, error=None, wall=1.0, outcome=outcome, last={"time": 35.0, "attempt": 1}
    )
    assert result["seconds"] == {"wall": 30.0, "training": 20.0, "lost": 2.0}
    assert result["goodput"] == round(20 / 30, 4)
    assert result["attempts"] == 2
    assert [line["steps_lost"] for line in result["interruptions"]] == [10]
    assert job.result() == result


def test_a_clock_that_is_set_meanwhile_takes_no_time_away_and_gives_none() -> None:
    """The wall clock goes back a day after the kill, and two days on before the end; the machine's own goes on."""
    walls = [0, 5, 10, 22, 23 - 86400, 25 - 86400, 35 + 86400]
    events = [
        {**line, "time": wall, "up": 1000.0 + line["time"], "boot": "one"}
        for line, wall in zip(killed_once(), walls, strict=True)
    ]
    [line] = interruptions(events)
    assert (line["steps_lost"], line["seconds_lost"], line["recovery_seconds"]) == (10, 2.0, 3.0)
    assert total_seconds(events, {"time": 35 + 86400, "up": 1035.0, "boot": "one"}) == 30
    assert busy_seconds(events, events[-1]) == 17 + 12
    assert training_seconds(events, {"time": 30 - 86400, "up": 1030.0, "boot": "one"}) == 10 + 5


def test_after_another_start_of_the_machine_with_an_older_clock_no_time_is_negative() -> None:
    events = killed_once()
    for i, line in enumerate(events):
        line |= {"up": 1000.0 + line["time"], "boot": "one"} if i < 4 else {"up": 1.0 + i, "boot": "two"}
        line["time"] -= 0 if i < 4 else 86400
    [line] = interruptions(events)
    assert line["recovery_seconds"] == 0
    assert total_seconds(events, events[-1]) == 17 + 2


def test_time_that_workers_ran_counts_whatever_came_of_it() -> None:
    events = killed_once()
    assert running_seconds(events, {"time": 100.0}) == 12 + 10
    assert running_seconds(events[:-1], {"time": 100.0}) == 12 + 75
    assert running_seconds([], {"time": 100.0}) == 0.0
