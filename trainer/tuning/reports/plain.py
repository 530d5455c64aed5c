"""A study as plain JSON, for other programs."""

from __future__ import annotations

import time
from typing import Any

from trainer.tuning.record import StudyRecord, Trial
from trainer.tuning.reports.about import about
from trainer.tuning.reports.best import model_of
from trainer.tuning.reports.gain import default_of, gain
from trainer.tuning.reports.importance import importances
from trainer.tuning.reports.totals import failures, files, state, totals


def plain(record: StudyRecord) -> dict[str, Any]:
    """What `--json` says; null is what isn't known."""
    sums, best = totals(record), record.best()

    def told(trial: Trial) -> dict[str, Any]:
        return {
            "number": trial.number,
            "state": trial.state,
            "objective": dict(zip(record.metrics, trial.objective, strict=False)) if trial.objective else None,
            "values": trial.values,
            "metrics": trial.metrics,
            "feasible": trial.feasible,
            "seconds": trial.seconds,
            "device_seconds": trial.device_seconds,
            "lost_seconds": trial.lost_seconds,
            "interruptions": len(trial.interruptions),
            "reason": trial.reason or None,
            "dir": str(job.dir) if (job := record.job(trial)) else None,
            "prior": trial.prior,
        }

    return {
        "name": record.name,
        "dir": str(record.dir),
        "state": state(record),
        "ends": record.ends or None,
        "goals": dict(zip(record.metrics, record.goals, strict=True)),
        "search": record.search,
        "scheduler": record.scheduler,
        "seed": record.seed,
        "about": about(record),
        "counts": sums.states,
        "seconds": round(sums.seconds, 3),
        "device_seconds": round(sums.device_seconds, 3),
        "lost_seconds": round(sums.lost_seconds, 3),
        "interruptions": sums.interruptions,
        "best": told(best) if best else None,
        "default": told(default) if (default := default_of(record)) else None,
        "gain": gain(record),
        "model": model_of(record, best) if best else None,
        "front": [trial.number for trial in record.front()],
        "importance": importances(record),
        "failures": [{"reason": reason, "trials": numbers} for reason, numbers in failures(record)],
        "trials": [told(trial) for trial in record.trials],
        "files": files(record),
        "read": round(time.time(), 3),
    }
