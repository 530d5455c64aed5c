"""What may be said to the xgboost library: checked on a handful of rows before a job starts, and by the columns' names."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trainer.data.schema import Schema
from trainer.errors import UserError, did_you_mean

# what the library calls our settings: not to be given twice
OURS = {
    "learning_rate": "lr",
    "eta": "lr",
    "num_boost_round": "rounds",
    "n_estimators": "rounds",
    "alpha": "l1",
    "reg_alpha": "l1",
    "lambda": "l2",
    "reg_lambda": "l2",
    "min_split_loss": "gamma",
}
# parameters of the library with which a job could not be interrupted and end as if it had not been
REFUSED = {
    "seed_per_iteration": "is always true: a round draws by its number, so that a job goes on from any of them",
    "lambdarank_unbiased": "is not to be had: what it learns is in no model file, so that a job could not go on",
}
# those that the job sets itself: given, they would count for nothing
SET = {
    "seed": "is job.seed: set that",
    "random_state": "is job.seed: set that",
    "nthread": "is not to be set: the workers share the cores that there are; OMP_NUM_THREADS gives each a number",
    "n_jobs": "is not to be set: the workers share the cores that there are; OMP_NUM_THREADS gives each a number",
    "num_class": "is not to be set: it is the number of the label's classes",
}
# what an objective is measured by, its own metric first: the first is what early stopping and tuning go by
OWN_METRICS = {
    "reg:squaredlogerror": ["rmsle"],
    "reg:pseudohubererror": ["mphe", "mae"],
    "reg:absoluteerror": ["mae", "rmse"],
    "reg:quantileerror": ["quantile"],
    "reg:gamma": ["gamma-nloglik", "gamma-deviance"],
    "count:poisson": ["poisson-nloglik", "rmse"],
    "survival:cox": ["cox-nloglik"],
    "survival:aft": ["aft-nloglik"],
    "binary:hinge": ["error"],
    "multi:softmax": ["mlogloss", "merror"],
    "rank:pairwise": ["ndcg"],
    "rank:map": ["map"],
}
# the labels that an objective can't learn: what is asked of the least one, in words, and whether it holds
DOMAINS = {
    "reg:squaredlogerror": ("above -1", lambda low, high: low > -1),
    "reg:logistic": ("from 0 to 1", lambda low, high: low >= 0 and high <= 1),
    "reg:gamma": ("above 0", lambda low, high: low > 0),
    "reg:tweedie": ("0 or more", lambda low, high: low >= 0),
    "count:poisson": ("0 or more", lambda low, high: low >= 0),
}
BY_COLUMN = ("monotone_constraints", "interaction_constraints")
GPU = re.compile(r"(cuda|gpu)(:\d+)?")
ROWS = 16


def own_metrics(objective: str, params: Mapping[str, Any]) -> list[str] | None:
    """The metrics of an objective that is none of the usual ones."""
    if objective == "reg:tweedie":
        return [f"tweedie-nloglik@{float(params.get('tweedie_variance_power', 1.5)):g}"]
    return OWN_METRICS.get(objective)


def task_of(objective: str) -> str:
    """What an objective learns."""
    return {"binary": "binary", "multi": "multiclass", "rank": "ranking"}.get(objective.partition(":")[0], "regression")


def check_names(params: Mapping[str, Any]) -> None:
    """Raises UserError for a parameter that the job sets itself."""
    for key in SET.keys() & params:
        raise UserError(f"algorithm.params.{key} {SET[key]}")


def check_objective(objective: str, params: Mapping[str, Any], task: str | None = None) -> None:
    """Raises UserError for one that lacks what it needs, or learns another task."""
    learns = task_of(objective)
    if task is not None and task != learns:
        raise UserError(
            f"algorithm.objective={objective} learns task={learns}, and algorithm.task={task}; leave one of them out"
        )
    if objective == "reg:quantileerror" and "quantile_alpha" not in params:
        raise UserError("algorithm.objective=reg:quantileerror needs algorithm.params.quantile_alpha, such as 0.5")


def check_label(objective: str, schema: Schema) -> None:
    """Raises UserError for labels that the objective can't learn."""
    label = schema.label
    if label is None or objective not in DOMAINS:
        return
    words, holds = DOMAINS[objective]
    if not holds(label.min, label.max):
        raise UserError(
            f"the label {label.name!r} goes from {label.min:g} to {label.max:g}, and algorithm.objective={objective} takes "
            f"numbers {words}; choose another objective"
        )


