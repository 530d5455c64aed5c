"""Runs mpirun, or the daemon that it wants on another host, so that the ranks of this host hear SIGTERM and nothing is left.

    python launch.py PLACE COMMAND…

By itself mpirun kills its ranks one second after a SIGTERM. So it doesn't get any: each rank of this host does, and has the
time that it needs. Whatever becomes of this process, a second one that waits for its end kills what is left and removes PLACE,
which this one makes.
Leaves with the code of this host's first rank that failed, else with the command's own. Standard library only: it runs as a script.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
REMOVALS = 20  # tries: the worker may just have written an answer there


def main(place: Path, command: list[str]) -> int:
    place.mkdir(mode=0o700)
    write_agent(place / "agent")
    wait, alive = os.pipe()
    session, told = os.pipe()
    sweeper = os.fork()
    if sweeper == 0:
        os.setsid()
        os.close(alive)
        os.close(told)
        sweep(place, wait, session)
        os._exit(0)
    os.close(wait)
    os.close(session)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ask(place))
    (place / "output").symlink_to(f"/proc/{os.getpid()}/fd/1")  # where ranks write
    code = run(place, command, told)
    os.close(told)
    os.close(alive)
    os.waitpid(sweeper, 0)
    return code


def run(place: Path, command: list[str], told: int) -> int:
    """Runs the command to its end, and tells the number of its session."""
    try:
        # cwd: mpirun has its daemons go to the folder that it is in itself, which other hosts may not have
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, cwd="/")
    except OSError as error:
        print(f"[headway] {command[0]} can't be run: {error.strerror}", flush=True)
        return 127
    os.write(told, f"{process.pid}\n".encode())
    code = process.wait()
    failed = place / "failed"
    if failed.is_file():
        rank, _, own = failed.read_text(encoding="ascii").partition(" ")
        print(f"[headway] rank {rank} ended with exit code {own}", flush=True)
        return int(own)
    return code if code >= 0 else 128 - code


def ask(place: Path) -> None:
    """Asks the ranks of this host to leave."""
    (place / "asked").touch()
    for path in place.glob("rank-*"):
        with contextlib.suppress(OSError):
            os.killpg(int(path.name.removeprefix("rank-")), signal.SIGTERM)


def write_agent(path: Path) -> None:
    quoted = "'" + str(HERE / "agent.py").replace("'", "'\\''") + "'"
    python = "'" + sys.executable.replace("'", "'\\''") + "'"
    path.write_text(f'exec {python} -I -S {quoted} {path.parent} "$@"\n', encoding="utf-8")


def sweep(place: Path, wait: int, session: int) -> None:
    """When this file's other process is gone: kills what is left of the command's session, and removes the folder."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # else who listens to it would wait for this one too
        os.dup2(null, fd)
    with contextlib.suppress(OSError):
        while os.read(wait, 1):
            continue
    began = os.read(session, 100).split()
    while began and (left := members(int(began[0]))):
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    for _ in range(REMOVALS):
        shutil.rmtree(place, ignore_errors=True)
        if not place.exists():
            break
        time.sleep(0.1)


def members(session: int) -> list[int]:
    """The live processes of a session."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                state, *rest = Path("/proc", name, "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
                if int(rest[2]) == session and state not in "ZX":
                    found.append(int(name))
    return found


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
