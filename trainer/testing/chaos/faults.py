"""How each kind of fault is given. A function returns once its fault is given and, if it lasts, over again."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.job import checkpoint
from trainer.process import clock
from trainer.testing.chaos import disks
from trainer.testing.chaos.metadata import MetadataServer
from trainer.testing.chaos.preload import Preload
from trainer.testing.chaos.processes import dies_with_us, marked, send, wait_dead
from trainer.testing.chaos.s3 import Server
from trainer.testing.chaos.schedule import Fault
from trainer.testing.chaos.subject import Subject

BUCKET = "chaos"
ON_DISK = ("disk-full", "io-error")  # need a small disk of their own
PRELOADED = ("clock", "disk-slow")  # need a compiler
UPLOAD_SECONDS = 5.0
DEATH_SECONDS = 10.0
ROUND_SECONDS = 60.0
WORKERS_SECONDS = 60.0


@dataclass
class World:
    """What a drill has around its jobs: clouds, S3, a small disk of its own, a clock and a slow disk. None is not there."""

    metadata: MetadataServer
    s3: Server | None = None
    disk: Path | None = None
    preload: Preload | None = None


@dataclass
class Given:
    """A fault that was given. at, up: when, in unix seconds and since this machine was started; words: what exactly; lifted: when it was over (up), for one that lasts;
    floor: the step of the newest whole checkpoint then."""

    at: float
    up: float = field(default_factory=lambda: up())
    words: str = ""
    lifted: float | None = None
    floor: int = 0
    details: dict[str, Any] = field(default_factory=dict)


class Missed(Exception):
    """The job ended before the fault could be given."""


def give(fault: Fault, subject: Subject, world: World) -> Given:
    """Gives a fault to a job that runs. Raises Missed if it came too late."""
    subject.poll()
    if subject.state.is_final:
        raise Missed
    whole = subject.whole()
    given = Given(time.time(), floor=whole[-1] if whole else 0)
    GIVE[fault.kind](fault, subject, world, given)
    return given


def _workers(subject: Subject) -> list[int]:
    """The workers' process ids, once there are any. Raises Missed if the job ends instead: its last step was done."""
    end = time.monotonic() + WORKERS_SECONDS
    while not (pids := subject.workers()):
        subject.poll()
        if subject.state.is_final or time.monotonic() > end:
            raise Missed
        time.sleep(0.01)
    return pids


