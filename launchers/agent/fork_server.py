"""The process that a node's workers are forked from. It has imported what they need, so that each of them, and each
that is started again, pays for that a single time; a warm agent's lasts over many jobs.
"""

from __future__ import annotations

import contextlib
import multiprocessing.forkserver
import multiprocessing.process
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trainer.config.code.signature import class_constant
from trainer.errors import UserError
from trainer.job import code_path

ALWAYS = (
    "trainer.worker.main",
    "algorithms",  # ours, whatever a job's own code calls a package
    "hydra.utils",  # what builds objects from configs
    "omegaconf._impl",
    "xxhash",
    "torch.utils.serialization",
    "torch.distributed.elastic.multiprocessing.api",  # what the elastic agent has each worker begin with
    "multiprocessing.queues",
    "multiprocessing.popen_forkserver",
)
DEAF_TO = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
COMPILER = "torch._dynamo"
BUNDLED = ("Digits", "BreastCancer")  # sources that are numpy arrays
TENSORBOARD = ("tensorboard.compat.proto.event_pb2", "tensorboard.compat.proto.summary_pb2")


def imports(config: dict[str, Any], workers: int = 1, own: Sequence[str] = ()) -> list[str]:
    """The modules that a job's workers will import, as far as its config tells.

    workers: of all its nodes. own: folders of the job's own code. What lies there each worker imports itself: a warm
    agent's next job may have other code of the same name.
    """
    algorithm, data, tracking = (str(config[noun].get("_target_", "")) for noun in ("algorithm", "data", "tracking"))
    modules = list(ALWAYS)
    if workers > 1 or config["train"]["compile"] or config["strategy"]["name"] not in ("auto", "single"):
        modules.append(COMPILER)  # else `trainer.worker.distributed.uncompiled` does without
    source = data.rpartition(".")[2]
    if source in BUNDLED:
        modules += ["trainer.data.files.bundled", "numpy.ctypeslib"]
    elif source not in ("Npy", "Channels"):
        modules.append("datasets")
    if tracking.endswith(".TensorBoard"):
        modules += TENSORBOARD
    with contextlib.suppress(UserError):  # the worker will say what is wrong with it
        with code_path.first(own):
            named = class_constant(algorithm, "imports") or ()
        modules += [name for name in named if not _is_in(own, name.partition(".")[0])]
    return [*modules, "launchers.agent.forked"]


def _is_in(folders: Sequence[str], module: str) -> bool:
    return any(Path(f, f"{module}.py").is_file() or Path(f, module, "__init__.py").is_file() for f in folders)


@contextlib.contextmanager
def started(config: dict[str, Any], folder: Path, workers: int, own: Sequence[str]) -> Iterator[None]:
    """Starts the process, without waiting, unless there is one that has imported all that the job needs.

    folder: where its socket goes, unless a warm agent has settled that. workers: of all the job's nodes. own: folders of
    the job's own code, which meanwhile come first on the path of this process, and so on that of its workers.
    """
    server: Any = multiprocessing.forkserver._forkserver
    modules = imports(config, workers, own)
    if server._forkserver_pid is not None:
        known = list(server._preload_modules)
        lacking = [name for name in modules if name not in known]
        modules = known + lacking
        if lacking:
            with contextlib.suppress(FileNotFoundError):  # its socket: it took that away itself
                server._stop()
    # by itself multiprocessing makes a folder that only an exit in order removes
    process: Any = multiprocessing.process.current_process()
    place = process._config.setdefault("tempdir", str(folder))
    own_temporary = Path(place, "tmp")  # what libraries and scripts leave there goes with it
    own_temporary.mkdir(parents=True, exist_ok=True)  # the process before took it away with itself
    os.environ["TMPDIR"] = str(own_temporary)
    cache = Path(os.environ.get("HEADWAY_CACHE") or "~/.cache/headway").expanduser()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "inductor"))  # compiled once, not for each job
    multiprocessing.forkserver.set_forkserver_preload(modules)
    # inherited. Some tell all processes of a job to leave; workers hear of it from the agent, and this one has to outlive them.
    # A worker that doesn't listen yet must not die of what the agent tells it
    told = {number: signal.signal(number, signal.SIG_IGN) for number in DEAF_TO}
    multiprocessing.forkserver.ensure_running()
    for number, handler in told.items():
        signal.signal(number, handler)
    with code_path.first(own):
        yield
