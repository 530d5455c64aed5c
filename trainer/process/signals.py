"""A command that is told to leave: by Ctrl-C, a person's wish; by SIGTERM or SIGHUP, as machines, clusters and closed
terminals say it.

It hears from its first moment on. What it has not begun yet it drops at once; from when it submits something it is `held`:
what comes then is kept until it is taken, and nothing is broken off in the middle. Standard library only, and little of it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from trainer.errors import ExitCode

ASKS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 3  # so many Ctrl-C, and the command doesn't wait even for what it has told to end at once


class Leave(KeyboardInterrupt):
    """SIGTERM or SIGHUP came while nothing was under way that must be left in order; kept: what is under way goes on by itself."""

    def __init__(self, number: int, *, kept: bool = False) -> None:
        super().__init__(signal.Signals(number).name)
        self.kept = kept
        self.exit_code = 128 + number  # of what can't go on, or needs nobody for it


def exit_code(asked: KeyboardInterrupt, *, can_go_on: bool) -> int:
    """With which a command leaves that was broken off."""
    if not isinstance(asked, Leave):
        return ExitCode.STOPPED
    return ExitCode.INTERRUPTED if can_go_on and not asked.kept else asked.exit_code


class Asks:
    """What a command was told, in order, each taken once. A machine's word counts once, however often it is said."""

    def __init__(self) -> None:
        self._waiting: list[int] = []
        self.by_hand = 0  # how many of those that came were Ctrl-C
        self.by_machine = 0

    def add(self, number: int) -> None:
        by_hand = number == signal.SIGINT
        self.by_hand += by_hand
        self.by_machine += not by_hand
        if by_hand or self.by_machine == 1:
            self._waiting.append(number)

    def take(self) -> list[int]:
        """What came since the last call and asks for more than before."""
        return [self._waiting.pop(0) for _ in range(len(self._waiting))]


_asks = Asks()  # of whoever holds
_held = False
_told: list[int] = []  # to this command, ever
_handlers: dict[int, Callable[[int, FrameType | None], None]] = {}


def hear() -> None:
    """From now on, for a command. What nohup, or a shell for its background jobs, has it ignore stays ignored; SIGTERM never
    does, by which machines end what they then kill."""
    _told.clear()
    for number in ASKS:
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            _handlers[number] = _on_signal
    hear_again()


def hear_again() -> None:
    """For whoever holds, when a library has put handlers of its own in place."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in _handlers.items():
            signal.signal(number, handler)


def _on_signal(number: int, frame: FrameType | None) -> None:
    _told.append(number)
    if not _held:
        raise _error(number)
    _keep(number, frame)


def _keep(number: int, frame: FrameType | None) -> None:
    _asks.add(number)
    if _asks.by_hand >= PATIENCE:
        raise KeyboardInterrupt


def _error(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Leave(number)


@contextmanager
def held() -> Iterator[Asks]:
    """Meanwhile nothing is broken off; whoever holds takes what was asked, and heeds it. Raises Leave, or KeyboardInterrupt, if
    the command was asked before: nothing new is begun then, even if a library has swallowed that.

    Called from Python, where no command hears, it is so with Ctrl-C alone, and in the main thread, where that arrives.
    """
    global _asks, _held
    if threading.current_thread() is not threading.main_thread() or _held:
        yield Asks()
        return
    if _told:
        raise _error(_told[0])
    _asks, _held = Asks(), True
    borrowed = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if borrowed:
        _handlers[signal.SIGINT] = _keep
        hear_again()
    try:
        yield _asks
    finally:
        _held = False
        if borrowed:
            del _handlers[signal.SIGINT]
            signal.signal(signal.SIGINT, signal.default_int_handler)
