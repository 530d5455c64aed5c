"""One worker of a job, from its config to its artifact. Imported once, by the process that workers are forked from."""

from __future__ import annotations

import faulthandler
import multiprocessing
import multiprocessing.connection
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trainer import artifact, checkpoint, node
from trainer.algorithm import Estimator, Module
from trainer.build import build
from trainer.config import checkpoint_interval, load, seconds
from trainer.data.opening import open_data
from trainer.errors import UserError
from trainer.job import Job, State
from trainer.result import more_is_better
from trainer.weights import named_tensors
from trainer.worker import batch_size, failure
from trainer.worker import precision as numbers
from trainer.worker import strategy as strategies
from trainer.worker.averages import Averages
from trainer.worker.cadence import Cadence
from trainer.worker.context import CONTEXT, JobContext
from trainer.worker.decision import decide
from trainer.worker.exact import ExactGradient, parts_of, settle
from trainer.worker.health import refuse_unhealthy
from trainer.worker.interruption import OUT_OF_TIME, Interruption
from trainer.worker.loop import Loop, total_steps
from trainer.worker.metrics import Reporter
from trainer.worker.mfu import mfu_of
from trainer.worker.ranks import Ranks
from trainer.worker.replicated import Spread, check_scalar
from trainer.worker.saver import ESTIMATOR, Saver
from trainer.worker.session import Session
from trainer.worker.state import MODEL, Position, Training, Unfit, read_small, restore_rank, weights_in
from trainer.worker.telemetry import watch

# weights × samples of a worker's step (× tokens) below which threads cost more than they bring: waking one takes longer
# than the work itself, and on a busy machine several times as long
SMALL_STEP = 4_000_000


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


