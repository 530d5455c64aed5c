"""The Ray that trials run on: one of this command's own (`trainer.process.local_ray`), or a cluster that is there."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.errors import HeadwayError, UserError
from trainer.process import local_ray
from trainer.process.environment import variables

ANSWER_SECONDS = 5.0
QUIET = {
    **local_ray.QUIET,
    **local_ray.PATIENT,
    "RAY_TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the job directories have it all
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # nothing of Tune's own state is needed again
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_THRESHOLD_S": "60",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
}


@dataclass(frozen=True)
class Cluster:
    """folder: for Ray Tune's own files, of no use afterwards. resources: all that the nodes have. processes: those of a Ray
    of this command's own, by their names, without which it is none."""

    folder: Path
    resources: Mapping[str, float]
    processes: Mapping[str, int] = field(default_factory=dict)

    def gone(self) -> list[str]:
        """The names of those of its processes that have ended."""
        return [name for name, pid in self.processes.items() if not _runs(pid)]

    def check(self) -> None:
        """Raises HeadwayError if the Ray of this command's own has ended: Tune would wait for it without end."""
        gone = self.gone()
        if gone:
            raise HeadwayError(
                f"the Ray that followed the trials has ended (its {gone[0]} was killed, or died); resume the study"
            )


@contextlib.contextmanager
def connected(address: str | None, tell: Callable[[str], None] = print) -> Iterator[Cluster]:
    """A Ray to run trials on. tell: gets a line while one of this command's own is slow to start. Raises UserError if there is none
    at the address, HeadwayError if none can be started."""
    alone = {} if address else {**local_ray.ALONE, "RAY_AUTH_TOKEN": local_ray.token()}
    asked = {key: os.environ.get(key, value) for key, value in QUIET.items()}
    with variables({**asked, **alone}), local_ray.private_folder() as folder:
        import ray

        ours = not ray.is_initialized()  # whoever calls from Python may be connected already
        try:
            if ours and address is None:
                local_ray.start(folder, int(own_processors()["CPU"]), tell)
            elif ours and address is not None:
                _join(address)
            yield Cluster(folder, ray.cluster_resources(), _started() if ours and address is None else {})
        finally:
            if ours:
                ray.shutdown()


def _started() -> dict[str, int]:
    """The processes of a Ray that this one has started."""
    found = {}
    for pid in local_ray.children():
        with contextlib.suppress(OSError):  # it has just ended
            found[Path(f"/proc/{pid}/comm").read_text().strip()] = pid
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
        ray.init(
            address=address,
            log_to_driver=False,
            configure_logging=False,
            runtime_env={"env_vars": dict(local_ray.SPARED)},
        )
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
