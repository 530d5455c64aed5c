"""One worker of a job, from its config to its artifact. Imported once, by the process that workers are forked from."""

from __future__ import annotations

import faulthandler
import io
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from trainer.algorithm import Estimator, Module
from trainer.config.code.function import Function
from trainer.config.instantiate import build, build_algorithm
from trainer.config.schema import checkpoint_interval, load_job
from trainer.data.encoding.opened import Later, Opened
from trainer.data.opening import open_data
from trainer.errors import ExitCode, UserError
from trainer.job import checkpoint, node_state
from trainer.job.busy import busy
from trainer.job.directory import Job
from trainer.job.result import more_is_better
from trainer.submission.preflight import refuse_changed, refuse_read_otherwise
from trainer.worker.checkpointing.cadence import Cadence
from trainer.worker.checkpointing.saver import Saver
from trainer.worker.distributed.heap import keep_freed_memory
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.distributed.uncompiled import postpone_compiler
from trainer.worker.failures import record
from trainer.worker.failures.collective_timeout import explained
from trainer.worker.failures.gpu_health import refuse_unhealthy
from trainer.worker.fit_estimator import fit_estimator
from trainer.worker.fit_module import fit_module
from trainer.worker.metrics import Progress, Reporter
from trainer.worker.monitoring import gpu_share
from trainer.worker.monitoring.stragglers import Stragglers
from trainer.worker.monitoring.telemetry import watch
from trainer.worker.monitoring.timing import laps_on
from trainer.worker.tracking import tracker_of
from trainer.worker.training.interruption import Interruption
from trainer.worker.training.session import Session

READING = "worker 0 is reading the data, which is quick once its cache is made"


def run(job_dir: str, attempt: int, node_folder: str) -> dict[str, Any]:
    """Trains as one worker of the job. Returns how it ended; after an error writes it down and leaves with 1."""
    job, rank = Job(Path(job_dir)), int(os.environ["RANK"])
    threading.Thread(target=die_with_agent, daemon=True, name="agent").start()
    for number in (signal.SIGINT, signal.SIGTERM):  # some send it to every process: the agent decides
        signal.signal(number, lambda number, frame: None)
    write_to(job.log_path(attempt, rank))
    faulthandler.register(signal.SIGUSR2, all_threads=True)  # the agent asks a worker that hangs where it stands
    try:
        return train(job, attempt, Path(node_folder))
    except BaseException as error:  # a user's code may raise anything, and exit
        record.record(error, rank, job, attempt)
        os._exit(ExitCode.FAILED)


