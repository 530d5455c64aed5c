"""Runs one command so that nothing of it outlives whoever started it, and shows it folders where it looks for them.

    python guard.py LIFELINE MOUNTS COMMAND…

LIFELINE is a pipe: a byte there asks the command to leave, and all that it has started (SIGTERM); when its other end closes,
all of them are killed. Asked, it waits for all of them: of a shell script the shell dies first, and what it runs may still be
saving. What the command starts is known wherever it went, as it is this process that gets whoever loses its parent.
MOUNTS, as JSON, are pairs (what, where): the command sees `what` at `where`, and nobody else does. Leaves with the
command's exit code, 128 + N if signal N ended it; with 0 if that was an interpreter's crash after its script's end.
Standard library only: it runs as a script.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000  # of unshare(2)
BIND, RECURSIVE, PRIVATE = 4096, 16384, 1 << 18  # of mount(2)
SUBREAPER = 36  # of prctl(2)
CRASHES = (-signal.SIGABRT, -signal.SIGSEGV)
OF_MPI = "HEADWAY_MPI"  # the variable of a command that is mpi/launch.py: its folder
UNTIL_END = os.path.join(os.path.dirname(os.path.abspath(__file__)), "until_end.py")


def main(lifeline: int, mounts: list[tuple[str, str]], command: list[str]) -> int:
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # whoever sends it here sends it to the command too
        signal.signal(number, lambda number, frame: asked.set())
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    if mounts:
        try:
            show(mounts)
        except OSError as error:
            places = ", ".join(where for _, where in mounts)
            print(
                f"[headway] the script can't be shown {places} here ({error.strerror}): it has its variables",
                flush=True,
            )
    ended, told = os.pipe()
    try:
        child = subprocess.Popen(until_end(command, told), stdin=subprocess.DEVNULL, preexec_fn=hear, pass_fds=[told])
    except OSError as error:
        print(f"{command[0]} can't be run: {error.strerror}", flush=True)
        return 127 if isinstance(error, FileNotFoundError) else 126
    os.close(told)
    threading.Thread(target=heed, args=(lifeline, asked, child.pid), daemon=True).start()
    code = child.returncode = wait(child.pid, asked)
    kill_all()
    if code in CRASHES and has_told(ended):
        print(f"[headway] the script has ended well; {signal.Signals(-code).name} came after its end", flush=True)
        return 0
    return code if code >= 0 else 128 - code


def until_end(command: list[str], told: int) -> list[str]:
    """The command, so that a Python script tells of its end."""
    if command[0] != sys.executable or command[1] == "-m":
        return command
    return [command[0], UNTIL_END, str(told), *command[1:]]


def has_told(ended: int) -> bool:
    os.set_blocking(ended, False)  # what the script has left behind may hold the other end
    try:
        return bool(os.read(ended, 1))
    except BlockingIOError:
        return False


def hear() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def wait(command: int, asked: threading.Event) -> int:
    """Waits for the command, and if it was asked to leave for all others too. Its exit code, -N if signal N ended it."""
    code = None
    while code is None or asked.is_set():
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            break
        if pid == command:
            code = os.waitstatus_to_exitcode(status)
    assert code is not None
    return code


def heed(lifeline: int, asked: threading.Event, command: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(lifeline, 1):
            asked.set()
            for pid in [command] if OF_MPI in os.environ else descendants():  # which asks its ranks by itself
                send(pid, signal.SIGTERM)
    kill_all()
    os.killpg(0, signal.SIGKILL)


def kill_all() -> None:
    """Ends what the command has left, until there is no more of it; what the kernel doesn't let go is not waited for."""
    for _ in range(100):
        left = descendants()
        if not left:
            break
        for pid in left:
            send(pid, signal.SIGKILL)
        time.sleep(0.01)
    if place := os.environ.get(OF_MPI):
        shutil.rmtree(place, ignore_errors=True)


def descendants() -> list[int]:
    """The living processes that this one has started, and those that they have, parents first."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            state, parent = file.read().rpartition(b")")[2].split()[:2]
            if state not in (b"Z", b"X"):
                children.setdefault(int(parent), []).append(int(name))
    found = [os.getpid()]
    for pid in found:  # it grows meanwhile
        found += children.get(pid, [])
    return found[1:]


def send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def show(mounts: list[tuple[str, str]]) -> None:
    """Gives this process a view of the file system of its own. Raises OSError where the kernel doesn't let it."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    check(libc.unshare(NEW_MOUNTS | (NEW_USER if user else 0)))
    if user:  # the same user in there, so that files stay whose they are
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    check(libc.mount(None, b"/", None, RECURSIVE | PRIVATE, None))
    for what, where in mounts:
        source = os.open(what, os.O_PATH)
        if not os.path.exists(where):
            make_room(libc, where)
        bind(libc, source, where)


def make_room(libc: ctypes.CDLL, where: str) -> None:
    """A folder `where` that is in nobody else's file system: the first above it that there is is laid anew in memory, with all
    that it holds."""
    parent = os.path.dirname(where)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    mode = f"mode={os.stat(parent).st_mode & 0o7777:o}"
    entries = []
    for entry in os.scandir(parent):
        link = os.readlink(entry.path) if entry.is_symlink() else None
        entries.append((entry.path, link, entry.is_dir(), os.open(entry.path, os.O_PATH | os.O_NOFOLLOW)))
    check(libc.mount(b"tmpfs", os.fsencode(parent), b"tmpfs", 0, mode.encode()))
    for path, link, is_folder, held in entries:
        if link is not None:
            os.symlink(link, path)
            continue
        if is_folder:
            os.mkdir(path)
        else:
            open(path, "w").close()
        bind(libc, held, path)
    os.makedirs(where)


def bind(libc: ctypes.CDLL, held: int, where: str) -> None:
    check(libc.mount(f"/proc/self/fd/{held}".encode(), os.fsencode(where), None, BIND | RECURSIVE, None))
    os.close(held)


def check(returned: int) -> None:
    if returned:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]))
