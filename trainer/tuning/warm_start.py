"""Trials of earlier studies as observations of a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.errors import UserError
from trainer.tuning.record import StudyRecord, read
from trainer.tuning.spaces.space import Space
from trainer.tuning.study import Study, find


def add_priors(study: Study, space: Space, names: Sequence[str]) -> None:
    """Adds what earlier studies' finished trials say about this space. Raises UserError if one can't say anything."""
    import optuna

    distributions = space.distributions()
    with study.journal.together():  # all of them or none: a study that goes on asks no earlier one
        for name in names:
            for values, objective in observations(name, space, study.facts):
                params = space.stored(values)
                study.optuna.add_trial(
                    optuna.create_trial(
                        params=params,
                        distributions={key: distributions[key] for key in params},
                        values=list(objective),
                        user_attrs={"prior": name, "config": values},
                    )
                )


def observations(name: str, space: Space, facts: Mapping[str, Any]) -> list[tuple[dict[str, Any], tuple[float, ...]]]:
    """Points of a space that an earlier study has tried, and what they came to.

    Raises UserError if it looked for something else, or tried none.
    """
    record = read(find(name))
    refuse_other_metrics(record, facts)
    found = []
    for trial in record.trials:
        values = _within(trial.values, space, record.base) if trial.counts else None
        if values is not None and trial.objective:
            found.append((values, trial.objective))
    if not found:
        raise UserError(
            f"tune.warm_start: no finished trial of {name} lies in this space; leave it out, or widen the space"
        )
    return found


def refuse_other_metrics(record: StudyRecord, facts: Mapping[str, Any]) -> None:
    there = list(zip(record.metrics, record.goals, strict=True))
    here = list(zip(facts["metrics"], facts["goals"], strict=True))
    if there != here:
        shown = [", ".join(f"{goal} {metric}" for metric, goal in pairs) for pairs in (there, here)]
        raise UserError(f"tune.warm_start: {record.name} looked for {shown[0]}, this study looks for {shown[1]}")


def _within(values: Mapping[str, Any], space: Space, their_base: Mapping[str, Any]) -> dict[str, Any] | None:
    """A point of this space from what an earlier trial had: its values, its study's own config for what it didn't search.

    None if it is no point of it.
    """
    from trainer.tuning.spaces.placing import known_values

    known = {**known_values(their_base), **values}
    point: dict[str, Any] = {}
    for parameter in space.parameters:
        if space.exists(parameter, point):
            if parameter.key not in known:
                return None
            point[parameter.key] = known[parameter.key]
    try:
        space.stored(point)
    except UserError:
        return None
    return point if space.feasible(point) else None
