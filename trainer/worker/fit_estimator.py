"""The training of an `Estimator` algorithm, which fits by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.algorithm import Estimator
from trainer.config.code.function import Function
from trainer.data.schema import Schema
from trainer.data.tables.samples import Samples
from trainer.errors import UserError
from trainer.job import checkpoint
from trainer.job.directory import MAX_RUNTIME, State
from trainer.job.model import artifact
from trainer.job.model.scoring import scores
from trainer.storage.retry import patiently
from trainer.worker.checkpointing.saver import ESTIMATOR
from trainer.worker.checkpointing.state import read_small, restore_rank
from trainer.worker.training.beginning import begin, resume, seed_all, set_deadline, told_of
from trainer.worker.training.context import CONTEXT, JobContext
from trainer.worker.training.function_context import FunctionContext
from trainer.worker.training.interruption import OUT_OF_TIME, STOP
from trainer.worker.training.session import Session


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
    if found is None and ranks.broadcast(ranks.rank == 0 and algorithm.goes_on(job.dir)):
        step = _reported(session)
    context = JobContext(session, facts["threads"], found / ESTIMATOR if found else None)
    patiently(lambda: reporter.forget_after(step))
    set_deadline(session, all_counts=not algorithm.ends_in_time)
    if ranks.rank == 0:
        seconds = progress.training_seconds
        facts |= {"parameters": None, "strategy": "its own", **told_of(session, step, seconds)}
        patiently(lambda: job.add_event(State.RUNNING, **facts))
    begin(session, step)
    if isinstance(algorithm, Function):
        algorithm.fit(FunctionContext(algorithm, session, context))
    else:
        algorithm.fit(context)
    session.saver.wait()
    step, verdict = progress.step, context.verdict

    def write_model() -> None:
        if ranks.rank == 0:
            schema = session.opened.schema if session.opened.is_open else Schema()
            artifact.write_estimator(job.model, algorithm, schema, config, reporter.best)

    if verdict is not None and verdict.what != OUT_OF_TIME:
        stopped = verdict.what == STOP and step > 0 and _has_model(algorithm)
        if stopped:
            write_model()
        note = {"note": "; ".join(context.notes)} if context.notes else {}
        return {
            "state": State.INTERRUPTED.value,
            "reason": verdict.why,
            "step": step,
            "has_model": stopped,
            **note,
        }
    notes = {"notes": context.notes} if context.notes else {}
    if verdict is not None and not algorithm.ends_in_time:
        reason = f"{MAX_RUNTIME}: train.max_time={config['train']['max_time']} is over"
        return {"state": State.STOPPED.value, "reason": reason, "step": step, **notes}
    if ranks.rank == 0 and session.opened.is_open and session.opened.test is not None:
        _score(algorithm, session, session.opened.test, step)
    write_model()
    early = "stopped early" if context.stopped_early else "trained to the end"
    reason = "out of time" if verdict is not None else early
    return {"state": State.COMPLETED.value, "reason": reason, "step": step, **notes}


def _score(algorithm: Estimator, session: Session, test: Samples, step: int) -> None:
    """Scores what was learned on the test samples, unless it has done so itself. A loop's model is its own affair."""
    reporter = session.reporter
    if isinstance(algorithm, Function) or any(name.startswith("test_") for name in reporter.best):
        return
    figures = {f"test_{name}": value for name, value in scores(algorithm, test, session.opened.schema).items()}
    if figures:
        reporter.report(step, figures, epoch=reporter.progress.epoch, samples=reporter.progress.samples)


def _has_model(algorithm: Estimator) -> bool:
    """Whether what it has learned before its end is a trained model."""
    return algorithm.keep is not None if isinstance(algorithm, Function) else algorithm.ends_in_time


def _reported(session: Session) -> int:
    """Takes up what was reported so far, and gives its last step, the same on all workers."""
    ranks, progress = session.ranks, session.reporter.progress
    lines = session.job.metrics() if ranks.rank == 0 else []
    for line in lines:
        for name, value in line["values"].items():
            best = session.reporter.best.get(name)
            if best is None or session.reporter.is_better(name, value, best):
                session.reporter.best[name] = value
    last = max(lines, key=lambda line: line["step"], default={"step": 0, "epoch": 0.0})
    trained = float((session.job.progress() or {}).get("training_seconds", 0.0)) if ranks.rank == 0 else 0.0
    progress.step, progress.epoch, progress.training_seconds = ranks.broadcast([last["step"], last["epoch"], trained])
    return progress.step
