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
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from trainer.config import schema
from trainer.errors import HeadwayError, UserError
from trainer.job.directory import Job, State
from trainer.process import clock, scratch
from trainer.testing.chaos import disks
from trainer.testing.chaos.faults import BUCKET, ON_DISK, PRELOADED, World
from trainer.testing.chaos.metadata import MetadataServer
from trainer.testing.chaos.preload import Preload
from trainer.testing.chaos.processes import MARK
from trainer.testing.chaos.report import FaultRecord, Report
from trainer.testing.chaos.run import Run
from trainer.testing.chaos.s3 import Server
from trainer.testing.chaos.schedule import KINDS, ONE_NODE, REMOTE, TWO_NODES, Fault
from trainer.testing.chaos.subject import Subject

LEAST_SECONDS = 1.0  # of training, for a job to be worth disturbing
MISSES = 5  # runs in a row that end before a fault could be given
EVERY_SECONDS = 0.4  # between checkpoints
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
        temporary = self._held.enter_context(scratch.folder("chaos-"))
        metadata = self._held.enter_context(MetadataServer())
        self.world = World(metadata)
        self._environment = {"TMPDIR": str(temporary), "HEADWAY_NOTICE_SECONDS": "0.05", **metadata.environment()}
        self.reference[ONE_NODE] = self.reference[REMOTE] = reference = self._undisturbed(ONE_NODE)
        kinds = {fault.kind for fault in faults}
        if any(KINDS[kind].setting == REMOTE for kind in kinds):
            self.world.s3 = self._held.enter_context(Server(BUCKET, seed=self.report.seed))
        if kinds & set(ON_DISK):
            self._mount(reference, kinds)
        if kinds & set(PRELOADED):
            self._preload(temporary, kinds)

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
        self._held.callback(disks.take_away, disk)
        self.world.disk = disk

    def _preload(self, folder: Path, kinds: set[str]) -> None:
        try:
            self.world.preload = Preload(folder)
        except OSError as error:
            why = f"needs a library of its own: {error}"
            self.report.left_out.update({kind: why for kind in PRELOADED if kind in kinds})

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
                Job(cache / "jobs" / BUCKET / name),
                self._overrides(setting, number),
                environment,
                output,
                url,
            )
        if number and setting == ONE_NODE and self.world.preload is not None:
            environment |= self.world.preload.environment()
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
        trained = clock.seconds(running, subject.events[-1])
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
                    number = len(self.report.runs) + 1
                    subject = self._subject(setting, number)
                    reference = self.reference[setting]
                    run = Run(self.report, self.world, number, subject, setting, reference, self.place)
                outcome = run.meet(waiting[0])
                if outcome is None:  # it ended first: the fault waits for the next run
                    misses = 0 if run.record.faults else misses + 1
                    if misses == MISSES:
                        raise HeadwayError(f"{MISSES} runs in a row ended before a fault could be given")
                else:
                    waiting.pop(0)
                    self.report.faults.append(outcome)
                    self.on_fault(outcome)
                    self.report.write()  # a drill that is ended hard has told what it came to
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


def _on(setting: str) -> str:
    return "" if setting == ONE_NODE else f", {setting}"
