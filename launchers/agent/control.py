"""What is asked of the workers of a node, by whoever, and how they are made to hear it.

Signals to the agent, notices from the cloud and other nodes all end here. Workers are told by a file and a signal, again
and again, as those that still start don't listen yet; any that have not left in the end are stuck, and are killed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from launchers.notices.notices import SIGNALS, SUPERSEDED, Notice, of_signal
from trainer.job import node_state
from trainer.job.directory import State

GRACE_SECONDS = 120.0
TELL_SECONDS = 0.25
TELL_SAVE_SECONDS = 3.0  # how long workers are told of a warning
EXIT_SECONDS = 1.0  # what the agent itself needs before a deadline


@dataclass(frozen=True)
class Leave:
    """That the workers are to leave: how the job then stands, and why. deadline: in seconds of `time.monotonic()`; here:
    this node's own capacity goes away."""

    state: State
    source: str
    why: str
    deadline: float | None
    here: bool = True
    regroup: bool = False


class Unbegun(BaseException):
    """A signal asks to leave while there are no workers yet; whatever the agent is at, it need not end that."""


class Control:
    """Keeps what was asked and passes it on. `spread` tells the other nodes; it gets the notice."""

    def __init__(self, folder: Path) -> None:
        self.leave: Leave | None = None
        self.now = False
        self.cause: tuple[str, str] | None = None  # the kind and the words of why we killed the workers unasked
        self.spread: Callable[[Notice], None] = lambda notice: None
        self.begun: Callable[[], bool] = lambda: True  # whether the workers have, as far as this node can know
        self.impatient = False  # raises Unbegun from the handler of a signal, until there are workers
        self._folder = folder
        self._pids: list[int] = []
        self._interrupted = False  # by a signal here: what another node was told doesn't count
        self._ask = node_state.asked(folder)
        self._number = self._ask.id if self._ask else 0
        self._lock = threading.RLock()
        self._teller: threading.Thread | None = None
        self._tell_until = 0.0

    def listen(self, early: Sequence[int] = ()) -> None:
        """Takes the signals, those first that came before. Called again whenever a library has put its own handlers in place."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        for each in early:
            self._on_signal(each, None)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        notice = of_signal(signal.Signals(number))
        again = self._interrupted and number == signal.SIGINT
        self._interrupted |= number == signal.SIGINT
        if again or number == signal.SIGQUIT:
            self.now = True
        self.on_notice(notice)
        if self.now:
            self.kill()
        if self.impatient and not self._pids:
            raise Unbegun

    def on_notice(self, notice: Notice) -> None:
        """A notice for this node."""
        if self.leave is None:
            self.spread(notice)
        self.hear(notice)

    def hear(self, notice: Notice, *, here: bool = True, regroup: bool = False) -> None:
        """A notice, for this node or (`here` false) for another one."""
        with self._lock:
            self._hear(notice, here, regroup)

    def _hear(self, notice: Notice, here: bool, regroup: bool) -> None:
        deadline = None if notice.seconds is None else notice.seen + notice.seconds
        named = notice.reason.startswith(notice.source)
        why = notice.reason if named else ": ".join(filter(None, (notice.source, notice.reason)))
        if notice.leave:
            state = State.STOPPED if notice.by_hand else State.INTERRUPTED
            known = self.leave
            if known is not None and (not known.regroup or regroup) and not notice.by_hand and (known.here or not here):
                return
            self.leave = Leave(state, notice.source, why, deadline, here, regroup)
        elif self.leave is not None:
            return
        self._number += 1
        stop = notice.leave and notice.by_hand and notice.source != SUPERSEDED
        self._ask = node_state.Ask(self._number, notice.leave, why, deadline, stop=stop)
        node_state.ask(self._folder, self._ask)
        self._tell_until = time.monotonic() + (GRACE_SECONDS if notice.leave else TELL_SAVE_SECONDS)
        if notice.leave and notice.seconds is not None:
            self._tell_until = min(self._tell_until, time.monotonic() + max(0.5, notice.seconds - EXIT_SECONDS))
        self._tell()
        if self._teller is None or not self._teller.is_alive():
            self._teller = threading.Thread(target=self._keep_telling, daemon=True, name="teller")
            self._teller.start()

    def watch(self, pids: list[int]) -> None:
        """From now on these workers are told."""
        self._pids, self.impatient = pids, False
        self.listen()  # the elastic agent has put its own handlers in place, which kill
        if self.now or self.cause:  # what they were to be ended for came before they were known
            self.kill()
        elif self._ask is not None and (self._ask.leave or time.monotonic() < self._tell_until):
            self._tell()

    def forget(self) -> None:
        """The workers have left; what was asked of them is answered, unless it concerns the job."""
        self._pids, self.cause = [], None
        if self.leave is not None and self.leave.regroup:
            self.leave = None
        if self.leave is None:
            self._ask, self._tell_until = None, 0.0

    def close(self) -> None:
        """The job has ended: nobody is told any more, and signals mean nothing."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._pids, self._tell_until = [], 0.0

    def kill(self, cause: tuple[str, str] | None = None) -> None:
        """Ends the workers at once. `cause`: what was wrong with them, as a kind and in words."""
        self.cause = self.cause or cause
        self._signal(signal.SIGKILL)

    def show_stacks(self) -> None:
        """Has every worker write to its log where it stands; one that was stopped is woken for it."""
        self._signal(signal.SIGUSR2)
        self._signal(signal.SIGCONT)

    def _tell(self) -> None:
        if self.leave is not None and not self.leave.regroup and self._pids and not self.begun():
            self.kill()  # there is nothing to save, and perhaps little time
            return
        self._signal(signal.SIGUSR1)
        if self.leave is not None:  # one that somebody has stopped could not save
            self._signal(signal.SIGCONT)

    def _keep_telling(self) -> None:
        while (left := self._tell_until - time.monotonic()) > 0:
            time.sleep(min(left, TELL_SECONDS))
            if time.monotonic() < self._tell_until:
                self._tell()
        leave = self.leave
        if leave is None or not self._pids or leave.regroup:
            return
        self.now = True
        self.leave = Leave(leave.state, leave.source, f"{leave.why}; the workers did not leave in time", leave.deadline)
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