def try_any(library: Any, tries: Sequence[Mapping[str, Any]]) -> None:
    """`try_out` for settings of which one will be used, the label says which; on the CPU, as the workers' GPU may be none of this
    machine's. Raises UserError if none can be."""
    refusals = []
    for settings in tries:
        try:
            on_gpu = GPU.fullmatch(str(settings.get("device", "cpu")))
            return try_out(library, {**settings, "device": "cpu"} if on_gpu else settings)
        except UserError as error:
            refusals.append(error)
    # a metric that fits another task fails at the numbers, and hides what is wrong in all
    raise min(refusals, key=lambda error: "Check failed" in str(error) or not str(error).startswith("algorithm.params"))


def try_out(library: Any, settings: Mapping[str, Any]) -> None:
    """Has the library take the settings, and grow a tree from a few rows. Raises UserError with what it says of them."""
    tried = {key: value for key, value in settings.items() if key not in (*BY_COLUMN, "num_class")}
    objective = str(settings["objective"])
    labels = np.arange(ROWS) % 2 + (1 if objective == "reg:gamma" else 0)
    if objective.startswith("multi:"):
        tried["num_class"] = 2
    rows = np.linspace(0, 1, 2 * ROWS, dtype=np.float32).reshape(ROWS, 2)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            given: dict[str, Any] = {"label": labels}
            if objective.startswith("rank:"):
                given["qid"] = np.zeros(ROWS, np.int64)
            elif objective == "survival:aft":
                given = {"label_lower_bound": labels + 1.0, "label_upper_bound": labels + 2.0}
            table = library.DMatrix(rows, **given)
            booster = library.Booster({**tried, "verbosity": 1, "nthread": 1}, [table])
            booster.update(table, 0)
            booster.eval(table)
        except (library.core.XGBoostError, ValueError, TypeError) as error:
            raise UserError(f"algorithm=xgboost: {first_line(error)}") from None
    for line in map(str, (one.message for one in said)):
        if "No visible GPU" in line:
            raise UserError(f"algorithm.params.device={settings['device']}: there is no such device here; leave it out")
        if unused := re.findall(r'"([^"]+)"', line.partition("Parameters: {")[2].partition("}")[0]):
            known = sorted(set(_keys(json.loads(booster.save_config()))))
            near = did_you_mean(unused[0], known, []).replace("there is none", "leave it out")
            raise UserError(f"algorithm.params.{unused[0]}: xgboost makes nothing of it; {near}")


def _keys(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, inner in node.items():
            yield str(key)
            yield from _keys(inner)


def by_position(params: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Constraints that are given by the columns' names, as the library has them without names. Raises UserError."""
    found: dict[str, Any] = {}
    names = [column.name for column in schema.features]
    monotone = params.get("monotone_constraints")
    if isinstance(monotone, Mapping):
        signs = {_position(name, names, "monotone_constraints"): sign for name, sign in monotone.items()}
        found["monotone_constraints"] = _signs([signs.get(i, 0) for i in range(len(names))])
    elif monotone is not None:
        given = [part for part in re.split(r"[\s,()\[\]]+", str(monotone)) if part]
        if len(given) != schema.columns:
            raise UserError(
                f"algorithm.params.monotone_constraints has {len(given)} entries, and there are {schema.columns} columns; "
                "give one for each, or {NAME: 1} for some"
            )
        found["monotone_constraints"] = _signs(given)
    groups = params.get("interaction_constraints")
    if isinstance(groups, str):
        with contextlib.suppress(ValueError):
            groups = json.loads(groups)
    if groups is not None:
        if not _is_list(groups) or not all(map(_is_list, groups)):
            raise UserError("algorithm.params.interaction_constraints: give groups of columns, such as [[a,b],[c]]")
        found["interaction_constraints"] = json.dumps(
            [[_position(one, names, "interaction_constraints") for one in group] for group in groups]
        )
    return found


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _position(name: Any, names: Sequence[str], key: str) -> int:
    if isinstance(name, str) and name in names:
        return names.index(name)
    if isinstance(name, int) and (not names or 0 <= name < len(names)):
        return name
    raise UserError(
        f"algorithm.params.{key}: there is no column {name!r} to learn from; {did_you_mean(str(name), names)}"
    )


def _signs(signs: Sequence[Any]) -> str:
    for sign in signs:
        if str(sign) not in ("-1", "0", "1"):
            raise UserError(f"algorithm.params.monotone_constraints: {sign!r} is none of -1, 0 and 1")
    return f"({','.join(map(str, signs))})"


def first_line(error: Exception) -> str:
    """The library's message without its time stamp, source position and stack; what it goes on with after a colon is told."""
    line, _, more = str(error).strip().partition("\nStack trace")[0].partition("\n")
    if line.rstrip().endswith(":"):
        line = " ".join([line, *more.split()])
    return re.sub(r"^\[\d\d:\d\d:\d\d\] \S+\.(?:cc|cu|h|cuh):\d+: ", "", line)
