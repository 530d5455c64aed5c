"""Gradient-boosted trees: the xgboost library, distributed over the workers by its own collective."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np

from algorithms.xgboost import parameters, ranking, survival
from algorithms.xgboost.library import library
from algorithms.xgboost.matrix import matrix_of
from algorithms.xgboost.ranking import Relevance
from trainer.algorithm import Batch, Context, Estimator, Range
from trainer.data.schema import Schema
from trainer.errors import LostWorker, UserError

if TYPE_CHECKING:
    from trainer.data.tables.samples import Samples

OBJECTIVES = {
    "regression": "reg:squarederror",
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
    "ranking": "rank:ndcg",
}
METRICS = {
    "regression": ["rmse", "mae"],
    "binary": ["logloss", "error", "auc"],
    "multiclass": ["mlogloss", "merror"],
    "ranking": ["ndcg"],
}
BY_LABEL = ("regression", "binary", "multiclass")  # tasks that the label can tell
# of these a constant added to all labels is added to all predictions
SHIFT_EQUIVARIANT = ("reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:quantileerror")
SAMPLES = ("subsample", "colsample_bytree", "colsample_bylevel", "colsample_bynode")
MODEL = "model.ubj"


@dataclass(kw_only=True)
class XGBoost(Estimator):
    """XGBoost (Chen and Guestrin, 2016, arXiv:1603.02754), by the library itself.

    Every worker reads its own share of the rows, chunk by chunk, into the library's quantised matrix; the workers
    add up their histograms each round, so that all end with the same model. A round is a step.

    Its state is the model: the margins of the rows, the best round and the draws of the next one follow from it. An
    interrupted job ends with the same bytes and figures as any other, on as many workers with as many threads; on
    another number it goes on as well, to a model as good that differs where sums are rounded and rows are drawn.
    """

    lr: Annotated[float, Range(above=0)] = 0.3
    rounds: Annotated[int, Range(min=1)] = 100
    task: Literal["auto", "regression", "binary", "multiclass", "ranking"] = "auto"
    max_depth: Annotated[int, Range(min=0)] = 6
    min_child_weight: Annotated[float, Range(min=0)] = 1.0
    gamma: Annotated[float, Range(min=0)] = 0.0
    subsample: Annotated[float, Range(above=0, max=1)] = 1.0
    colsample_bytree: Annotated[float, Range(above=0, max=1)] = 1.0
    l1: Annotated[float, Range(min=0)] = 0.0
    l2: Annotated[float, Range(min=0)] = 1.0
    max_bin: Annotated[int, Range(min=2)] = 256
    tree_method: Literal["hist", "approx", "exact"] = "hist"
    objective: str | None = None
    eval_metric: str | list[str] | None = None
    early_stopping_rounds: Annotated[int, Range(min=1)] | None = None
    params: dict[str, Any] = field(default_factory=dict)

    takes: ClassVar[frozenset[str]] = frozenset({"numeric", "categorical", "missing", "sparse"})
    roles: ClassVar[frozenset[str]] = frozenset({"group", "label_upper_bound"})
    checks: ClassVar[bool] = True
    imports: ClassVar[tuple[str, ...]] = ("xgboost", "scipy.sparse")
    instead: ClassVar[dict[str, str]] = {"train.epochs": "rounds", "train.max_steps": "rounds"}

    def __post_init__(self) -> None:
        self._booster: Any = None
        for key in self.params:
            if key in parameters.OURS or hasattr(self, key):
                raise UserError(f"algorithm.params.{key}: set it as algorithm.{parameters.OURS.get(key, key)}")
            if key in parameters.REFUSED:
                raise UserError(f"algorithm.params.{key} {parameters.REFUSED[key]}")
        if self.params.get("booster") == "gblinear":
            raise UserError("algorithm.params.booster: gblinear grows no trees; use algorithm=linear")

    def check(self, folder: Path) -> None:
        known = self._known_task()
        parameters.check_names(self.params)
        if self.objective:
            parameters.check_objective(self.objective, self.params, known)
        metrics = [self.eval_metric] if isinstance(self.eval_metric, str) else self.eval_metric or []
        survival.refuse_metrics(self.objective, metrics)
        if known != "ranking":
            ranking.refuse_metrics(metrics)
        if not (self.objective or self.eval_metric or self.params):
            return
        try:
            xgboost = library()
        except UserError:
            return  # this machine only submits
        parameters.try_any(xgboost, [self._library_settings(task) for task in ([known] if known else BY_LABEL)])

    def needs(self) -> frozenset[str]:
        if self.objective == survival.OBJECTIVE:
            return frozenset({"label_upper_bound"})
        return frozenset({"group"} if self._known_task() == "ranking" else ())

    def target(self, schema: Schema) -> str | None:
        return "number" if self._task(schema) in ("regression", "ranking") else "class"

    def shift_equivariant(self, schema: Schema) -> bool:
        return (self.objective or OBJECTIVES[self._task(schema)]) in SHIFT_EQUIVARIANT

    def fit(self, context: Context) -> None:
        xgboost = library()
        settings = self._settings(context)
        if self.early_stopping_rounds and context.validation is None:
            raise UserError("algorithm.early_stopping_rounds needs validation data: set data.validation")
        if self.tree_method == "exact" and context.world_size > 1:
            raise UserError("algorithm.tree_method: exact knows one worker only; use hist or approx")
        if self.objective == "survival:cox" and context.world_size > 1:
            raise UserError("algorithm.objective: survival:cox compares all rows, so it knows one worker only")
        if "group" in self.needs() and context.train.groups < context.world_size:
            raise UserError(
                f"data: {context.train.groups} groups to train on are too few for {context.world_size} workers; "
                "lower launcher.workers or data.validation"
            )
        check = self._label_check(settings, context.schema)
        if check is not None and context.test is not None:  # else it would be known at the end
            for _, labels in context.test.chunks():
                check(np.asarray(labels))
        try:
            with _collective(context):
                train = self._matrix(context, context.train, settings)
                evaluated = [(train, "train")]
                if context.validation is not None:
                    evaluated.append((self._matrix(context, context.validation, settings, train), "validation"))
                self._booster = self._boost(context, settings, evaluated)
        except xgboost.core.XGBoostError as error:
            lost_a_worker = "/collective/" in str(error)
            kind = LostWorker if lost_a_worker else UserError
            raise kind(f"algorithm=xgboost: {parameters.first_line(error)}") from error

    def _boost(self, context: Context, settings: dict[str, Any], evaluated: list[tuple[Any, str]]) -> Any:
        """The library's own loop, round by round, from wherever an earlier session came to:

        restore → (draw afresh → grow the round's trees → evaluate → report → checkpoint)… → keep the best
        """
        folder, train = context.resume(), evaluated[0][0]
        matrices = [data for data, _ in evaluated]
        booster = library().Booster(settings, matrices, model_file=folder and folder / MODEL)
        done = booster.num_boosted_rounds()
        stopping = self._stopping(booster, settings["eval_metric"][0], done) if self.early_stopping_rounds else None
        ended = stopping is not None and stopping.current_rounds >= stopping.rounds
        samples = any(settings.get(name, 1) != 1 for name in SAMPLES)
        while done < self.rounds and not ended:
            if samples:
                _renew(booster)
            booster.update(train, done)
            scores = _scores(booster.eval_set(evaluated, done))
            if stopping is not None:
                ended = stopping.after_iteration(booster, done, {"validation": scores["validation"]})
            done += 1
            context.report(done, _figures(scores), total=self.rounds, epoch=done, samples=done * context.schema.rows)
            last = ended or done == self.rounds
            context.checkpoint(done, lambda folder: booster.save_model(folder / MODEL), last=last)
            ended = context.should_stop() or ended
        return (booster if stopping is None else stopping.after_training(booster)).reset()

    def _stopping(self, booster: Any, metric: str, done: int) -> Any:
        """The library's early stopping, as it stood after `done` rounds: the model knows its best one."""
        stopping = library().callback.EarlyStopping(
            rounds=self.early_stopping_rounds,
            metric_name=metric,
            data_name="validation",
            save_best=True,
            maximize=_more_is_better(metric),
        )
        if done:
            best = booster.best_iteration
            stopping.after_iteration(booster, best, {"validation": {metric: [booster.best_score]}})
            stopping.current_rounds = done - 1 - best
        return stopping

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """`prediction`, and `probability` of the second class or `probabilities` [n, classes]."""
        if self._booster is None:
            raise TypeError("XGBoost predicts after `fit` or `load`")
        xgboost = library()
        types = self._booster.feature_types
        outputs = self._booster.predict(xgboost.DMatrix(batch.x, feature_types=types, enable_categorical=True))
        objective = json.loads(self._booster.save_config())["learner"]["objective"]["name"]
        if objective.startswith("multi:"):
            if outputs.ndim == 1:  # multi:softmax gives classes alone
                return {"prediction": outputs.astype(np.int64)}
            return {"prediction": outputs.argmax(axis=1), "probabilities": outputs}
        if objective.startswith("binary:"):
            threshold = 0.0 if objective == "binary:logitraw" else 0.5
            columns = {"prediction": (outputs > threshold).astype(np.int64)}
            return columns | ({"probability": outputs} if objective == "binary:logistic" else {})
        if outputs.ndim == 2:  # a column for each of several quantiles
            alphas = json.loads(self._booster.save_config())["learner"]["objective"]["quantile_loss_param"][
                "quantile_alpha"
            ]
            levels = [float(alpha) for alpha in json.loads(alphas)]
            nearest = int(np.argmin(np.abs(np.array(levels) - 0.5)))
            named = {f"quantile_{level:g}": outputs[:, i] for i, level in enumerate(levels)}
            return {"prediction": outputs[:, nearest], **named}
        return {"prediction": outputs}

    def evaluate(self, samples: Samples, schema: Schema) -> dict[str, float]:
        """By the objective's metrics, as the validation is."""
        settings = self._library_settings(self._task(schema))
        check = self._label_check(settings, schema)
        data = matrix_of(samples, schema, method="exact", grouped="group" in self.needs(), check=check)
        # a model that is taken anew: after `reset` its metrics have lost their parameters
        booster = library().Booster([], [data], model_file=self._booster.save_raw())
        of_metrics = [item for item in self.params.items() if item[0] not in parameters.BY_COLUMN]
        booster.set_param([*of_metrics, *(("eval_metric", metric) for metric in settings["eval_metric"])])
        figures = _figures(_scores(booster.eval_set([(data, "of")], 0)))
        return {name.removeprefix("of_"): value for name, value in figures.items()}

    def save(self, folder: Path) -> None:
        self._booster.save_model(folder / MODEL)

    def load(self, folder: Path) -> None:
        self._booster = library().Booster(model_file=folder / MODEL)

    def _task(self, schema: Schema) -> str:
        """Regression, binary, multiclass or ranking. Raises UserError where that does not fit the label."""
        label = schema.label
        if label is None:
            raise UserError("algorithm=xgboost learns from a label: name its column with data.label=…")
        classes = len(label.classes)
        task = self._known_task() or ("regression" if not classes else "binary" if classes == 2 else "multiclass")
        where = f"the label {label.name!r}"
        if task == "ranking" and label.kind != "numeric":
            raise UserError(f"{where} is not a number: task=ranking learns a relevance; write it as 0, 1, 2, …")
        if task == "regression" and label.kind != "numeric":
            raise UserError(f"{where} is not a number, so a regression cannot learn it; use algorithm.task=auto")
        if task in ("binary", "multiclass") and classes < 2:
            found = "a number, not a class" if not classes else "the same class in every row"
            raise UserError(f"{where} is {found}: task={task} cannot learn it; use algorithm.task=regression")
        if task == "binary" and classes != 2:
            raise UserError(f"{where} has {classes} classes, and task=binary takes 2; use algorithm.task=multiclass")
        return task

    def _known_task(self) -> str | None:
        """What is learned, where the settings say it; None where the label does."""
        if self.task != "auto":
            return self.task
        return parameters.task_of(self.objective) if self.objective else None

    def _settings(self, context: Context) -> dict[str, Any]:
        """The library's parameters for this job. Raises UserError for what does not fit its data."""
        task, schema = self._task(context.schema), context.schema
        settings = self._library_settings(task)
        begins = context.resume() is None  # what it began with was taken then
        if begins:
            parameters.check_objective(settings["objective"], self.params)
            parameters.check_label(settings["objective"], schema)
        settings |= parameters.by_position(self.params, schema)
        if task == "multiclass":
            settings["num_class"] = schema.classes
        if begins:
            parameters.try_out(library(), settings)
        return settings | {"nthread": context.threads, "seed": context.seed}

    def _library_settings(self, task: str) -> dict[str, Any]:
        objective = self.objective or OBJECTIVES[task]
        metrics = self.eval_metric or parameters.own_metrics(objective, self.params) or METRICS[task]
        settings = {
            "objective": objective,
            "eval_metric": [metrics] if isinstance(metrics, str) else list(metrics),
            "eta": self.lr,
            "max_depth": self.max_depth,
            "min_child_weight": self.min_child_weight,
            "gamma": self.gamma,
            "subsample": self.subsample,
            "colsample_bytree": self.colsample_bytree,
            "alpha": self.l1,
            "lambda": self.l2,
            "tree_method": self.tree_method,
            "seed_per_iteration": True,
        }
        if self.tree_method != "exact":
            settings["max_bin"] = self.max_bin
        return settings | self.params

    def _matrix(self, context: Context, samples: Samples, settings: dict[str, Any], like: Any = None) -> Any:
        return matrix_of(
            samples,
            context.schema,
            method=self.tree_method,
            max_bin=self.max_bin,
            rank=context.rank,
            world=context.world_size,
            threads=context.threads,
            grouped="group" in self.needs(),
            bounded="label_upper_bound" in self.needs(),
            check=self._label_check(settings, context.schema),
            like=like,
        )

    def _label_check(self, settings: dict[str, Any], schema: Schema) -> Callable[[np.ndarray], None] | None:
        """What raises UserError for labels that are no relevance, or no times; None where neither is learned."""
        name = schema.label.name if schema.label else ""
        if "label_upper_bound" in self.needs():
            return lambda bounds: survival.check_bounds(bounds, name)
        if "group" not in self.needs():
            return None
        relevance = Relevance(settings)
        return lambda labels: relevance.check(labels, name)


@contextmanager
def _collective(context: Context) -> Iterator[None]:
    """The library's own collective over all workers, in the order of their ranks. Nothing on a single worker."""
    if context.world_size == 1:
        yield
        return
    xgboost = library()
    from xgboost.tracker import RabitTracker

    tracker, arguments = None, None
    if context.rank == 0:
        tracker = RabitTracker(context.world_size, _own_address(context.world_size), sortby="task")
        tracker.start()
        arguments = tracker.worker_args()
    arguments = context.broadcast(arguments)
    with xgboost.collective.CommunicatorContext(**arguments, dmlc_task_id=f"{context.rank:08d}"):
        yield
    if tracker is not None:
        tracker.wait_for()


def _own_address(workers: int) -> str:
    """Where the other workers find rank 0: this machine alone, or the address that the agent gave."""
    if int(os.environ.get("LOCAL_WORLD_SIZE", workers)) == workers:
        return "127.0.0.1"
    return socket.gethostbyname(os.environ["MASTER_ADDR"])


def _renew(booster: Any) -> None:
    """Makes the growers of trees anew, trees and margins untouched; about half a millisecond.

    Each seeds its draws of columns once, at its first round, and takes a number from the draws of rows to do so: a job
    that goes on would draw otherwise. So each round has growers of its own, and draws by its number alone.
    """
    booster.load_config(booster.save_config())


def _scores(line: str) -> dict[str, dict[str, list[float]]]:
    """The figures of each set of rows in the library's line, such as `[3] train-rmse:0.25 validation-rmse:0.5`."""
    scores: dict[str, dict[str, list[float]]] = {}
    for part in line.split()[1:]:
        name, _, value = part.rpartition(":")
        data, _, metric = name.partition("-")
        scores.setdefault(data, {})[metric] = [float(value)]
    return scores


def _more_is_better(metric: str) -> bool:
    """Of the library's names, such as `ndcg@10-` or `interval-regression-accuracy`."""
    return metric.partition("@")[0].rstrip("-").rpartition("-")[2] in Estimator.maximize


def _figures(scores: dict[str, dict[str, list[float]]]) -> dict[str, float]:
    """The figures by our names, with the share of right answers beside that of wrong ones. The first metric is the loss too,
    as other algorithms have one, if less of it is better; of an order within groups it is what is missing to 1."""
    figures = {f"{data}_{metric}": value for data, of in scores.items() for metric, [value] in of.items()}
    for data, of in scores.items():
        first, [loss] = next(iter(of.items()))
        if ranking.is_of_groups(first):
            figures[f"{data}_loss"] = 1 - loss
        elif not _more_is_better(first):
            figures[f"{data}_loss"] = loss
        error = figures.get(f"{data}_error", figures.get(f"{data}_merror"))
        if error is not None:
            figures[f"{data}_accuracy"] = 1 - error
    return figures
