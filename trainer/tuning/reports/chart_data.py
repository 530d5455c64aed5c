"""What report.html draws, as JSON: the study's figures in few bytes. Times are seconds since the study was created."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainer.config.overrides.dotted import leaves
from trainer.config.schema import load_job
from trainer.errors import UserError
from trainer.tuning.record import StudyRecord, Trial, short_keys
from trainer.tuning.reports.about import about
from trainer.tuning.reports.best import command, model_of
from trainer.tuning.reports.contours import MARGIN, contours
from trainer.tuning.reports.gain import default_of, gained
from trainer.tuning.reports.importance import compared, importances, is_number, scale_of, text
from trainer.tuning.reports.lines import joined, thinned
from trainer.tuning.reports.measures import Measure, curve, measures, value
from trainer.tuning.reports.scales import helps
from trainer.tuning.reports.show import cost, counts, nothing
from trainer.tuning.reports.show import value as said
from trainer.tuning.reports.totals import failures, state, totals

MEASURES = 16  # metrics that one can choose from
POINTS = 20_000  # of all curves of the first metric together, and of all others: the page stays below a megabyte
FEWEST, MOST = 8, 400  # points of one curve
NOT_COMPARED = ("job.name", "job.dir", "job.dry_run")


def chart_data(record: StudyRecord) -> dict[str, Any]:
    """The whole of the page's data. Holds no NaN and no infinity: they are the text `nan`, `inf` or `-inf`."""
    sums, best = totals(record), record.best()
    parameters = [_parameter(record, key) for key in record.keys]
    diff, same = _difference(record, best) if best else ([], 0)
    every = measures(record)
    looked = every[: max(MEASURES, len(record.metrics))]
    shares = [importances(record, measure) for measure in looked]
    parents = {trial.number: trial for trial in record.trials}
    return plain(
        {
            "study": {
                "name": record.name,
                "state": state(record),
                "ends": record.ends,
                "search": record.search,
                "scheduler": record.scheduler,
                "seed": record.seed,
                "unit": record.unit,
                "created": record.created,
                "notes": record.notes,
                "metrics": record.metrics,
                "goals": record.goals,
                "command": command(record),
                "about": about(record),
                "default": default.number if (default := default_of(record)) else None,
                "gain": gained(record),
            },
            "params": parameters,
            "metrics": [_measure(record, measure) for measure in looked],
            "unchosen": [measure.name for measure in every[len(looked) :]],
            "margin": MARGIN,
            "trials": [_trial(record, trial, parameters, looked, parents) for trial in record.trials],
            "importance": shares,
            "compared": [compared(record, measure)[1] for measure in looked],
            "contours": [
                contours(record, measure, parameters, share) for measure, share in zip(looked, shares, strict=True)
            ],
            "best": best.number if best else None,
            "front": [trial.number for trial in record.front()],
            "model": model_of(record, best) if best else None,
            "nothing": f"There is no best trial: {nothing(record, sums)}.",
            "diff": diff,
            "same": same,
            "failures": failures(record),
            "totals": {
                "trials": sums.trials,
                "seconds": sums.seconds,
                "device": sums.device_seconds,
                "lost": sums.lost_seconds,
                "interruptions": sums.interruptions,
                "text": f"{counts(sums)}; {cost(sums)}",
            },
        }
    )


def _parameter(record: StudyRecord, key: str) -> dict[str, Any]:
    """levels: a choice's values as text, in the space's order; None for numbers, whose axis goes from low to high."""
    space = next((parameter for parameter in record.space if parameter["key"] == key), {})
    seen = [trial.values[key] for trial in record.trials if key in trial.values]
    chosen = space.get("kind") == "choice" or not all(is_number(item) for item in seen)
    choices = [*(space.get("choices") or ()), *seen] if chosen else []
    ends = [] if chosen else [*seen, *(space[end] for end in ("low", "high") if is_number(space.get(end)))]
    low, high, scale = min(ends, default=0.0), max(ends, default=1.0), scale_of(record, key)
    if (scale == "log" and low <= 0) or (scale == "reverse_log" and high >= 1):
        scale = "linear"
    return {
        "key": key,
        "short": short_keys(record.keys)[key],
        "scale": "log" if scale == "linear" and not chosen and helps(seen) and low > 0 else scale,
        "low": low,
        "high": high,
        "levels": list(dict.fromkeys(text(item) for item in choices)) if chosen else None,
    }