def train(job: Job, attempt: int, node_folder: Path) -> dict[str, Any]:
    """Sets a worker up, trains, and writes the artifact."""
    config = load(job.config_path)
    beat = node.beat_of(node_folder, int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))
    threads = max(1, len(os.sched_getaffinity(0)) // int(os.environ["LOCAL_WORLD_SIZE"]))
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        refuse_unhealthy(int(os.environ["LOCAL_RANK"]))
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
    reporter.gauges += watch(job, attempt, ranks)
    options = config["checkpoint"]
    metric = options["metric"] or config["train"]["early_stopping"]["metric"]
    retention = checkpoint.Retention(
        options["keep"], options["keep_best"], metric, more_is_better(metric, algorithm.maximize)
    )

    def told() -> None:
        beat[1] += 1

    saver = Saver(job.checkpoints, ranks, str(attempt), retention, told, job.metrics_path)
    interruption = Interruption(ranks, node_folder)
    interruption.save_seconds = lambda: saver.seconds
    cadence = Cadence(ranks, **checkpoint_interval(options["every"]))
    session = Session(job, config, ranks, opened, reporter, interruption, saver, cadence, beat)
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
        facts["sequence_length"] = algorithm.sequence_length
        outcome = fit_module(algorithm, session, facts)
    else:
        outcome = fit_estimator(algorithm, session, facts)
    reporter.finish(outcome)
    ranks.leave()
    return {**reporter.progress.snapshot(), **outcome}


def fit_module(algorithm: Module, session: Session, facts: dict[str, Any]) -> dict[str, Any]:
    """Trains a `Module` algorithm by the loop. `facts`: what is told of the job once it runs."""
    config, ranks, opened = session.config, session.ranks, session.opened
    precision = numbers.choose(config["train"]["precision"], ranks.device)
    numbers.settle(precision)
    name, reason = decide(session, precision, facts["device"])
    strategy = {**config["strategy"], "name": name}
    facts |= {"strategy_reason": reason} if reason else {}
    reason = batch_size.settle(session, strategy, precision)
    facts |= {"batch_size_reason": reason} if reason else {}
    facts["batch_size"] = config["train"]["batch_size"]
    steps = opened.train.steps(config["train"]["batch_size"])
    total = total_steps(config["train"], steps)
    exactly = config["train"]["elastic"] == "exact"
    if exactly:
        settle(ranks.device)
        strategy["name"] = "single"

    def training_of(model: nn.Module) -> Training:
        optimizer = algorithm.optimizer(model)
        return Training(model, optimizer, algorithm.schedule(optimizer, total), Position())

    def fresh() -> tuple[Training, Spread, Averages | None]:
        seed_all(config["job"]["seed"])
        model = algorithm.build(opened.schema).to(ranks.device)
        facts["parameters"] = sum(p.numel() for p in model.parameters())
        settle_threads(facts, session, exactly)
        if ranks.rank:  # the same initial weights everywhere, but dropout of one's own
            seed_all(config["job"]["seed"] + 1_000_003 * ranks.rank)
        training, spread = strategies.spread(algorithm, model, training_of, ranks, precision, strategy, config["train"])
        decay = config["train"]["ema"]
        return training, spread, Averages(training, decay, spread.refresh) if decay else None

    training, spread, averages = fresh()
    session.saver.spread = strategy["name"] in ("fsdp", "deepspeed") and ranks.world_size > 1
    session.saver.first = frozenset(f"{MODEL}{name}" for name, _ in training.model.named_buffers())
    found, touched = resume(session, lambda folder, manifest: training.restore(folder, manifest, ranks))
    if found is None and touched:  # a damaged checkpoint was half taken up
        training, spread, averages = fresh()
    session.reporter.best = dict(training.position.best)
    exact = exact_gradient(algorithm, training.model, spread, session) if exactly else None
    progress = session.reporter.progress
    progress.total, progress.step = total, training.position.step
    progress.epoch = training.position.epoch + training.position.epoch_step / steps
    progress.samples, progress.training_seconds = training.position.samples, training.position.seconds
    session.reporter.forget_after(training.position.step)
    set_deadline(session)
    if ranks.rank == 0:
        facts |= {
            "strategy": "exact sums" if exactly else named(strategy),
            "precision": precision,
            "steps": total,
        }
        session.job.add_event(
            State.RUNNING, **facts, **told_of(session, training.position.step, training.position.seconds)
        )
    session.reporter.gauges += mfu_of(algorithm, session, precision)
    begin(session, training.position.step)
    state, ended = Loop(algorithm, training, spread, session, total, exact, averages).run()
    if ranks.rank == 0 and state is State.COMPLETED:
        weights = final_weights(session, training, averages)
        artifact.write_module(session.job.model, algorithm, weights, opened.schema, config, session.reporter.best)
    return {"state": state.value, "reason": ended, "step": training.position.step}


def settle_threads(facts: dict[str, Any], session: Session, exactly: bool) -> None:
    """One thread where a step is small, or where sums must not depend on how many there are."""
    ranks, batch = session.ranks, session.config["train"]["batch_size"]
    work = facts["parameters"] * batch * (facts.pop("sequence_length", 0) or 1)
    if ranks.device.type == "cpu" and (exactly or work < ranks.world_size * SMALL_STEP):
        facts["threads"] = 1
        torch.set_num_threads(1)


def named(strategy: Mapping[str, Any]) -> str:
    """A strategy as it is told of."""
    return f"deepspeed, stage {strategy['stage']}" if strategy["name"] == "deepspeed" else str(strategy["name"])


def final_weights(session: Session, training: Training, averages: Averages | None) -> dict[str, torch.Tensor]:
    """The trained weights: this worker's own, or, where it has only parts of them, those of the last checkpoint."""
    assert training.layout
    if training.layout.spans():
        folder = checkpoint.folder(session.job.checkpoints, training.position.step)
        return weights_in(folder, checkpoint.read_manifest(folder), averaged=averages is not None)
    with averages.in_place() if averages else nullcontext():
        return named_tensors(training.model)


def exact_gradient(algorithm: Module, model: nn.Module, spread: Spread, session: Session) -> ExactGradient:
    """The gradient of `train.elastic=exact`."""
    config = session.config
    parts = parts_of(config["train"]["batch_size"], config["train"]["gradient_accumulation"], session.ranks.world_size)
    check = partial(check_scalar, algorithm)
    return ExactGradient(spread.loss, model, session.ranks, seed=config["job"]["seed"], parts=parts, check=check)


def fit_estimator(algorithm: Estimator, session: Session, facts: dict[str, Any]) -> dict[str, Any]:
    """Lets an `Estimator` fit by itself."""
    job, config, ranks, reporter = session.job, session.config, session.ranks, session.reporter
    if config["train"]["elastic"] == "exact":
        raise UserError(
            f"train.elastic=exact: {type(algorithm).__name__} fits by itself, in an order of its own; leave it at fast"
        )
    seed_all(config["job"]["seed"] + 1_000_003 * ranks.rank)
    progress, state = reporter.progress, {}

    def restore(folder: Path, manifest: dict[str, Any]) -> None:
        for name, line in manifest["files"].items():
            if name.startswith(ESTIMATOR) and checkpoint.digest(folder / name) != line[checkpoint.CHECKSUM]:
                raise ValueError(f"{name} has another checksum")
        state.update(read_small(folder, manifest, CONTEXT))
        restore_rank(folder, manifest, ranks)

    found, touched = resume(session, restore)
    if found is None and touched:
        seed_all(config["job"]["seed"] + 1_000_003 * ranks.rank)
        state.clear()
    step = int(state.get("step", 0))
    progress.step, progress.samples, progress.epoch = step, state.get("samples", 0), state.get("epoch", 0.0)
    progress.training_seconds, reporter.best = state.get("seconds", 0.0), dict(state.get("best", {}))
    context = JobContext(session, facts["threads"], found / ESTIMATOR if found else None)
    reporter.forget_after(step)
    set_deadline(session)
    if ranks.rank == 0:
        seconds = progress.training_seconds
        job.add_event(State.RUNNING, **facts, parameters=None, strategy="its own", **told_of(session, step, seconds))
    begin(session, step)
    algorithm.fit(context)
    session.saver.wait()
    step, verdict = progress.step, context.verdict
    if verdict is not None and verdict.what != OUT_OF_TIME:
        return {"state": State.INTERRUPTED.value, "reason": verdict.why, "step": step}
    if ranks.rank == 0:
        artifact.write_estimator(job.model, algorithm, session.opened.schema, config, reporter.best)
    reason = "out of time" if verdict is not None else "trained to the end"
    return {"state": State.COMPLETED.value, "reason": reason, "step": step}


def told_of(session: Session, step: int, seconds: float) -> dict[str, Any]:
    """Where it goes on, for the event; and what it could not go on from."""
    passed_over = {"passed_over": session.passed_over} if session.passed_over else {}
    return {"step": step, "seconds": round(seconds, 3), **passed_over}


def begin(session: Session, step: int) -> None:
    """From here on the training runs, and is watched."""
    session.cadence.begin(step)
    session.beat[0] = step
    session.reporter.start(session.config)


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


def resume(session: Session, restore: Callable[[Path, dict[str, Any]], None]) -> tuple[Path | None, bool]:
    """Goes on from the newest complete checkpoint, if there is one; says which it passed over, and why.

    Each worker verifies what it reads while it reads it, and all take up the same checkpoint or pass it over together.
    Returns it, and whether `restore` was called at all.
    """
    ranks, root = session.ranks, session.job.checkpoints
    names: list[str] = []
    if ranks.rank == 0:
        checkpoint.clear_partial(root)
        names = [place.name for place in reversed(checkpoint.listing(root))]
    touched = False
    for name in ranks.broadcast(names):
        folder, reason = root / name, None
        try:
            manifest = checkpoint.read_manifest(folder)
            touched = True
            restore(folder, manifest)
        except Unfit as error:
            raise UserError(
                f"{name} is whole, but {error}: the algorithm's code is another than when the job began; "
                f"start a new job, or bring that code back"
            ) from error
        except (ValueError, OSError) as error:
            reason = str(error)
        reasons = [why for why in ranks.gather(reason) if why]
        if not reasons:
            session.reporter.progress.saved_step = checkpoint.step_of(folder)
            if ranks.rank == 0:
                print(f"goes on from {name}")
            return folder, touched
        if ranks.rank == 0:
            print(f"passed over {name}: {reasons[0]}")
            session.passed_over.append(f"{name}: {reasons[0]}")
    return None, touched


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
