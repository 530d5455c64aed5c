"""Agents that stay: one process runs job after job, so that only the first of them pays for starting Python and torch.

`Warm` belongs to the submitter. It hands a job to an agent that is idle, if there is one that was started under the
very same circumstances (`Setting`), and else starts one. What an agent is told and answers are lines of JSON on a
socket, its standard input:

    to it      {"arguments": [JOB_DIR, "--workers", "2"], "log": FILE}    run this job, as a cold agent would
    from it    {"taken": NUMBER}, then {"ended": NUMBER, "code": EXIT_CODE}    of the job that it counts as NUMBER

An agent that does not take a job at once, or has died, is replaced by a fresh one. All of them end with the submitter.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.process.interpreter import safe

TAKE_SECONDS = 5.0  # an idle agent answers within milliseconds; one that doesn't is stopped, or stuck
LEAVE_SECONDS = 5.0
LIMITS = sorted({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")})


@dataclass(frozen=True)
class Setting:
    """What a process inherits of the one that starts it. A warm agent serves only jobs that would inherit the same: its
    workers are forked from a process whose environment, devices included, was settled when it began."""

    env: tuple[tuple[str, str], ...]
    folder: tuple[str, int, int]  # the working folder: one of the same name may be another one by now
    cores: frozenset[int]
    limits: tuple[tuple[int, int], ...]
    nice: int
    umask: str

    @classmethod
    def now(cls, env: Mapping[str, str]) -> Setting:
        """Of a process that this thread would start with these environment variables."""
        place = os.stat(".")
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return cls(
            env=tuple(sorted(env.items())),
            folder=(os.getcwd(), place.st_dev, place.st_ino),
            cores=frozenset(os.sched_getaffinity(0)),
            limits=tuple(resource.getrlimit(limit) for limit in LIMITS),
            nice=os.getpriority(os.PRIO_PROCESS, 0),
            umask=next((line for line in status.splitlines() if line.startswith("Umask:")), ""),
        )


class Run:
    """A job in a warm agent, in the form of a process (subprocess.Popen) as far as the launcher needs one."""

    def __init__(self, agent: WarmAgent, number: int) -> None:
        self._agent, self._number = agent, number
        self._code: int | None = None
        self.pid = agent.process.pid

    def poll(self) -> int | None:
        """The exit code that a cold agent would have left with; None while the job goes on."""
        if self._code is None:
            self._code = self._agent.code_of(self._number)
        return self._code

    def wait(self, timeout: float = math.inf) -> int:
        """Waits for the end. timeout: seconds. Raises subprocess.TimeoutExpired."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            left = end - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(self._agent.process.args, timeout)
            self._agent.listen(min(left, 1.0))
        return code

    def send_signal(self, number: int) -> None:
        """Signals the agent while it runs this job; later it may run another."""
        with self._agent.lock:
            if self.poll() is None:
                os.kill(self.pid, number)


class WarmAgent:
    """One agent process. `lock` is held while what it does may not change."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], setting: Setting, log: Path) -> None:
        self.setting = setting
        self.lock = threading.RLock()
        self.folder = tempfile.mkdtemp(prefix="headway-")  # short: sockets have names of at most 107 characters
        self._socket, theirs = socket.socketpair()
        with theirs, open(log, "ab") as output:
            # no PR_SET_PDEATHSIG: it fires when the thread ends that started the agent, and this one shall outlive it
            self.process = subprocess.Popen(
                [*command, "--serve", self.folder],
                env={**env, **safe()},
                stdin=theirs.fileno(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._codes: dict[int, int] = {}
        self._taken = self._number = 0
        self._text, self._closed = b"", False

    def run(self, arguments: Sequence[str], log: Path) -> Run:
        """Gives it a job. It must be idle."""
        with self.lock:
            self._number += 1
            request = {"arguments": list(arguments), "log": str(log)}
            with contextlib.suppress(ConnectionError):  # it has died, as one will see
                self._socket.sendall(json.dumps(request).encode() + b"\n")
            return Run(self, self._number)

    def takes(self) -> bool:
        """Whether it has begun with the job that it was given last; waits for its word a little."""
        end = time.monotonic() + TAKE_SECONDS
        while self._taken < self._number and self.process.poll() is None and time.monotonic() < end:
            self.listen(end - time.monotonic())
        self.listen(0.0)
        return self._taken == self._number

    def is_idle(self) -> bool:
        with self.lock:
            self.listen(0.0)
            return self.process.poll() is None and self._number in self._codes

    def code_of(self, number: int) -> int | None:
        """The exit code of a job; of the process, if it died in the middle of it."""
        with self.lock:
            dead = self.process.poll()  # before its last words are read
            self.listen(0.0)
            return self._codes.get(number, dead)

    def listen(self, seconds: float) -> None:
        """Reads what it says, for which it waits so long. Its death ends the wait too."""
        if self._closed:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
            return
        ready = self._poll.poll(1000 * max(0.0, seconds))
        with self.lock:
            while ready and not self._closed and (text := self._receive()):
                *lines, self._text = (self._text + text).split(b"\n")
                for line in lines:
                    self._hear(json.loads(line))

    def _receive(self) -> bytes:
        try:
            text = self._socket.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""
        except ConnectionError:
            text = b""
        self._closed = not text
        return text

    def _hear(self, told: dict[str, int]) -> None:
        if "taken" in told:
            self._taken = told["taken"]
        else:
            self._codes[told["ended"]] = told["code"]

    def end(self, *, now: bool = False) -> None:
        """Has it leave: at once if it is idle, else after its job, which is interrupted in order. now: kills it."""
        with self.lock:
            if now:
                self.process.kill()
                self.process.wait()
                shutil.rmtree(self.folder, ignore_errors=True)
            self._closed = True
            self._socket.close()


class Warm:
    """The warm agents of a submitter. There are as many as jobs ran at the same time."""

    def __init__(self) -> None:
        self._agents: list[WarmAgent] = []
        self._lock = threading.Lock()

    def run(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> Run:
        """Has an agent run a job. command: that of a cold agent, `python -m launchers.agent JOB_DIR …`."""
        program, arguments = command[:3], command[3:]
        setting = Setting.now(env)
        with self._lock:
            while (agent := self._idle(setting)) is not None:
                run = agent.run(arguments, log)
                if agent.takes():
                    return run
                self._drop(agent)
            self._agents.append(WarmAgent(program, env, setting, log))
            return self._agents[-1].run(arguments, log)

    def _idle(self, setting: Setting) -> WarmAgent | None:
        """An idle agent of this setting. The dead are forgotten, and of other settings one makes room for a new one."""
        for agent in [agent for agent in self._agents if agent.process.poll() is not None]:
            self._drop(agent)
        idle = [agent for agent in self._agents if agent.is_idle()]
        for agent in idle:
            if agent.setting == setting:
                return agent
        if idle:
            self._drop(idle[0])
        return None

    def _drop(self, agent: WarmAgent) -> None:
        self._agents.remove(agent)
        agent.end(now=True)

    def end(self) -> None:
        """Ends all agents: the idle ones at once, the others after their jobs, which are interrupted in order."""
        with self._lock:
            for agent in self._agents:
                agent.end()
            self._agents.clear()


_of_processes: dict[int, Warm] = {}


def of_this_process() -> Warm:
    """The warm agents of this process, whichever launcher asks: a study builds one for each of its trials."""
    return _of_processes.setdefault(os.getpid(), Warm())
