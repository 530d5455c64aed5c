"""One run of a drill's job under faults: each given at its moment, what became of the job judged, its end compared."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainer.errors import HeadwayError
from trainer.job.directory import Job, State
from trainer.testing.chaos import disks, judge
from trainer.testing.chaos.faults import BUCKET, ON_DISK, Given, Missed, World, give, saved_on, up
from trainer.testing.chaos.processes import command_of, send
from trainer.testing.chaos.report import FaultRecord, Report, RunRecord
from trainer.testing.chaos.schedule import EARLY, REMOTE, RUNNING, SAVING, STARTING, Fault
from trainer.testing.chaos.subject import Resume, Subject

BACK_SECONDS = 180.0  # until a job that was disturbed must be back, on a machine that is busy with other things as well
SAVING_SECONDS = 5.0
DEATHS = ("worker died", "agent died", "hang", "lost node")  # sources of interruptions without notice


@dataclass
class Run:
    """One disturbed run: its record, and the job under way.

    reference: the undisturbed job; place: where what is left of the run is kept.
    """

    report: Report
    world: World
    number: int
    subject: Subject
    setting: str
    reference: Job
    place: Path
    record: RunRecord = field(init=False)
    passed: int = 0  # the farthest step when the last fault was over
    _judged: int = 0  # how many times it went on that were judged
    _closed: bool = False

    def __post_init__(self) -> None:
        self.record = RunRecord(self.number, self.setting, str(self.subject.url or self.subject.job.dir))
        self.report.runs.append(self.record)
        self._began = time.monotonic()
        self.subject.start()

    def meet(self, fault: Fault) -> FaultRecord | None:
        """Gives a fault at its moment and sees what becomes of the job; None if that ended before."""
        subject = self.subject
        given, why, known, step = Given(time.time()), "", len(subject.resumes), subject.reached
        try:
            fault = self._await(fault)
            known, step, events = len(subject.resumes), subject.reached, len(subject.events)
            given = give(fault, subject, self.world)
            why = self._recover(fault, given, known, events)
        except Missed:
            return None
        except HeadwayError as error:
            why = str(error)
        finally:
            self.world.metadata.clear()
        self._judge_unasked(known)
        resumes = subject.resumes[known:]
        self.passed, self._judged = subject.farthest, len(subject.resumes)
        self.record.faults += 1
        lost = judge.steps_lost(fault, given, resumes)
        wrong = judge.wrong_resumes(given.floor, resumes) + judge.wrong_losses(fault, lost, resumes)
        return FaultRecord(
            **fault.record(),
            run=self.record.number,
            at=round(given.at - self.report.began, 3),
            words=given.words,
            step=step,
            resumed=[resume.step for resume in resumes],
            steps_lost=lost,
            recovery_seconds=self._seconds(fault, given, resumes),
            survived=not why,
            why=why,
            wrong=wrong,
        )

    def _judge_unasked(self, until: int) -> None:
        """Where it went on for no fault's sake, as after the kill that makes workers start, must be right too."""
        self.record.problems += judge.wrong_resumes(0, self.subject.resumes[self._judged : until])
        self._judged = until

    def _seconds(self, fault: Fault, given: Given, resumes: Sequence[Resume]) -> float | None:
        if resumes:
            back = resumes[-1 if fault.moment == STARTING else 0].up  # the first may be of those who were starting
            return round(max(0.0, back - given.up), 3)
        saved = given.details.get("saved")
        return None if saved is None else round(max(0.0, saved - (given.lifted or given.up)), 3)

    # its moment

    def _await(self, fault: Fault) -> Fault:
        """Waits for the fault's moment. Gives the fault as it really comes. Raises Missed if the job ends first."""
        subject = self.subject
        if fault.moment != EARLY or not subject.resumes:
            self._until(lambda: subject.is_running and subject.reached > self.passed)
        if fault.moment == STARTING:
            attempt = subject.attempt
            send(subject.workers()[:1], signal.SIGKILL)
            self._until(lambda: subject.attempt > attempt and subject.is_up)
        elif fault.moment == SAVING:
            end = time.monotonic() + SAVING_SECONDS
            while not subject.is_saving() and time.monotonic() < end:
                time.sleep(0.001)
            if not subject.is_saving():
                fault = replace(fault, moment=RUNNING)
        end = time.monotonic() + fault.wait
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.01))
            subject.poll()
        if fault.moment != STARTING:
            self._until(lambda: subject.is_running and subject.reached > subject.resumes[-1].step)
        return fault

    def _until(self, there: Callable[[], bool]) -> None:
        """Looks until it is so. Raises Missed if the job ends first, HeadwayError if nothing moves any more."""
        end, known = time.monotonic() + BACK_SECONDS, (0, 0)
        while not there():
            self.subject.pause()
            if known != (now := (self.subject.reached, self.subject.attempt)):
                end, known = time.monotonic() + BACK_SECONDS, now
            if self.subject.state in (State.COMPLETED, State.FAILED, State.STOPPED):
                raise Missed
            if self.subject.left is not None:
                self.again()
            if time.monotonic() > end:
                raise HeadwayError(
                    f"{self.subject.job.dir}: the job does not come up; its log is {self.subject.output}"
                )

    def again(self) -> None:
        """Runs the command again, as whoever has lost a machine does on the next one."""
        self.world.metadata.clear()
        self.subject.start()

    # what becomes of it

    def _recover(self, fault: Fault, given: Given, known: int, events: int) -> str:
        """Waits until the job is back. Returns why it isn't; empty if it is. Raises Missed if the fault came too late.

        known, events: how often it had gone on, and how many events there were, before the fault.
        """
        subject, saved = self.subject, self._saved()
        goes_on = given.lifted is not None or fault.kind == "warning"
        end = time.monotonic() + BACK_SECONDS
        while time.monotonic() < end:
            subject.pause()
            state, left = subject.state, subject.left
            if state is State.COMPLETED:
                interrupted = any(e["state"] == State.INTERRUPTED for e in subject.events[events:])
                if not interrupted and not goes_on and len(subject.resumes) == known:
                    raise Missed
                return ""
            if state is State.STOPPED or (state is State.FAILED and fault.kind not in ON_DISK):
                return f"{state.value}: {subject.events[-1].get('reason')}"
            if left is not None:
                self.again()
            back = len(subject.resumes) > known and subject.reached > subject.resumes[-1].step
            if fault.is_notice and not goes_on:  # workers that were starting anyway are not back from it
                back = back and any(e["state"] == State.INTERRUPTED and _noticed(e) for e in subject.events[events:])
            if back and state is State.RUNNING:
                return ""
            if goes_on and state is State.RUNNING and len(subject.resumes) == known:
                newest = self._saved()
                if newest > saved or ("step" in given.details and newest >= given.details["step"]):
                    given.details["saved"] = up()
                    return ""
        return f"not back within {BACK_SECONDS:.0f} s; its state is {subject.state.value}"

    def _saved(self) -> int:
        """The step of the newest whole checkpoint; of a job on S3, there."""
        s3, subject = self.world.s3, self.subject
        return max(saved_on(s3, subject) if s3 is not None and subject.url else subject.whole(), default=0)

    # its end

    def finish(self) -> None:
        """Lets the job end undisturbed."""
        try:
            self._until(lambda: False)
        except Missed:
            return
        except HeadwayError as error:
            self.record.problems.append(str(error))

    def close(self) -> None:
        """Compares what it came to, and ends what is left of it. What tells nothing more is deleted."""
        if self._closed:
            return
        self._closed = True
        subject, record = self.subject, self.record
        end = time.monotonic() + 30
        while subject.state is State.COMPLETED and subject.left is None and time.monotonic() < end:
            subject.pause()
        record.state = subject.state.value
        record.seconds = round(time.monotonic() - self._began, 3)
        if subject.state is State.COMPLETED:
            behind = subject.left_behind()
            record.problems += [f"a process was left behind: {what}" for what in map(command_of, behind)]
            record.weights, record.metrics, problems = judge.compare(subject.job, self.reference)
            record.problems += problems + self._compare_remote()
        self._judge_unasked(len(subject.resumes))
        record.problems += subject.problems
        subject.end()
        if not record.problems and subject.state is State.COMPLETED:
            disks.drop_what_is_large(subject.job.dir)
        kept = self.place / subject.job.name
        if kept != subject.job.dir and subject.job.dir.exists():
            with contextlib.suppress(OSError):  # what could not be moved stays where it is
                shutil.move(subject.job.dir, kept)

    def _compare_remote(self) -> list[str]:
        """What of the model on S3 isn't as it should be."""
        s3 = self.world.s3
        if self.setting != REMOTE or s3 is None:
            return []
        prefix = f"{self.subject.job.name}/model/"
        stored = {k.removeprefix(prefix): v.data for k, v in s3.stored(BUCKET).items() if k.startswith(prefix)}
        problems = judge.differing_files(stored, judge.weights_of(self.reference.model))
        if problems:
            self.record.weights = False
        return [f"on S3: {problem}" for problem in problems]


def _noticed(event: Mapping[str, Any]) -> bool:
    """Whether an interruption came with notice, and not by a death."""
    return event.get("source") not in (*DEATHS, None)
