"""A drill: the job undisturbed, then the same job under faults, again and again until all faults are given.

undisturbed run                          what it must come to
for each setting (one node, on S3, two nodes):
    for each fault of the schedule:
        begin a run, if none is under way
        wait for the fault's moment      the job further than it ever was, or saving, or starting
        give it
        wait until the job is back       the command run again whenever it has left
        judge                            where it went on from, and what that cost
    let the last run end; compare every run's weights and metrics with the undisturbed one's
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainer import config as schema
from trainer.chaos import disks, judge
from trainer.chaos.faults import Given, Missed, World, give
from trainer.chaos.metadata import MetadataServer
from trainer.chaos.processes import MARK, send
from trainer.chaos.report import FaultRecord, Report, RunRecord
from trainer.chaos.s3 import Server
from trainer.chaos.schedule import EARLY, KINDS, ONE_NODE, REMOTE, RUNNING, SAVING, STARTING, TWO_NODES, Fault
from trainer.chaos.subject import Subject
from trainer.errors import HeadwayError, UserError
from trainer.job import Job, State

BUCKET = "chaos"
BACK_SECONDS = 90.0  # until a job that was disturbed must be back
SAVING_SECONDS = 5.0
LEAST_SECONDS = 1.0  # of training, for a job to be worth disturbing
MISSES = 5  # runs in a row that end before a fault could be given
EVERY_SECONDS = 0.4  # between checkpoints
ON_DISK = ("disk-full", "io-error")
Say = Callable[[str], None]


@dataclass
class Drill:
    """A drill of the job that `overrides` describe, in the folder `place`."""

    overrides: Sequence[str]
    place: Path
    report: Report
    say: Say
    on_fault: Callable[[FaultRecord], None]
    world: World = field(init=False)
    reference: dict[str, Job] = field(default_factory=dict)  # by setting
    _held: ExitStack = field(default_factory=ExitStack)
    _environment: dict[str, str] = field(default_factory=dict)
    _every: tuple[str, ...] = ()
    _hang: float = 2.0

    def run(self, faults: Sequence[Fault]) -> None:
        """Gives all faults. Raises UserError if the job can't be drilled."""
        with self._held:
            self._prepare(faults)
            for setting in (ONE_NODE, REMOTE, TWO_NODES):
                wanted = [fault for fault in faults if KINDS[fault.kind].setting == setting]
                wanted = [fault for fault in wanted if fault.kind not in self.report.left_out]
                if wanted and self._can(setting, wanted):
                    self._disturb(setting, wanted)

    # what is needed around it

    def _prepare(self, faults: Sequence[Fault]) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        # short: sockets lie there, whose paths can't be long
        scratch = Path(tempfile.mkdtemp(prefix="headway-chaos-"))
        self._held.callback(shutil.rmtree, scratch, ignore_errors=True)
        metadata = self._held.enter_context(MetadataServer())
        self.world = World(metadata)
        self._environment = {"TMPDIR": str(scratch), "HEADWAY_NOTICE_SECONDS": "0.05", **metadata.environment()}
        self.reference[ONE_NODE] = self.reference[REMOTE] = reference = self._undisturbed(ONE_NODE)
        kinds = {fault.kind for fault in faults}
        if any(KINDS[kind].setting == REMOTE for kind in kinds):
            self.world.s3 = self._held.enter_context(Server(BUCKET, seed=self.report.seed))
        if kinds & set(ON_DISK):
            self._mount(reference, kinds)

    def _mount(self, reference: Job, kinds: set[str]) -> None:
        disk, size = self.place / "disk", (32 << 20) + 8 * disks.size_of(reference.dir)
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        try:
            if size > available / 4:
                raise OSError(f"a disk of {size >> 20} MiB in memory is too large here")
            disks.small_disk(disk, size)
        except OSError as error:
            why = f"needs a small disk of its own, and there is none: {error}"
            self.report.left_out.update({kind: why for kind in ON_DISK if kind in kinds})
            return
        self._held.callback(disks.unmount, disk)
        self.world.disk = disk

    def _given(self, key: str) -> bool:
        return any(override.lstrip("+").split("=")[0] == key for override in self.overrides)

    def _overrides(self, setting: str, number: int = 0) -> list[str]:
        """The user's, and ours for what the user left open."""
        ours = {"tracking": "none"}
        if number:
            ours |= {
                "launcher.notices": "[aws,gcp,azure]" if setting == ONE_NODE else "[]",
                "launcher.max_restarts": "1000000",  # a drill kills more often than any cluster
                "train.hang_timeout": f"{self._hang:.3g}s",
                "checkpoint.every": self._every[number % len(self._every)],
            }
        if setting == TWO_NODES:
            ours |= {"launcher.nodes": "2", "launcher.min_nodes": "1", "train.elastic": "exact"}
        return [*self.overrides, *(f"{key}={value}" for key, value in ours.items() if not self._given(key))]

    def _subject(self, setting: str, number: int) -> Subject:
        name = f"run-{number:03d}" if number else "undisturbed" + ("-two-nodes" if setting == TWO_NODES else "")
        output = self.place / f"{name}.log"
        environment = {**self._environment, MARK: uuid.uuid4().hex}
        if setting == REMOTE and self.world.s3 is not None:
            cache = self.place / "cache"
            environment |= {**self.world.s3.environment(), "HEADWAY_CACHE": str(cache)}
            url = f"s3://{BUCKET}/{name}"
            return Subject(
                Job(cache / "jobs" / BUCKET / name), self._overrides(setting, number), environment, output, url
            )
        root = self.world.disk if number and setting == ONE_NODE and self.world.disk else self.place
        return Subject(Job(root / name), self._overrides(setting, number), environment, output)

    def _undisturbed(self, setting: str) -> Job:
        """The job as it runs when nobody disturbs it."""
        subject = self._subject(setting, 0)
        began = time.time()
        try:
            subject.start()
            while subject.left is None:
                subject.pause()
            subject.poll()
        finally:
            subject.end()
        if subject.state is not State.COMPLETED:
            said = subject.output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            words = (said[-1] if said else "it left without a word").removeprefix("error: ")
            raise (UserError if subject.left == 2 else HeadwayError)(words)
        running = next(event for event in subject.events if event["state"] == State.RUNNING)
        trained = subject.events[-1]["time"] - running["time"]
        if trained < LEAST_SECONDS:
            raise UserError(
                f"the job trains for {trained:.1f} s, too short to be disturbed; raise train.epochs, train.max_steps "
                f"or what else says how long it is"
            )
        if setting == ONE_NODE:
            launcher = schema.load(subject.job.config_path)["launcher"]
            if launcher["_target_"] != "launchers.local.Local" or launcher["nodes"] != 1:
                raise UserError("a drill is for jobs of launcher=local on one node; it makes the second one itself")
            rate = max(1, int(subject.events[-1]["step"])) / trained
            self._every = (str(max(1, round(rate * EVERY_SECONDS))), f"{EVERY_SECONDS}s")
            self._hang = max(2.0, 40 / rate)
        steps = int(subject.events[-1]["step"])
        self.report.undisturbed[setting] = {"steps": steps, "seconds": round(time.time() - began, 3)}
        self.say(f"undisturbed: {steps:,} steps, {trained:.1f} s of training" + _on(setting))
        return subject.job

    def _can(self, setting: str, faults: Sequence[Fault]) -> bool:
        """Whether this job can run in a setting; if not, its kinds are left out, with the reason."""
        if setting != TWO_NODES:
            return True
        try:
            self.reference[setting] = self._undisturbed(setting)
        except HeadwayError as error:
            self.report.left_out.update({fault.kind: str(error) for fault in faults})
            return False
        return True

    # one fault after the other

    def _disturb(self, setting: str, faults: Sequence[Fault]) -> None:
        waiting, run, misses, lost = list(faults), None, 0, 0
        try:
            while waiting:
                if run is None:
                    run = _Run(self, self._subject(setting, self._number()), setting)
                outcome = run.meet(waiting[0])
                if outcome is None:  # it ended first: the fault waits for the next run
                    misses = 0 if run.record.faults else misses + 1
                    if misses == MISSES:
                        raise HeadwayError(f"{MISSES} runs in a row ended before a fault could be given")
                else:
                    waiting.pop(0)
                    self.report.faults.append(outcome)
                    self.on_fault(outcome)
                    lost = 0 if outcome.survived else lost + 1
                    if lost == MISSES:
                        raise HeadwayError(f"{lost} faults in a row were not survived; the last: {outcome.why}")
                if outcome is None or not outcome.survived:
                    run.close()
                    run = None
            if run is not None:
                run.finish()
        finally:
            if run is not None:
                run.close()

    def _number(self) -> int:
        return len(self.report.runs) + 1