def die_with_agent() -> None:
    """Waits for the agent's death: without it nobody would end or restart this worker."""
    agent = multiprocessing.parent_process()
    assert agent is not None
    multiprocessing.connection.wait([agent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def write_to(log: Path) -> None:
    """Everything this process prints, native libraries included, goes to the log from here on."""
    log.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True)


def train(job: Job, attempt: int, node_folder: Path) -> dict[str, Any]:
    """Sets a worker up, trains, and writes the artifact."""
    config = load_job(job.config_path)
    threads = threads_of_worker(os.environ)
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        refuse_unhealthy(int(os.environ["LOCAL_RANK"]), job)
    else:
        keep_freed_memory()
    postpone_compiler()
    ranks = Ranks.join()
    gpu_share.keep_within(ranks.device)
    with explained(ranks, node_folder):
        return train_together(job, attempt, node_folder, config, ranks, threads)


def threads_of_worker(environment: Mapping[str, str]) -> int:
    """As many as OMP_NUM_THREADS says, where somebody has set it, else this worker's share of the machine."""
    told = environment.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told):
        return int(told)
    return max(1, len(os.sched_getaffinity(0)) // int(environment["LOCAL_WORLD_SIZE"]))


def train_together(
    job: Job, attempt: int, node_folder: Path, config: dict[str, Any], ranks: Ranks, threads: int
) -> dict[str, Any]:
    """Trains with the other workers, which it has met."""
    beat = node_state.beat_of(node_folder, ranks.local_rank, ranks.local_world_size)
    algorithm = build_algorithm(config["algorithm"])
    if not isinstance(algorithm, (Module, Estimator)):
        raise UserError(
            f"algorithm: {config['algorithm']['_target_']} is neither a Module nor an Estimator of `trainer`, nor a function of a context"
        )
    source = build(config["data"], "data")
    seed = config["job"]["seed"]

    def open_() -> Opened:
        opened = open_data(source, algorithm, seed=seed, lead=ranks.local_rank == 0, wait=ranks.barrier)
        refuse_changed(job, opened.content, source.changed)
        refuse_read_otherwise(job, opened.content, kinds_of(opened))
        return opened

    with busy(job, lambda: READING) if ranks.rank == 0 else nullcontext():
        opened = Later(open_) if isinstance(algorithm, Function) else open_()
    if isinstance(opened, Opened) and 0 < opened.train.rows < ranks.world_size:
        raise UserError(
            f"data: {opened.train.rows} training samples are too few for {ranks.world_size} workers; "
            f"lower launcher.workers or data.validation"
        )
    progress = Progress()
    tracker = tracker_of(config, progress.notes.append) if ranks.rank == 0 else None
    reporter = Reporter(job, tracker, progress, writes=ranks.rank == 0, maximize=algorithm.maximize)
    reporter.gauges += watch(job, attempt, ranks)
    options = config["checkpoint"]
    metric = options["metric"] or config["train"]["early_stopping"]["metric"]
    retention = checkpoint.Retention(
        options["keep"], options["keep_best"], metric, more_is_better(metric, algorithm.maximize)
    )

    def told() -> None:
        beat[1] += 1

    apart = bool(os.environ.get(node_state.APART))
    saver = Saver(job.checkpoints, ranks, str(attempt), retention, told, job.metrics_path, apart=apart, job=job.id)
    interruption = Interruption(ranks, node_folder)
    interruption.save_seconds = lambda: saver.seconds
    cadence = Cadence(ranks, **checkpoint_interval(options["every"]))
    laps = laps_on(ranks.device, node_state.at_of(node_folder, ranks.local_rank, ranks.local_world_size))
    session = Session(
        job,
        config,
        ranks,
        opened,
        reporter,
        interruption,
        saver,
        cadence,
        beat,
        laps=laps,
        stragglers=Stragglers(ranks.local_world_size),
    )
    facts = {
        "attempt": attempt,
        "world_size": ranks.world_size,
        **sizes(opened),
        "device": device_name(ranks.device),
        "threads": threads,
        "maximize": sorted(algorithm.maximize),
    }
    if isinstance(algorithm, Module):
        outcome = fit_module(algorithm, session, facts)
    else:
        outcome = fit_estimator(algorithm, session, facts)
    reporter.finish(outcome)
    ranks.leave()
    progress.notes += outcome.pop("notes", ())
    return {**progress.snapshot(), **outcome}


def sizes(opened: Opened | Later) -> dict[str, Any]:
    """What is told of the data; nothing of what may never be opened."""
    if isinstance(opened, Later):
        return {"samples": 0, "validation_samples": 0, "columns": 0}
    validation = opened.validation.rows if opened.validation else 0
    return {
        "samples": opened.train.rows,
        "validation_samples": validation,
        "test_samples": opened.test.rows if opened.test else 0,
        "columns": opened.schema.columns,
        "kinds": kinds_of(opened),
        "left_out": list(opened.left_out),
        "label": opened.label,
        "notes": opened.notes,
        "content": opened.content,
    }


def kinds_of(opened: Opened) -> dict[str, int]:
    """How many columns there are of each kind."""
    return dict(Counter("time" if column.time else column.kind for column in opened.schema.features))


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
