"""The Ray that trials run on: one of this command's own, which leaves nothing behind, or a cluster that is there.

Ray's own is bound to the loopback interface, asks for a token that nobody else has, and tells nobody of its use.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from trainer.environment import variables
from trainer.errors import HeadwayError, UserError

PREFIX, LOCK = "headway-ray-", ".lock"
YOUNG_SECONDS = 2.0  # a folder that was just made may not have its lock yet
PATH_LENGTH = 30  # of a folder for temporary files: Ray's sockets in it must stay below 107 bytes
ANSWER_SECONDS = 5.0
STORE_BYTES = 80 << 20  # of the object store: nothing of size passes through it
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the job directories have it all
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # nothing of Tune's own state is needed again
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_THRESHOLD_S": "60",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
}
# An actor's children get SIGKILL from Ray when it ends; without that, agents hear by themselves that they are alone, and
# save what they train
SPARED = {"RAY_kill_child_processes_on_worker_exit": "false"}
# Ray takes the loopback interface for its own where it thinks that there are no clusters; this says so on Linux too
ALONE = {**SPARED, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}


@dataclass(frozen=True)
class Cluster:
    """folder: for Ray Tune's own files, of no use afterwards. resources: all that the nodes have. processes: those of a Ray
    of this command's own, by their names, without which it is none."""

    folder: Path
    resources: Mapping[str, float]
    processes: Mapping[str, int] = field(default_factory=dict)

    def check(self) -> None:
        """Raises HeadwayError if the Ray of this command's own has ended: Tune would wait for it without end."""
        gone = [name for name, pid in self.processes.items() if not _runs(pid)]
        if gone:
            raise HeadwayError(
                f"the Ray that followed the trials has ended (its {gone[0]} was killed, or died); resume the study"
            )


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """A Ray to run trials on. Raises UserError if there is none at the address."""
    added = QUIET if address else {**QUIET, **ALONE, "RAY_AUTH_TOKEN": _token()}
    with variables({key: value if key in ALONE else os.environ.get(key, value) for key, value in added.items()}):
        import ray

        folder, lock = _folder()
        ours = not ray.is_initialized()  # whoever calls from Python may be connected already
        try:
            if ours and address is None:
                _start(folder)
            elif ours and address is not None:
                _join(address)
            yield Cluster(folder, ray.cluster_resources(), _started() if ours and address is None else {})
        finally:
            if ours:
                ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()


def _folder() -> tuple[Path, IO[str]]:
    """A new folder, and a file that holds its lock while this process lives; those of the dead are removed."""
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


@functools.cache
def _token() -> str:
    """Known to this process and the Ray it starts. Ray keeps the first that a process has."""
    return secrets.token_hex(16)


def _start(folder: Path) -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=int(own_processors()["CPU"]),
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=STORE_BYTES,
        _temp_dir=str(folder),
    )


def _started() -> dict[str, int]:
    """The processes of a Ray that this one has started."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            with contextlib.suppress(OSError):  # it has just ended
                found[Path(f"/proc/{pid}/comm").read_text().strip()] = int(pid)
    return {name: found[name] for name in ("raylet", "gcs_server") if name in found}


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def own_processors() -> dict[str, float]:
    """What a Ray of this command's own has of processors."""
    return {"CPU": float(len(os.sched_getaffinity(0)))}


def _join(address: str) -> None:
    import ray

    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself tries for long
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        ray.init(address=address, log_to_driver=False, configure_logging=False, runtime_env={"env_vars": dict(SPARED)})
    except (OSError, ValueError, RuntimeError) as error:
        what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"ray.address: no Ray answers at {address!r} ({what}); start one, or leave it out") from None


def bundles(workers: int, here: bool, options: Mapping[str, Any], resources: Mapping[str, float]) -> dict[str, float]:
    """What a trial takes of the cluster: its workers' processors and GPUs if they run where it is followed (`here`), else a
    sliver for following it.

    Raises UserError if no trial could ever run.
    """
    if not here:
        return {"CPU": 0.01}
    gpus = options["gpus_per_worker"]
    if gpus is None:
        gpus = 1.0 if resources.get("GPU") else 0.0
    wanted = {"CPU": float(options["cpus_per_worker"]) * workers, "GPU": float(gpus) * workers}
    for kind, amount in wanted.items():
        there = resources.get(kind, 0.0)
        if amount > there:
            raise UserError(
                f"a trial of {workers} worker{'s' * (workers != 1)} takes {amount:g} {kind}s, and Ray has {there:g}; lower "
                f"launcher.workers or ray.{kind.lower()}s_per_worker"
            )
    return {kind: amount for kind, amount in wanted.items() if amount} or {"CPU": 0.01}


def at_once(bundle: Mapping[str, float], resources: Mapping[str, float], asked: int | None) -> int:
    """Trials that run at a time: as many as were asked for, or fit."""
    fits = min(int(resources.get(kind, 0.0) / amount + 1e-9) for kind, amount in bundle.items())
    return max(1, min(fits, asked) if asked else min(fits, 1000))
