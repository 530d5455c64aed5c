"""Studies as drivers hold them, without Ray and without jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.tuning.samplers.sampler import Asker, choose
from trainer.tuning.spaces.parameter import Parameter
from trainer.tuning.spaces.space import Space
from trainer.tuning.study import Study, held

LR = Parameter("algorithm.lr", "float", 1e-4, 1.0, "log")
DEPTH = Parameter("algorithm.depth", "int", 1, 8)
KIND = Parameter("algorithm.kind", "choice", choices=("tree", "line", None))
MOMENTUM = Parameter("algorithm.momentum", "float", 0.9, 0.999, "reverse_log")


def space_of(*parameters: Parameter, constraints: tuple[Any, ...] = ()) -> Space:
    return Space(parameters or (LR, DEPTH, KIND), constraints)


def facts(space: Space, **more: Any) -> dict[str, Any]:
    """What a study.yaml says."""
    told = {
        "name": "study",
        "created": 1.0,
        "metrics": ["validation_loss"],
        "goals": ["min"],
        "space": space.to_yaml(),
        "outcomes": [],
        "search": "tpe",
        "scheduler": "none",
        "unit": "epochs",
        "seed": 0,
        "base": {"algorithm": {}, "data": {}, "train": {}, "job": {"seed": 0}},
        "overrides": [],
        "options": {},
    }
    return told | more


@contextmanager
def study_in(folder: Path, space: Space, **more: Any) -> Iterator[Study]:
    with held(folder, facts(space, **more)) as study:
        yield study


def asker(study: Study, space: Space, search: str = "tpe", trials: int | None = None) -> Asker:
    return Asker(study, space, choose(search, space, trials, len(study.facts["metrics"]), False))


def ask_and_tell(study: Study, asker: Asker, count: int, value: Any) -> list[dict[str, Any]]:
    """So many trials, each told before the next is asked for. value: of a point; None fails it."""
    from optuna.trial import TrialState

    points = []
    for _ in range(count):
        frozen, values = asker.ask()
        found = value(values)
        state = TrialState.FAIL if found is None else TrialState.COMPLETE
        study.optuna.tell(frozen.number, found, state=state)
        points.append(values)
    return points
