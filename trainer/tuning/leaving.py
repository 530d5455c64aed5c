"""A study's driver that is told to go: by Ctrl-C, by a closed terminal, by a cluster."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from trainer.tuning.engine import Engine

LEAVES = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def told_to_leave(engine: Engine) -> Iterator[Callable[[], None]]:
    """The first signal lets what runs save its state and leave, a second ends it at once, a third ends the wait for that.

    A signal that is ignored, as nohup wants it, stays so. Gives what to call once Ray has started: it puts handlers of its
    own in their place.
    """
    told: list[int] = []

    def handle(number: int, frame: Any) -> None:
        told.append(number)
        if len(told) > 2:
            raise KeyboardInterrupt
        engine.leave(signal.Signals(number).name, now=len(told) > 1)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    heeded = [number for number in LEAVES if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.getsignal(number) for number in heeded}

    def heed() -> None:
        for number in heeded:
            signal.signal(number, handle)

    heed()
    try:
        yield heed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
