"""One worker of a job, from its config to its artifact. Imported once, by the process that workers are forked from."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer import artifact, checkpoint
from trainer.algorithm import Estimator, Module
from trainer.build import build
from trainer.config import load, seconds
from trainer.data.opening import open_data
from trainer.errors import UserError
from trainer.job import Job, State
from trainer.worker import failure
from trainer.worker.context import JobContext
from trainer.worker.interruption import Interruption
from trainer.worker.loop import Loop, total_steps
from trainer.worker.metrics import Reporter
from trainer.worker.ranks import Ranks
from trainer.worker.session import Session
from trainer.worker.state import Position, Training
from trainer.worker.strategy import choose, choose_precision, spread

# weights × samples of a worker's step (× tokens) below which threads cost more than they bring: waking one takes longer
# than the work itself, and on a busy machine several times as long
SMALL_STEP = 4_000_000


def run(job_dir: str, attempt: int) -> dict[str, Any]:
    """Trains as one worker of the job. Returns how it ended; after an error writes it down and leaves with 1."""
    job, rank = Job(Path(job_dir)), int(os.environ["RANK"])
    threading.Thread(target=die_with_agent, daemon=True, name="agent").start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the agent decides
    write_to(job.log_path(attempt, rank))
    try:
        return train(job, attempt)
    except BaseException as error:
        failure.record(error, rank, job, attempt)
        os._exit(1)


def die_with_agent() -> None:
    """Waits for the agent's death: without it nobody would end or restart this worker."""
    agent = multiprocessing.parent_process()
    assert agent is not None
    multiprocessing.connection.wait([agent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def write_to(log: Path) -> None:
    """Everything this process prints, native libraries included, goes to the log from here on."""
    log.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def train(job: Job, attempt: int) -> dict[str, Any]:
    """Sets a worker up, trains, and writes the artifact."""
    config = load(job.config_path)
    threads = max(1, len(os.sched_getaffinity(0)) // int(os.environ["LOCAL_WORLD_SIZE"]))
    torch.set_num_threads(threads)
    ranks = Ranks.join()
    algorithm = build(config["algorithm"], "algorithm")
    if not isinstance(algorithm, (Module, Estimator)):
        raise UserError(
            f"algorithm: {config['algorithm']['_target_']} is neither a Module nor an Estimator of `trainer`"
        )
    source = build(config["data"], "data")
    seed = config["job"]["seed"]
    opened = open_data(source, algorithm, seed=seed, lead=ranks.local_rank == 0, wait=ranks.barrier)
    if opened.train.rows < ranks.world_size:
        raise UserError(
            f"data: {opened.train.rows} training samples are too few for {ranks.world_size} workers; "
            f"lower launcher.workers or data.validation"
        )
    tracker = build(config["tracking"], "tracking") if ranks.rank == 0 else None
    reporter = Reporter(job, tracker, writes=ranks.rank == 0, maximize=algorithm.maximize)
    session = Session(job, config, ranks, opened, reporter, Interruption(ranks))
    facts = {
        "attempt": attempt,
        "world_size": ranks.world_size,
        "samples": opened.train.rows,
        "validation_samples": opened.validation.rows if opened.validation else 0,
        "columns": opened.schema.columns,
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
    return {**reporter.progress.snapshot(), **outcome}


def fit_module(algorithm: Module, session: Session, facts: dict[str, Any]) -> dict[str, Any]:
    """Trains a `Module` algorithm by the loop. `facts`: what is told of the job once it runs."""
    config, ranks, opened = session.config, session.ranks, session.opened
    strategy = choose(config["strategy"]["name"], ranks.world_size)
    precision = choose_precision(config["train"]["precision"], ranks.device)
    seed_all(config["job"]["seed"])
    model = algorithm.build(opened.schema).to(ranks.device)
    if ranks.rank:  # the same initial weights everywhere, but dropout of one's own
        seed_all(config["job"]["seed"] + 1_000_003 * ranks.rank)
    parameters = sum(p.numel() for p in model.parameters())
    work = parameters * config["train"]["batch_size"] * (algorithm.sequence_length or 1)
    if ranks.device.type == "cpu" and work < ranks.world_size * SMALL_STEP:
        facts["threads"] = 1
        torch.set_num_threads(1)
    total = total_steps(config["train"], opened.train.steps(config["train"]["batch_size"]))
    optimizer = algorithm.optimizer(model)
    training = Training(model, optimizer, algorithm.schedule(optimizer, total), Position())
    resume(training, session)
    loss = spread(algorithm, model, strategy, precision, ranks)
    progress = session.reporter.progress
    progress.total, progress.step = total, training.position.step
    progress.samples, progress.training_seconds = training.position.samples, training.position.seconds
    set_deadline(session)
    if ranks.rank == 0:
        facts |= {"strategy": strategy, "precision": precision, "parameters": parameters, "steps": total}
        session.job.add_event(State.RUNNING, **facts, step=training.position.step)
    session.reporter.start(config)
    state, reason = Loop(algorithm, training, loss, session, total, precision).run()
    if ranks.rank == 0 and state is State.COMPLETED:
        best = session.reporter.best
        artifact.write_module(session.job.model, algorithm, model, opened.schema, config, best)
    return {"state": state.value, "reason": reason, "step": training.position.step}


def fit_estimator(algorithm: Estimator, session: Session, facts: dict[str, Any]) -> dict[str, Any]:
    """Lets an `Estimator` fit by itself."""
    job, config, ranks, reporter = session.job, session.config, session.ranks, session.reporter
    seed_all(config["job"]["seed"] + 1_000_003 * ranks.rank)
    context = JobContext(session, facts["threads"])
    reporter.forget_after(0)
    set_deadline(session)
    if ranks.rank == 0:
        job.add_event(State.RUNNING, **facts, parameters=None, strategy="its own", step=0)
    reporter.start(config)
    algorithm.fit(context)
    step = reporter.progress.step
    if context.stopped and session.interruption.asked:
        return {"state": State.INTERRUPTED.value, "reason": "asked to stop", "step": step}
    if ranks.rank == 0:
        artifact.write_estimator(job.model, algorithm, session.opened.schema, config, reporter.best)
    reason = "out of time" if context.stopped else "trained to the end"
    return {"state": State.COMPLETED.value, "reason": reason, "step": step}


def seed_all(seed: int) -> None:
    """Seeds every library that a training may draw from."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def set_deadline(session: Session) -> None:
    """From now on the training time that is left counts; what earlier sessions took is gone."""
    limit = seconds(session.config["train"]["max_time"], "train.max_time")
    if limit is not None:
        session.interruption.deadline = time.monotonic() + limit - session.reporter.progress.training_seconds


def resume(training: Training, session: Session) -> None:
    """Goes on from the newest complete checkpoint, if there is one; says which it passed over."""
    reporter, ranks = session.reporter, session.ranks
    name = None
    if ranks.rank == 0:  # one reads it all to verify it, for all
        found = checkpoint.newest(session.job.checkpoints)
        for folder, reason in found.passed_over:
            print(f"passed over {folder.name}: {reason}")
        name = found.checkpoint.name if found.checkpoint else None
    name = ranks.broadcast(name)
    if name is None:
        reporter.forget_after(0)
        return
    training.restore(session.job.checkpoints / name, ranks)
    reporter.best = dict(training.position.best)
    reporter.progress.saved_step = training.position.step
    reporter.forget_after(training.position.step)
    if ranks.rank == 0:
        print(f"goes on from {name}")


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
