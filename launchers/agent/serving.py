"""What makes an agent a warm one: it takes one job after the other from whoever started it; see `launchers.agent.warm_pool`.

Between two jobs nothing is left of the first: its log is closed, its signals mean nothing, its folder is gone. A job that
ends in an unforeseen way ends the agent, as nobody knows what it leaves behind.
"""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing.process
import os
import queue
import select
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from launchers.notices.notices import SIGNALS
from trainer.errors import UserError
from trainer.process import scratch

ENDS = (signal.SIGTERM, signal.SIGHUP)  # an idle agent too; the other signals are meant for jobs


def serve(run: Callable[[list[str]], int], folder: str) -> int:
    """Runs jobs until whoever started this process closes its standard input, or dies.

    run: runs one job, of these arguments, and gives its exit code. folder: for what outlives a job; removed at the end.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    def rest() -> None:
        for number in SIGNALS:
            signal.signal(number, leave if number in ENDS else signal.SIG_IGN)

    held = ExitStack()
    held.enter_context(scratch.owned(Path(folder)))  # to the end of this process
    # where multiprocessing puts its sockets: by itself it makes a folder that only an exit in order removes
    process: Any = multiprocessing.process.current_process()
    process._config["tempdir"] = folder
    channel = socket.socket(fileno=os.dup(0))  # no other process shall inherit it
    _point(os.devnull, 0)
    rest()
    env = dict(os.environ)
    requests = Requests(channel)
    for number, request in requests:
        _point(request["log"], 1, 2)
        for sign in SIGNALS:  # as a process finds them that begins
            signal.signal(sign, signal.SIG_DFL)
        _answer(channel, taken=number)
        try:
            code = run(request["arguments"])
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 2
        requests.busy(False)
        rest()
        os.environ.clear()
        os.environ.update(env)
        _point(os.devnull, 1, 2)
        _answer(channel, ended=number, code=code)
        gc.collect()  # the job's store, with its sockets and threads, goes now and not some jobs later
    shutil.rmtree(folder, ignore_errors=True)
    return 0


class Requests:
    """The requests as they come, numbered from 1. They end with the process that makes them; if a job runs then, it is
    interrupted in order, as by a signal.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._busy = self._ended = False
        self._watched: list[Any] = [channel]
        with contextlib.suppress(OSError):  # an old kernel
            # a process that was forked from it may hold the other end of the channel, and live on
            self._watched.append(os.pidfd_open(os.getppid()))
        threading.Thread(target=self._read, daemon=True, name="requests").start()

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        number = 0
        while (request := self._queue.get()) is not None and self.busy(True):
            number += 1
            yield number, request

    def busy(self, busy: bool) -> bool:
        """Whether a job may begin, or could while this one ran."""
        with self._lock:
            self._busy = busy
            return not self._ended

    def _read(self) -> None:
        text = b""
        while more := self._receive():
            *lines, text = (text + more).split(b"\n")
            for line in lines:
                self._queue.put(json.loads(line))
        with self._lock:
            self._ended = True
            if self._busy:
                os.kill(os.getpid(), signal.SIGTERM)
        self._queue.put(None)

    def _receive(self) -> bytes:
        """What comes next; b"" at the end."""
        ready, _, _ = select.select(self._watched, [], [])
        try:
            return self._channel.recv(1 << 16) if self._channel in ready else b""
        except ConnectionError:
            return b""


def _answer(channel: socket.socket, **words: int) -> None:
    try:
        channel.sendall(json.dumps(words).encode() + b"\n")
    except ConnectionError:
        return  # nobody listens any more, which ends the requests too


def _point(path: str, *descriptors: int) -> None:
    """Has these file descriptors read from and write to a file from here on."""
    sys.stdout.flush()
    sys.stderr.flush()
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    for descriptor in descriptors:
        os.dup2(opened, descriptor)
    os.close(opened)
