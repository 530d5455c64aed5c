"""How a job ended, from what its directory holds: result.json. Standard library only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from trainer.job.account import interruptions, total_seconds
from trainer.job.directory import Job, State, read_hint, write_json
from trainer.job.records import number
from trainer.process import clock

NOT_METRICS = frozenset({"lr"})
JOULES_PER_KWH = 3.6e6
_CUT = re.compile(r"(@[\d.]+)?-?$")  # at which rank, threshold or power, and what an empty list counts as


def is_of_the_run(name: str) -> bool:
    """Whether a reported figure tells of the machines and their speed: two runs of one job differ in these alone."""
    return name in ("samples_per_second", "mfu") or name.startswith("gpu/")


def more_is_better(metric: str, maximize: Iterable[str]) -> bool:
    """Whether a metric such as `validation_accuracy`, `validation:auc` or `validation_ndcg@10` is better when higher."""
    words, names = _CUT.sub("", metric.lower()), [name.lower() for name in maximize]
    return any(words.endswith(name) and not words[: -len(name)][-1:].isalnum() for name in names if name)


def summarize(lines: Iterable[dict[str, Any]], maximize: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`{name: {"last": {"value", "step"}, "best": {"value", "step"}}}` of all reported metrics; NaN is never best."""
    names = tuple(maximize)
    summary: dict[str, dict[str, Any]] = {}
    for line in lines:
        for name, value in line["values"].items():
            if name in NOT_METRICS or is_of_the_run(name) or value is None:
                continue
            point = {"value": value, "step": line["step"]}
            known = summary.setdefault(name, {"last": point, "best": point})
            known["last"] = point
            best = known["best"]["value"]
            better = value > best if more_is_better(name, names) else value < best
            if better or math.isnan(best):
                known["best"] = point
    return summary


def energy_kwh(job: Job) -> float | None:
    """What the GPUs of all nodes took, over all attempts; None without a GPU that tells."""
    records = [read_hint(path).get("devices") for path in job.logs.glob("attempt-*-rank-*.gpu.json")]
    devices = [device for told in records if isinstance(told, list) for device in told if isinstance(device, dict)]
    joules = [device["joules"] for device in devices if number(device.get("joules"))]
    return round(sum(joules) / JOULES_PER_KWH, 6) if joules else None


def _has_model(state: State, outcome: dict[str, Any]) -> bool:
    """Whether the model that is there is of this end, and not of an earlier one that the job went on from."""
    return state is State.COMPLETED or (state is State.STOPPED and bool(outcome.get("has_model")))


def write_result(
    job: Job,
    state: State,
    *,
    attempt: int,
    error: dict[str, Any] | None,
    wall: float,
    outcome: dict[str, Any],
    last: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes and returns result.json. `outcome` is rank 0's own account, {} if it could give none; `last` the event
    that is about to be written. The model is where it lies here; who carries it elsewhere says so then.
    """
    events = job.events()
    if last is not None:
        events = [*events, {**last, "state": state.value, "step": outcome.get("step")}]
    running: dict[str, Any] = next((e for e in reversed(events) if e["state"] == State.RUNNING), {})
    progress = {**(job.progress() or {}), **outcome}
    total = total_seconds(events, clock.now()) or wall
    lost = interruptions(events)
    training = float(progress.get("training_seconds", 0.0))
    trained = int(progress.get("session_samples", 0))
    session = float(progress.get("session_seconds", 0.0))
    result = {
        "status": state.value,
        "metrics": summarize(job.metrics(), running.get("maximize", ())),
        "steps": int(progress.get("step", 0)),
        "epochs": round(float(progress.get("epoch", 0.0)), 4),
        "samples": int(progress.get("samples", 0)),
        "world_size": running.get("world_size"),
        "seconds": {
            "wall": round(total, 3),
            "training": round(training, 3),
            "lost": round(sum(line["seconds_lost"] or 0.0 for line in lost), 3),
        },
        "goodput": round(min(1.0, training / total), 4) if total > 0 else None,
        "samples_per_second": round(trained / session, 1) if session > 0 else None,
        "attempts": attempt + 1,
        "interruptions": lost,
        "model": str(job.model) if _has_model(state, outcome) and job.model.is_dir() else None,
        "error": {k: error[k] for k in ("type", "message", "rank", "where", "log") if k in error} if error else None,
    }
    result |= {
        key: progress[key] for key in ("split", "communication_within", "stragglers", "notes") if progress.get(key)
    }
    if (batch := running.get("batch_size")) is not None:
        result["batch_size"] = batch
    if (energy := energy_kwh(job)) is not None:
        result["energy_kwh"] = energy
    write_json(job.result_path, result, durable=True)
    return result
