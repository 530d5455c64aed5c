"""A Ray of a command's own: bound to the loopback interface, with a token that nobody else has, in a folder that nobody else
can enter, and gone when the command is. It tells nobody of its use."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from trainer.errors import HeadwayError
from trainer.process.signals import Leave

PREFIX, LOCK = "headway-ray-", ".lock"
INSIDE = "r"  # Ray opens its folder to everybody: it is one within ours
YOUNG_SECONDS = 2.0  # a folder that was just made may not have its lock yet
PATH_LENGTH = 20  # of a folder for temporary files: Ray's sockets in it must stay below 107 bytes
STORE_BYTES = 80 << 20  # of the object store: nothing of size passes through it
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
# On a busy machine its parts take longer to find each other than Ray waits for them; of the raylet it waits for 30 s in any case
PATIENT = {"RAY_gcs_server_port_wait_time_s": "90", "RAY_gcs_rpc_server_connect_timeout_s": "30"}
TRIES = 4
# An actor's children get SIGKILL from Ray when it ends; without that, agents hear by themselves that they are alone, and
# save what they train
SPARED = {"RAY_kill_child_processes_on_worker_exit": "false"}
# Ray takes the loopback interface for its own where it thinks that there are no clusters; this says so on Linux too
ALONE = {**SPARED, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}


@functools.cache
def token() -> str:
    """Known to this process and the Ray it starts. Ray keeps the first that a process has."""
    return secrets.token_hex(16)


def start(folder: Path, processors: int | None = None, tell: Callable[[str], None] = print) -> None:
    """Starts it, in the folder, and again if it comes up too slowly. The environment has `ALONE` and the token.

    tell: gets a line when it is tried again. Raises HeadwayError if it doesn't start, Leave at SIGTERM; then none of its
    processes is left.
    """
    import ray

    before, in_main = set(children()), threading.current_thread() is threading.main_thread()
    usual = signal.getsignal(signal.SIGTERM)
    try:
        for left in reversed(range(TRIES)):
            try:
                _init(folder, processors)
                return
            except Exception as error:  # Ray raises no narrower one of a node that is slow
                ray.shutdown()
                _end([pid for pid in children() if pid not in before])
                said = (str(error).strip().splitlines() or [type(error).__name__])[0]
                if left:
                    tell(f"Ray did not start, as on a busy machine; it is tried again ({said})")
        raise HeadwayError(
            f"Ray did not start in {TRIES} tries ({said}); see that processors, memory and /dev/shm are free, and try again"
        )
    except (SystemExit, KeyboardInterrupt) as asked:
        _end([pid for pid in children() if pid not in before])
        if isinstance(asked, SystemExit):  # by a handler of Ray's own
            raise Leave(signal.SIGTERM) from None
        raise
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, usual)


def _init(folder: Path, processors: int | None) -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=processors,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=STORE_BYTES,
        _temp_dir=str(folder / INSIDE),
    )


def children(of: int | None = None) -> list[int]:
    """The processes that this one, or another, has started."""
    found = []
    with contextlib.suppress(OSError):  # it has ended
        for task in Path(f"/proc/{of or os.getpid()}/task").iterdir():
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def _end(pids: list[int]) -> None:
    """Kills processes with all that they have started, and waits for these."""
    tree = list(pids)
    for pid in tree:  # grows meanwhile
        tree += children(pid)
    for pid in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder for it, which only this user may enter, removed in the end; those that the dead have left are removed now."""
    folder, lock = _folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _folder() -> tuple[Path, IO[str]]:
    """It, and a file that holds its lock while this process lives."""
    usual = tempfile.gettempdir()
    parent = Path(usual if len(usual) <= PATH_LENGTH else "/tmp")
    for stale in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or just removed
            if _is_stale(stale):
                shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    lock = open(folder / LOCK, "w")  # noqa: SIM115 - it holds the lock while it is open
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def _is_stale(folder: Path) -> bool:
    if folder.stat().st_uid != os.getuid() or time.time() - folder.stat().st_mtime < YOUNG_SECONDS:
        return False
    with open(folder / LOCK, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