def _kill_worker(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    pids = _workers(subject)
    pid = fault.pick(pids)
    given.words = f"worker {pids.index(pid)}"
    send([pid], signal.SIGKILL)


def _kill_agent(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    agents = sorted(subject.agents().values())
    send(agents, signal.SIGKILL)
    wait_dead(agents, DEATH_SECONDS)


def _kill_all(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    everyone = [subject.command, *subject.agents().values(), *subject.workers()]
    send(everyone, signal.SIGKILL)
    wait_dead(everyone, DEATH_SECONDS)


def _sigterm(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    given.words = f"to the {fault.options['to']}"
    send(subject.agents().values() if fault.options["to"] == "agent" else [subject.command], signal.SIGTERM)


def _notice(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    given.words = fault.options["what"]
    world.metadata.give(fault.kind, fault.options["what"], seconds=fault.options.get("seconds"))


def _warning(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    cloud = fault.options["cloud"]
    given.words = {"aws": "rebalance", "gcp": "MIGRATE_ON_HOST_MAINTENANCE"}[cloud]
    given.details["step"] = subject.reached
    world.metadata.give(cloud, given.words)


def _withdrawn(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    _warning(fault, subject, world, given)
    _last(fault.options["seconds"], subject)
    world.metadata.clear()
    given.lifted = up()


def _storm(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    """The job is farther each time: killed again and again at one step it is right to give up."""
    given.words = f"{fault.options['times']} times"
    for i in range(fault.options["times"]):
        pids = _workers(subject)
        end, known, farther = time.monotonic() + ROUND_SECONDS, len(subject.resumes), subject.reached + 1
        send([pids[(i + int(fault.draw * 10)) % len(pids)]], signal.SIGKILL)
        while len(subject.resumes) == known or subject.reached <= farther:
            subject.pause()
            if subject.state.is_final or subject.left is not None or time.monotonic() > end:
                return


def _clock(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    assert world.preload is not None
    ahead = fault.options["ahead"]
    given.words = f"{'-' if ahead < 0 else '+'}{abs(ahead) // 3600} h"
    world.preload.set_clock(ahead)
    given.lifted = up()


def _disk_slow(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    assert world.preload is not None
    given.words = f"{fault.options['milliseconds']} ms more"
    world.preload.slow_disk(fault.options["milliseconds"])
    _last(fault.options["seconds"], subject)
    world.preload.slow_disk(0)
    given.lifted = up()


def _s3_killed(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    assert world.s3 is not None
    seen, end = len(world.s3.requests), time.monotonic() + UPLOAD_SECONDS
    uploads = re.compile(r"PUT .*/checkpoints/|POST .*/checkpoints/")
    while time.monotonic() < end and not any(map(uploads.match, world.s3.requests[seen:])):
        subject.pause()
        if subject.state.is_final:
            raise Missed
    with world.s3.killed():
        _last(fault.options["seconds"], subject)
    given.lifted = up()


def up() -> float:
    """Seconds since this machine was started: a clock that no fault sets."""
    return float(clock.now()["up"])


def _hang(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    pids = _workers(subject)
    stopped = pids if fault.options["who"] == "all" else [fault.pick(pids)]
    given.words = f"worker {', '.join(str(pids.index(pid)) for pid in stopped)}"
    send(stopped, signal.SIGSTOP)


def _disk_full(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    assert world.disk is not None
    with disks.full(world.disk):
        _last(fault.options["seconds"], subject)
    given.lifted = up()


def _io_error(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    given.words = fault.options["how"]
    if fault.options["how"].startswith("read-only"):
        subject.job.checkpoints.mkdir(parents=True, exist_ok=True)  # a run that was just begun has none yet
        with disks.read_only(subject.job.dir if fault.options["how"] == "read-only-job" else subject.job.checkpoints):
            _last(fault.options["seconds"], subject)
    else:
        _limit_files(subject.workers(), 16)
        _last(fault.options["seconds"], subject)
        _limit_files(subject.workers(), resource.RLIM_INFINITY)
    given.lifted = up()


def _limit_files(pids: list[int], size: int) -> None:
    """Lets a process write no file beyond `size`; it gets EFBIG."""
    for pid in pids:
        try:
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
        except (ProcessLookupError, PermissionError):
            continue


def _corrupt(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    while len(subject.whole()) < 2:  # else there would be nothing to fall back to
        if subject.poll() and subject.state.is_final:
            raise Missed
        if subject.left is not None:
            raise Missed
        time.sleep(0.005)
    given.at, given.up = time.time(), up()
    agents, workers = list(subject.agents().values()), subject.workers()
    if fault.options["kill"] == "all":
        send([subject.command, *agents, *workers], signal.SIGKILL)
    else:  # the agent sleeps meanwhile, else it would have started the workers again before the damage is done
        send(agents, signal.SIGSTOP)
        send(workers, signal.SIGKILL)
    wait_dead(workers, DEATH_SECONDS)
    try:
        subject.poll()
        whole = subject.whole()
        if len(whole) < 2 or subject.job.state().is_final:
            raise Missed
        newest = checkpoint.folder(subject.job.checkpoints, whole[-1])
        done = disks.damage(newest, fault.options["how"], fault.draw)
        wrong = checkpoint.problem(newest)
        if wrong is not None:
            subject.count_damaged(whole.pop())
        given.floor, given.words = whole[-1], done if wrong else f"{done}, which changes nothing"
        given.details["checkpoint"] = newest.name
    finally:
        send(agents, signal.SIGCONT)


def _s3(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    assert world.s3 is not None
    given.words = f"{fault.options['rate']:.0%} of requests"
    world.s3.faults(fault.options["rate"])
    _last(fault.options["seconds"], subject)
    world.s3.faults(0.0)
    given.lifted = up()


def _lose_machine(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    assert world.s3 is not None
    everyone = marked(subject.mark)
    send(everyone, signal.SIGKILL)
    wait_dead(everyone, DEATH_SECONDS)
    subject.poll()
    given.floor = max(saved_on(world.s3, subject), default=0)
    shutil.rmtree(subject.job.dir)
    subject.forget()


def saved_on(s3: Server, subject: Subject) -> list[int]:
    """The steps of a job's checkpoints that are complete on S3."""
    start = f"{subject.job.name}/checkpoints/"
    paths = [Path(key.removeprefix(start)) for key in s3.stored(BUCKET) if key.startswith(start)]
    return [checkpoint.step_of(path.parent) for path in paths if path.name == checkpoint.MANIFEST]


def _lose_node(fault: Fault, subject: Subject, world: World, given: Given) -> None:
    number = fault.options["node"]
    agent, workers = subject.agents()[number], subject.workers(number)
    command = Path(f"/proc/{agent}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    known = len(subject.resumes)
    given.words = f"node {number}"
    send([agent, *workers], signal.SIGKILL)
    wait_dead([agent, *workers], DEATH_SECONDS)
    end = time.monotonic() + ROUND_SECONDS
    while len(subject.resumes) == known:  # the other goes on alone
        subject.pause()
        if subject.state.is_final or subject.left is not None or time.monotonic() > end:
            return
    _last(fault.options["away"], subject)
    if subject.state.is_final:
        return
    with open(subject.job.logs / f"node-{number}.log", "ab") as log:
        back = subprocess.Popen(
            command,
            env={**os.environ, **subject.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=dies_with_us(signal.SIGTERM),
        )
    subject.others.append(back)
    end = time.monotonic() + ROUND_SECONDS
    while subject.resumes[-1].world_size < subject.resumes[0].world_size:
        subject.pause()
        if subject.state.is_final or subject.left is not None or time.monotonic() > end:
            return


def _last(seconds: float, subject: Subject) -> None:
    """Waits, and looks at the job meanwhile; ends early when that ends."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not subject.state.is_final and subject.left is None:
        subject.pause()


GIVE: dict[str, Callable[[Fault, Subject, World, Given], None]] = {
    "kill-worker": _kill_worker,
    "kill-agent": _kill_agent,
    "kill-all": _kill_all,
    "sigterm": _sigterm,
    "aws": _notice,
    "gcp": _notice,
    "azure": _notice,
    "warning": _warning,
    "withdrawn": _withdrawn,
    "storm": _storm,
    "clock": _clock,
    "hang": _hang,
    "disk-full": _disk_full,
    "disk-slow": _disk_slow,
    "io-error": _io_error,
    "corrupt": _corrupt,
    "s3": _s3,
    "s3-killed": _s3_killed,
    "lose-machine": _lose_machine,
    "lose-node": _lose_node,
}