@dataclass
class _Run:
    """One disturbed run: its record, and the job under way."""

    drill: Drill
    subject: Subject
    setting: str
    record: RunRecord = field(init=False)
    passed: int = 0  # the farthest step when the last fault was over
    _closed: bool = False

    def __post_init__(self) -> None:
        number = self.drill._number()
        self.record = RunRecord(number, self.setting, str(self.subject.url or self.subject.job.dir))
        self.drill.report.runs.append(self.record)
        self._began = time.monotonic()
        self.subject.start()

    def meet(self, fault: Fault) -> FaultRecord | None:
        """Gives a fault at its moment and sees what becomes of the job; None if that ended before."""
        subject = self.subject
        given, why, known, step = Given(time.time()), "", len(subject.resumes), subject.reached
        try:
            fault = self._await(fault)
            known, step = len(subject.resumes), subject.reached
            given = give(fault, subject, self.drill.world)
            why = self._recover(fault, given, known)
        except Missed:
            return None
        except HeadwayError as error:
            why = str(error)
        finally:
            self.drill.world.metadata.clear()
        resumes = subject.resumes[known:]
        self.passed = subject.farthest
        self.record.faults += 1
        lost = judge.steps_lost(fault, given, resumes)
        wrong = judge.wrong_resumes(given, resumes)
        if fault.is_notice and lost:
            wrong.append(f"{lost} steps were lost after a notice")
        return FaultRecord(
            **fault.record(),
            run=self.record.number,
            at=round(given.at - self.drill.report.began, 3),
            words=given.words,
            step=step,
            resumed=[resume.step for resume in resumes],
            steps_lost=lost,
            recovery_seconds=self._seconds(given, resumes),
            survived=not why,
            why=why,
            wrong=wrong,
        )

    def _seconds(self, given: Given, resumes: Sequence[Any]) -> float | None:
        if resumes:
            return round(max(0.0, resumes[0].time - given.at), 3)
        back = given.details.get("back")
        return None if back is None else round(max(0.0, back - (given.lifted or given.at)), 3)

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
        self.drill.world.metadata.clear()
        self.subject.start()

    # what becomes of it

    def _recover(self, fault: Fault, given: Given, known: int) -> str:
        """Waits until the job is back. Returns why it isn't; empty if it is. Raises Missed if the fault came too late."""
        subject, lasting = self.subject, given.lifted is not None
        events, saved = len(subject.events), max(subject.whole(), default=0)
        goes_on = lasting or fault.kind == "warning"
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
            if back and state is State.RUNNING:
                return ""
            if goes_on and state is State.RUNNING and len(subject.resumes) == known:
                newest = max(subject.whole(), default=0)
                if newest > saved or (fault.kind == "warning" and newest >= given.details["step"]):
                    given.details["back"] = time.time()
                    return ""
        return f"not back within {BACK_SECONDS:.0f} s; its state is {subject.state.value}"

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
        subject, record, drill = self.subject, self.record, self.drill
        end = time.monotonic() + 30
        while subject.state is State.COMPLETED and subject.left is None and time.monotonic() < end:
            subject.pause()
        record.state = subject.state.value
        record.seconds = round(time.monotonic() - self._began, 3)
        if subject.state is State.COMPLETED:
            behind = subject.left_behind()
            record.problems += [f"{len(behind)} processes were left behind"] if behind else []
            reference = drill.reference[self.setting]
            record.weights, record.metrics, problems = judge.compare(subject.job, reference)
            record.problems += problems + self._compare_remote(reference)
        record.problems += subject.problems
        subject.end()
        if not record.problems and subject.state is State.COMPLETED:
            disks.drop_what_is_large(subject.job.dir)
        kept = drill.place / subject.job.name
        if kept != subject.job.dir and subject.job.dir.exists():
            shutil.move(subject.job.dir, kept)

    def _compare_remote(self, reference: Job) -> list[str]:
        """What of the model on S3 isn't as it should be."""
        s3 = self.drill.world.s3
        if self.setting != REMOTE or s3 is None:
            return []
        prefix = f"{self.subject.job.name}/model/"
        stored = {k.removeprefix(prefix): v.data for k, v in s3.stored(BUCKET).items() if k.startswith(prefix)}
        problems = judge.differing_files(stored, judge.weights_of(reference.model))
        if problems:
            self.record.weights = False
        return [f"on S3: {problem}" for problem in problems]


def _on(setting: str) -> str:
    return "" if setting == ONE_NODE else f", {setting}"
