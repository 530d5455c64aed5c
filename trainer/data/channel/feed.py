"""A channel as a stream: a FIFO for each epoch, `CHANNEL_0`, `CHANNEL_1`, …, as SageMaker's Pipe mode has them.

Each holds all of the host's objects one after the other. The next one is there before the one before it ends. A reader may
leave early: the next epoch is another's. If the data can't be read to its end, the stream doesn't end either, as a part of it
would be taken for all: `error` says why.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from trainer.data.channel.objects import Object, Unit
from trainer.data.channel.spec import GZIP, RECORDIO, Channel
from trainer.errors import HeadwayError

LOOK_SECONDS = 0.05
PIPE_BYTES = 1 << 20
SET_PIPE_SIZE = 1031  # of fcntl(2)
MAGIC = 0xCED7230A  # begins a record
LONGEST = (1 << 29) - 1  # bytes of a record


class Feed:
    """Feeds a channel to whoever reads it, from its making to `close`. order: what comes in an epoch."""

    def __init__(self, channel: Channel, folder: Path, order: Callable[[int], list[Unit]]) -> None:
        self.error = ""
        self._channel, self._folder, self._order = channel, folder, order
        self._closed = threading.Event()
        self._make(0)
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"feed-{channel.name}")
        self._thread.start()

    def close(self) -> None:
        """Takes the FIFOs away: whoever copies or searches the folder later would wait for them."""
        self._closed.set()
        self._thread.join()
        for path in self._folder.glob(f"{self._channel.name}_*"):
            if path.is_fifo():
                path.unlink()

    def _path(self, epoch: int) -> Path:
        return self._folder / f"{self._channel.name}_{epoch}"

    def _make(self, epoch: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path(epoch).unlink()
        os.mkfifo(self._path(epoch), 0o666)

    def _run(self) -> None:
        epoch = 0
        while (fd := self._opened(epoch)) is not None:
            try:
                self._send_all(fd, self._content(self._order(epoch)))
                self._make(epoch + 1)
            except (HeadwayError, OSError, zlib.error, EOFError) as error:
                self.error = f"data.channels.{self._channel.name}: epoch {epoch}: {error}"
                self._closed.wait()
            finally:
                with contextlib.suppress(OSError):
                    self._path(epoch).unlink()
                os.close(fd)
            epoch += 1

    def _opened(self, epoch: int) -> int | None:
        """The epoch's end to write to, once somebody reads; None once closed."""
        while not self._closed.wait(LOOK_SECONDS):
            try:
                fd = os.open(self._path(epoch), os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    continue
                if error.errno == errno.ENOENT:  # its folder is being cleared
                    return None
                raise
            with contextlib.suppress(OSError):  # more than a user may have
                fcntl.fcntl(fd, SET_PIPE_SIZE, PIPE_BYTES)
            return fd
        return None

    def _send_all(self, fd: int, content: Iterable[bytes]) -> None:
        """Until all is sent, or nobody reads any more, or this is closed."""
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        for data in content:
            rest = memoryview(data)
            while rest:
                if self._closed.is_set():
                    return
                try:
                    rest = rest[os.write(fd, rest) :]
                except BlockingIOError:
                    poll.poll(LOOK_SECONDS * 1000)
                except BrokenPipeError:
                    return

    def _content(self, units: Iterable[Unit]) -> Iterator[bytes]:
        for one in (one for unit in units for one in unit):
            data = _unpacked(one) if self._channel.compression == GZIP else one.read()
            if self._channel.record_wrapping == RECORDIO:
                yield record(b"".join(data), one.name)
            else:
                yield from data


def record(data: bytes, name: str) -> bytes:
    """An object as a record of RecordIO: what begins one, its length, itself, and zeros up to a multiple of four bytes.
    Raises HeadwayError for one that is too long."""
    if len(data) > LONGEST:
        raise HeadwayError(f"{name} has {len(data):,} bytes; a record of RecordIO has {LONGEST:,} at most")
    return struct.pack("<II", MAGIC, len(data)) + data + bytes(-len(data) % 4)


def _unpacked(one: Object) -> Iterator[bytes]:
    """What a .gz of any number of members holds. Raises EOFError for one that is cut off."""
    unpack, began = zlib.decompressobj(wbits=31), False
    for data in one.read():
        while data:
            began = True
            yield unpack.decompress(data)
            data = b""
            if unpack.eof:
                data, unpack, began = unpack.unused_data, zlib.decompressobj(wbits=31), False
    if began:
        raise EOFError(f"{one.name} is no whole .gz")