def _measure(record: StudyRecord, measure: Measure) -> dict[str, Any]:
    """log, log_curves: whether a log axis shows its values, and those while trials learned, better."""
    ends = [end for trial in record.trials if (end := value(record, trial, measure.name)) is not None]
    learned = [point[2] for trial in record.trials for point in curve(record, trial, measure.name)]
    return {
        "name": measure.name,
        "goal": measure.goal,
        "log": helps(ends, measure.goal),
        "log_curves": helps(learned, measure.goal),
    }


def _trial(
    record: StudyRecord,
    trial: Trial,
    parameters: Sequence[Mapping[str, Any]],
    looked: Sequence[Measure],
    trials: Mapping[int, Trial],
) -> dict[str, Any]:
    """n number, s state, v values (a choice by its level), o what it came to in each metric, f feasible, r reason, j job,
    a and b when it started and ended, w [from, to] of its waits, i interruptions, d device-seconds, l lost seconds,
    p prior study, k the trial that it went on from, m further metrics, c a curve for each metric: [x, y, points of its
    ancestors]."""
    told = [value(record, trial, measure.name) for measure in looked]
    names = {measure.name for measure in looked}
    return {
        "n": trial.number,
        "s": trial.state,
        "v": [_value(trial, parameter) for parameter in parameters],
        "o": told,
        "f": trial.feasible,
        "r": trial.reason,
        "j": trial.job,
        "a": _since(record, trial.started),
        "b": _since(record, trial.ended),
        "w": waits(trial.interruptions, record.created),
        "i": len(trial.interruptions),
        "d": round(trial.device_seconds, 1),
        "l": round(trial.lost_seconds, 1),
        "p": trial.prior,
        "k": trial.parent,
        "m": {name: _digits(number) for name, number in trial.metrics.items() if name not in names},
        "c": [_curve(record, trial, measure, trials, len(looked)) for measure in looked],
    }


def _curve(
    record: StudyRecord, trial: Trial, measure: Measure, trials: Mapping[int, Trial], count: int
) -> tuple[list[float], list[float], int] | None:
    """As charts draw it, in few points; None if there is none."""
    own = 1 if measure.name == record.metrics[0] else count - 1
    room = max(FEWEST, min(MOST, POINTS // max(1, len(record.trials) * own)))
    points, inherited = joined(record, trial, measure.name, trials)
    drawn = thinned(list(enumerate(points)), room)
    xs, ys = [_digits(point[0]) for _, point in drawn], [_digits(point[2], 5) for _, point in drawn]
    return (xs, ys, sum(i < inherited for i, _ in drawn)) if drawn else None


def _value(trial: Trial, parameter: Mapping[str, Any]) -> Any:
    if parameter["key"] not in trial.values:
        return None
    item = trial.values[parameter["key"]]
    return item if parameter["levels"] is None else parameter["levels"].index(text(item))


def _since(record: StudyRecord, when: float | None) -> float | None:
    return None if when is None else round(when - record.created, 2)


def _digits(number: float, digits: int = 6) -> float:
    return float(f"{number:.{digits}g}")


def waits(lines: Sequence[Mapping[str, Any]], began: float) -> list[tuple[float, float | None]]:
    """From each interruption until workers trained again; None while they have not. Seconds since `began`."""
    ends = [None if w["recovery_seconds"] is None else w["time"] + w["recovery_seconds"] for w in lines]
    since = [None if end is None else round(end - began, 2) for end in ends]
    return [(round(w["time"] - began, 2), end) for w, end in zip(lines, since, strict=True)]


def _difference(record: StudyRecord, best: Trial) -> tuple[list[tuple[str, str, str]], int]:
    """The keys in which the best trial's config differs from the base, with both values, and how many don't."""
    base, job = dict(leaves(record.base)), record.job(best)
    config = {**base, **best.values}
    if job is not None and job.exists():
        with contextlib.suppress(UserError):  # damaged
            config = dict(leaves(load_job(job.config_path)))
    keys = [key for key in dict.fromkeys((*base, *config)) if key not in NOT_COMPARED]
    differing = [key for key in keys if base.get(key, ...) != config.get(key, ...)]

    def told(node: Mapping[str, Any], key: str) -> str:
        return said(node[key]) if key in node else "–"

    return [(key, told(base, key), told(config, key)) for key in differing], len(keys) - len(differing)


def plain(item: Any) -> Any:
    """The same with numbers that JSON does not have as text."""
    if isinstance(item, Mapping):
        return {str(key): plain(part) for key, part in item.items()}
    if isinstance(item, Iterable) and not isinstance(item, (str, bytes)):
        return [plain(part) for part in item]
    return f"{item:g}" if isinstance(item, float) and not math.isfinite(item) else item
