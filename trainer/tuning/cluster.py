"""The Ray that trials run on: one of this command's own, which leaves nothing behind, or a cluster that is there.

Ray's own is bound to the loopback interface, asks for a token that nobody else has, and tells nobody of its use.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import UserError

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
    """folder: for Ray Tune's own files, of no use afterwards. resources: all that the nodes have."""

    folder: Path
    resources: Mapping[str, float]


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """A Ray to run trials on. Raises UserError if there is none at the address."""
    with _environment(QUIET if address else {**QUIET, **ALONE, "RAY_AUTH_TOKEN": _token()}):
        import ray

        folder = Path(tempfile.mkdtemp(prefix="headway-ray-"))
        ours = not ray.is_initialized()  # whoever calls from Python may be connected already
        try:
            if ours and address is None:
                _start(folder)
            elif ours and address is not None:
                _join(address)
            yield Cluster(folder, ray.cluster_resources())
        finally:
            if ours:
                ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def _token() -> str:
    """Known to this process and the Ray it starts. Ray keeps the first that a process has."""
    return secrets.token_hex(16)


def _start(folder: Path) -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=len(os.sched_getaffinity(0)),
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=STORE_BYTES,
        _temp_dir=str(folder),
    )


def _join(address: str) -> None:
    import ray

    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, runtime_env={"env_vars": dict(SPARED)})
    except (ConnectionError, ValueError, RuntimeError) as error:
        what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"ray.address: no Ray answers at {address!r} ({what}); start one, or leave it out") from None


@contextlib.contextmanager
def _environment(added: Mapping[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in added}
    os.environ.update({key: value for key, value in added.items() if before[key] is None or key in ALONE})
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


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
