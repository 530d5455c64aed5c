"""Which parameters a metric depends on: functional ANOVA (Hutter, Hoos, Leyton-Brown, ICML 2014), as Optuna computes it.

What a search leaves is not what the method was made for, so three things are done first. Values far worse than the
median are cut: one diverged trial would otherwise explain everything. A parameter that doesn't exist in every trial is
filled in where it is absent (a number with its median, so that what makes it exist gets the share; a choice with a level
of its own). And of many trials an even share over their ranks is looked at, for time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.tuning.record import StudyRecord, Trial
from trainer.tuning.reports.measures import Measure, curve, value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

LEAST = 6  # trials below which nothing is said
MOST = 160  # trials that are looked at
TREES, FEWER = 32, 8  # for the study's own metrics, and for any other that is looked at
FAR = 3.0  # values are cut at the median plus so many times its distance from the best
ABSENT = "(absent)"


def importances(record: StudyRecord, measure: Measure | None = None) -> dict[str, float]:
    """Share of a metric's variance by config key, the greatest first; they sum to 1.

    measure: the study's first metric, if none is given. {} if fewer than six trials tell, or all values are equal.
    """
    losses, _ = compared(record, measure)
    trials = _even_share(
        sorted((t for t in record.trials if t.number in losses), key=lambda t: (losses[t.number], t.number))
    )
    cut = _cut([losses[t.number] for t in trials]) if len(trials) >= LEAST else []
    if not cut or min(cut) == max(cut):
        return {}
    columns = {key: _column(record, key, trials) for key in record.keys}
    varied = {key: column for key, column in columns.items() if column is not None}
    trees = TREES if measure is None or measure.name in record.metrics else FEWER
    shares = _fanova(varied, cut, trees) if len(varied) > 1 else dict.fromkeys(varied, 1.0)
    found = {key: shares.get(key, 0.0) for key in record.keys}
    return dict(sorted(found.items(), key=lambda pair: -pair[1])) if sum(found.values()) > 0 else {}


def compared(record: StudyRecord, measure: Measure | None = None) -> tuple[dict[int, float], float | None]:
    """Trials' losses (less is better) that may be compared with each other, and at which resource they are taken.

    Where enough trials have completed these are their final ones, and None. Where a scheduler has let few complete, it
    is taken of all trials that came so far, at the greatest resource that a third of them reached.
    """
    name, goal = (measure.name, measure.goal) if measure else (record.metrics[0], record.goals[0])
    sign = -1.0 if goal == "max" else 1.0
    done = {t.number: value(record, t, name) for t in record.trials if t.state == "completed" and t.feasible}
    final = {number: sign * found for number, found in done.items() if found is not None and math.isfinite(found)}
    enough = max(LEAST, 3 * len(record.keys))
    learned = [t for t in record.trials if t.state != "failed"]
    curves = {t.number: [p for p in curve(record, t, name) if math.isfinite(p[2])] for t in learned}
    curves = {number: points for number, points in curves.items() if points}
    if len(final) >= min(enough, len(curves)):
        return final, None
    reached = sorted((points[-1][0] for points in curves.values()), reverse=True)
    common = reached[min(len(reached), max(enough, -(-len(reached) // 3))) - 1]
    return {
        number: sign * [told for resource, _, told in points if resource <= common][-1]
        for number, points in curves.items()
        if points[0][0] <= common <= points[-1][0]
    }, common


def _even_share(trials: list[Trial]) -> list[Trial]:
    if len(trials) <= MOST:
        return trials
    return [trials[round(i * (len(trials) - 1) / (MOST - 1))] for i in range(MOST)]


def _cut(losses: list[float]) -> list[float]:
    """Losses in rising order, the far ones cut."""
    middle = losses[len(losses) // 2]
    most = middle + FAR * (middle - losses[0])
    return [min(loss, most) for loss in losses] if most > losses[0] else losses


def _column(record: StudyRecord, key: str, trials: Sequence[Trial]) -> tuple[BaseDistribution, list[Any]] | None:
    """A parameter's distribution and its value in each trial; None if it never varied."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    present = [t.values[key] for t in trials if key in t.values]
    if present and all(is_number(value) for value in present):
        scale = scale_of(record, key)
        known = sorted(scaled(value, scale) for value in present)
        numbers = [scaled(t.values[key], scale) if key in t.values else known[len(known) // 2] for t in trials]
        return (FloatDistribution(known[0], known[-1]), numbers) if known[0] < known[-1] else None
    texts = [text(t.values[key]) if key in t.values else ABSENT for t in trials]
    levels = list(dict.fromkeys(texts))
    return (CategoricalDistribution(levels), texts) if len(levels) > 1 else None


def _fanova(
    columns: dict[str, tuple[BaseDistribution, list[Any]]], losses: list[float], trees: int
) -> dict[str, float]:
    from optuna import create_study, create_trial
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.logging import WARNING, get_verbosity, set_verbosity

    before = get_verbosity()
    set_verbosity(max(before, WARNING))
    try:
        study = create_study()
    finally:
        set_verbosity(before)
    distributions = {key: distribution for key, (distribution, _) in columns.items()}
    study.add_trials(
        create_trial(
            params={key: values[i] for key, (_, values) in columns.items()}, distributions=distributions, value=loss
        )
        for i, loss in enumerate(losses)
    )
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=trees, seed=0))
    return {key: float(share) for key, share in shares.items() if math.isfinite(share)}


def scale_of(record: StudyRecord, key: str) -> str:
    """A parameter's scale: linear, log or reverse_log."""
    return next((str(p.get("scale") or "linear") for p in record.space if p["key"] == key), "linear")


def scaled(value: float, scale: str) -> float:
    """Where a value lies on its scale, up to a constant; values that a scale can't place stay as they are."""
    if scale == "log" and value > 0:
        return math.log10(value)
    if scale == "reverse_log" and value < 1:
        return -math.log10(1 - value)
    return float(value)


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and not true or false."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def text(value: Any) -> str:
    """A choice as one would type it: `relu`, `true`, `null`, `[64, 32]`."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
