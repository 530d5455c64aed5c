"""How much better the best trial is than the default, by the study's first metric."""

from __future__ import annotations

import math

from trainer.process.format import figure
from trainer.tuning.record import StudyRecord, Trial


def default_of(record: StudyRecord) -> Trial | None:
    """The trial that is the default; None if the study has none."""
    return next((trial for trial in record.trials if trial.default), None)


def gain(record: StudyRecord) -> float | None:
    """By how much the best value is better, in the metric's own unit, 0 where the default is the best; None if it can't be told."""
    best, default = record.best(), default_of(record)
    if best is None or default is None or not default.counts:
        return None
    return record.loss(default)[0] - record.loss(best)[0]


def gained(record: StudyRecord) -> str:
    """`best 0.1712; default 0.2324; gain 0.0612 (26.3%)`; empty if the study has no default trial."""
    best, default = record.best(), default_of(record)
    if default is None:
        return ""
    told = f"trial {default.number} {default.state.replace('_', ' ')}"
    if not default.counts or default.objective is None or best is None or best.objective is None:
        why = f": {default.reason}" if default.reason else ""
        broken = "" if default.feasible else ", outside of tune.constraints"
        return f"the default has no value to compare with: {told}{broken}{why}"
    if best.number == default.number:
        return f"best {figure(best.objective[0])}; no trial is better than the default"
    value, more = default.objective[0], gain(record) or 0.0
    share = f" ({more / abs(value):.1%})" if value and math.isfinite(more / abs(value)) else ""
    return f"best {figure(best.objective[0])}; default {figure(value)}; gain {figure(more)}{share}"
