"""Runs one process of a script under mpirun: in its host's folder, and with its lines whole and by its name in the log.

    python rank.py COMMAND…

mpirun passes on pieces of lines as they come. Here every line is written at once, with the rank before it as mpirun's own
`--tag-output` does. Asked to leave, it leaves with 0 when the script has: else mpirun would kill the others in the middle of
what they do. Standard library only: it runs as a script.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

LONGEST = 1 << 20  # bytes of a line, after which it is written in parts
LISTEN_SECONDS = 5.0  # for what a script said last to arrive


def main(command: list[str]) -> int:
    place, asked = Path(os.environ["HEADWAY_MPI"]), []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.append(True))
    os.chdir(os.environ["HEADWAY_MPI_CODE"])
    rank = os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ.get("PMIX_RANK") or "0"
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=hear
        )
    except OSError as error:
        print(f"{command[0]} can't be run: {error.strerror}", flush=True)
        return 127
    (place / f"rank-{os.getpid()}").touch()
    if (place / "asked").exists():  # before this one was there
        os.killpg(0, signal.SIGTERM)
    assert child.stdout is not None
    source, tag = child.stdout.fileno(), f"[1,{rank}]<stdout>:".encode()
    listener = threading.Thread(target=listen, args=(source, place, tag), daemon=True)
    listener.start()
    code = child.wait()
    listener.join(LISTEN_SECONDS)  # what the script has left behind may hold the other end
    code = code if code >= 0 else 128 - code
    if asked:
        return 0
    if code:
        with contextlib.suppress(OSError), open(place / "failed", "x", encoding="ascii") as file:  # the first one
            file.write(f"{rank} {code}")
    return code


def hear() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def listen(source: int, place: Path, tag: bytes) -> None:
    """Carries what comes to the log, until its end."""
    output = os.open(place / "output", os.O_WRONLY | os.O_APPEND)
    lock = os.open(place / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    rest = b""
    while data := os.read(source, 1 << 16):
        *lines, rest = re.split(rb"[\r\n]", rest + data)
        if len(rest) > LONGEST:
            lines, rest = [*lines, rest], b""
        write(output, lock, tag, lines)
    write(output, lock, tag, [rest] if rest else [])


def write(output: int, lock: int, tag: bytes, lines: list[bytes]) -> None:
    data = b"".join(tag + line + b"\n" for line in lines if line)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(output, data) :]
    fcntl.flock(lock, fcntl.LOCK_UN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
