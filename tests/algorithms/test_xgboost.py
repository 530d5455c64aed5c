"""Boosted trees: on one worker they are the library's own; on several, everyone ends with the same model."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.synchronize
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
import yaml

from algorithms.xgboost import XGBoost
from tests.algorithms.contexts import Alone, Rows, Together
from trainer.algorithm import Batch
from trainer.data.schema import Column, Schema
from trainer.errors import UserError

xgboost = pytest.importorskip("xgboost")

CONF = Path(__file__).parents[2] / "conf" / "algorithm"


def table(classes: int, rows: int = 400, missing: bool = False) -> tuple[np.ndarray, np.ndarray, Schema]:
    """Three numeric columns and one with five categories; the label depends on two numbers and the category."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    x[:, 3] = rng.integers(0, 5, rows)
    score = x[:, 0] + x[:, 1] ** 2 + np.array([0.0, 2.0, -1.0, 1.0, 0.5])[x[:, 3].astype(int)]
    if classes:
        y = np.searchsorted(np.quantile(score, np.arange(1, classes) / classes), score).astype(np.int64)
        label = Column(name="y", kind="categorical", classes=tuple(f"c{i}" for i in range(classes)))
    else:
        y = score.astype(np.float32)
        label = Column(name="y", kind="numeric")
    if missing:
        x[rng.random(x.shape) < 0.2] = np.nan
    features = tuple(Column(name=f"x{i}", kind="numeric") for i in range(3))
    features += (Column(name="x3", kind="categorical", categories=tuple("abcde")),)
    return x, y, Schema(features=features, label=label, rows=rows, columns=4)


def batch_of(x: Any) -> Batch:
    return Batch(x, None, x.shape[0], x.shape[0])


def fitted(classes: int, **settings: Any) -> tuple[XGBoost, Alone, np.ndarray, np.ndarray]:
    x, y, schema = table(classes)
    context = Alone(schema, Rows(x[:300], y[:300]), Rows(x[300:], y[300:]))
    algorithm = XGBoost(**{"rounds": 10, **settings})
    algorithm.fit(context)
    return algorithm, context, x, y


LIBRARY = {
    0: {"objective": "reg:squarederror"},
    2: {"objective": "binary:logistic"},
    3: {"objective": "multi:softprob", "num_class": 3},
}


class NewGrowers(xgboost.callback.TrainingCallback):
    """What makes the library's own draws of a round depend on its number alone."""

    def before_iteration(self, model: Any, epoch: int, evals_log: dict) -> bool:
        model.load_config(model.save_config())
        return False


@pytest.mark.parametrize("classes", LIBRARY)
@pytest.mark.parametrize("share", [1.0, 0.8])
def test_on_one_worker_the_model_is_the_librarys_bit_for_bit(classes: int, share: float, tmp_path: Path) -> None:
    algorithm, _, x, y = fitted(classes, lr=0.2, max_depth=4, subsample=share, colsample_bytree=share)
    types = ["q", "q", "q", "c"]
    data = xgboost.QuantileDMatrix(x[:300], y[:300], feature_types=types, enable_categorical=True)
    settings = {"eta": 0.2, "max_depth": 4, "seed": 7, "nthread": 1, **LIBRARY[classes]}
    if share == 1:
        booster = xgboost.train(settings, data, 10)
    else:
        settings |= {"subsample": share, "colsample_bytree": share, "seed_per_iteration": True}
        booster = xgboost.train(settings, data, 10, callbacks=[NewGrowers()])
    expected = booster.predict(xgboost.DMatrix(x, feature_types=types, enable_categorical=True))
    columns = algorithm.predict(batch_of(x))
    name = {0: "prediction", 2: "probability", 3: "probabilities"}[classes]
    np.testing.assert_array_equal(columns[name], expected)
    algorithm.save(tmp_path)
    assert trees(xgboost.Booster(model_file=tmp_path / "model.ubj")) == trees(booster)


def trees(booster: Any) -> list[str]:
    return booster.get_dump(with_stats=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_a_saved_model_predicts_the_same_when_loaded(classes: int, tmp_path: Path) -> None:
    algorithm, _, x, y = fitted(classes)
    algorithm.save(tmp_path)
    loaded = XGBoost()
    loaded.load(tmp_path)
    before, after = algorithm.predict(batch_of(x)), loaded.predict(batch_of(x))
    assert before.keys() == after.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name])
    if classes:
        assert after["prediction"].dtype == np.int64
        assert (after["prediction"][300:] == y[300:]).mean() > 0.75


def test_each_round_is_reported_with_its_metrics() -> None:
    algorithm, context, x, y = fitted(2)
    assert [(step, total) for step, _, total in context.reports] == [(i, 10) for i in range(1, 11)]
    last = context.reports[-1][1]
    assert {"train_logloss", "validation_logloss", "validation_error", "validation_auc"} <= last.keys()
    right = (algorithm.predict(batch_of(x[300:]))["prediction"] == y[300:]).mean()
    assert last["validation_accuracy"] == pytest.approx(right)


@pytest.mark.parametrize(("classes", "metric"), [(0, "validation_rmse"), (3, "validation_mlogloss")])
def test_other_tasks_report_their_own_metrics(classes: int, metric: str) -> None:
    _, context, _, _ = fitted(classes)
    values = [report[1][metric] for report in context.reports]
    assert values[-1] < values[0]
    assert ("validation_accuracy" in context.reports[0][1]) == bool(classes)
    assert [report[1]["validation_loss"] for report in context.reports] == values


def test_a_first_metric_of_which_more_is_better_is_no_loss() -> None:
    _, context, _, _ = fitted(2, eval_metric=["auc", "logloss"])
    assert "validation_logloss" in context.reports[0][1]
    assert "validation_loss" not in context.reports[0][1]


def test_a_job_that_is_asked_to_stop_stops_after_the_round() -> None:
    x, y, schema = table(2)
    context = Alone(schema, Rows(x, y), stop_after=3)
    algorithm = XGBoost(rounds=10)
    algorithm.fit(context)
    assert [step for step, _, _ in context.reports] == [1, 2, 3]
    assert set(context.reports[0][1]) == {"train_loss", "train_logloss", "train_error", "train_auc", "train_accuracy"}
    assert len(algorithm.predict(batch_of(x))["prediction"]) == len(x)


def noise() -> tuple[np.ndarray, np.ndarray, Schema]:
    """Rows of which nothing can be learned, so that early stopping stops."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 4)).astype(np.float32), rng.integers(0, 2, 200)
    x[:, 3] = 0
    return x, y, table(2)[2]


def test_early_stopping_keeps_the_best_model() -> None:
    x, y, schema = noise()
    context = Alone(schema, Rows(x[:100], y[:100]), Rows(x[100:], y[100:]))
    algorithm = XGBoost(rounds=50, early_stopping_rounds=3)
    algorithm.fit(context)
    losses = [report[1]["validation_logloss"] for report in context.reports]
    assert len(losses) < 50
    chance = algorithm.predict(batch_of(x[100:]))["probability"]
    loss = -np.log(np.where(y[100:] == 1, chance, 1 - chance)).mean()
    assert loss == pytest.approx(min(losses), rel=1e-4)


def test_it_goes_on_from_a_state_of_other_settings_by_its_own(tmp_path: Path) -> None:
    """As a trial of a population does from another's checkpoint: the trees that were there stay, the new ones are its own."""
    x, y, schema = table(2)
    rows = Rows(x, y)
    XGBoost(rounds=4, lr=0.5, max_depth=2).fit(Alone(schema, rows, saves=tmp_path))
    algorithm = XGBoost(rounds=8, lr=0.01, max_depth=5)
    algorithm.fit(Alone(schema, rows, resumed=tmp_path))
    types = ["q", "q", "q", "c"]
    data = xgboost.QuantileDMatrix(x, y, feature_types=types, enable_categorical=True)
    settings = {**LIBRARY[2], "seed": 7, "nthread": 1, "max_bin": 256, "tree_method": "hist"}
    first = xgboost.train({**settings, "eta": 0.5, "max_depth": 2}, data, 4)
    expected = xgboost.train({**settings, "eta": 0.01, "max_depth": 5}, data, 4, xgb_model=first)
    algorithm.save(tmp_path)
    assert trees(xgboost.Booster(model_file=tmp_path / "model.ubj")) == trees(expected)


@dataclass
class Job:
    """A job on one worker, over the first three quarters of its rows, that may be interrupted."""

    x: Any
    y: np.ndarray
    schema: Schema
    settings: dict[str, Any]
    folder: Path

    def run(self, *rounds: int) -> tuple[bytes, list]:
        """The model and all reports; each session but the last is stopped after so many `rounds` of its own."""
        reports: list = []
        cut = self.y.size * 3 // 4
        for session, stop_after in enumerate([*rounds, None]):
            before, mine = (self.folder / f"{rounds}-{number}" for number in (session - 1, session))
            train, validation = Rows(self.x[:cut], self.y[:cut]), Rows(self.x[cut:], self.y[cut:])
            context = Alone(self.schema, train, validation, stop_after, before if session else None, mine, threads=2)
            algorithm = XGBoost(**{"rounds": 8, "max_depth": 4, **self.settings})
            algorithm.fit(context)
            reports += context.reports
        algorithm.save(self.folder)
        return (self.folder / "model.ubj").read_bytes(), reports


SHARES = {"subsample": 0.7, "colsample_bytree": 0.8, "params": {"colsample_bylevel": 0.7}}
DART = {"booster": "dart", "rate_drop": 0.4, "skip_drop": 0.1}
RESUMED = {
    "defaults": (2, {}),
    "regression": (0, {"gamma": 0.3}),
    "classes": (3, {}),
    "leaves that are set afterwards": (0, {"objective": "reg:absoluteerror"}),
    "rows": (2, {"subsample": 0.6}),
    "columns of a tree": (0, {"colsample_bytree": 0.6}),
    "columns of a level": (2, {"params": {"colsample_bylevel": 0.5}}),
    "columns of a node": (2, {"params": {"colsample_bynode": 0.5}}),
    "rows and columns": (3, SHARES),
    "gradients": (2, {"subsample": 0.5, "params": {"sampling_method": "gradient_based"}}),
    "dart": (2, {"params": DART}),
    "dart and draws": (3, {"subsample": 0.7, "params": {**DART, "colsample_bynode": 0.7}}),
    "forest": (2, {"params": {"num_parallel_tree": 3}}),
    "forest and draws": (3, {"subsample": 0.7, "params": {"num_parallel_tree": 3, "colsample_bynode": 0.7}}),
    "by leaves": (2, {**SHARES, "max_depth": 0, "params": {"grow_policy": "lossguide", "max_leaves": 9}}),
    "vector leaves": (3, {**SHARES, "params": {"multi_strategy": "multi_output_tree"}}),
}
# what the library does not have by a method
MISSING = {
    "hist": set(),
    "approx": {"vector leaves"},
    "exact": {"columns of a node", "gradients", "dart and draws", "forest and draws", "by leaves", "vector leaves"},
}


def exact(x: Any, y: np.ndarray, schema: Schema, settings: dict[str, Any], folder: Path) -> None:
    """Cut after one round, in the middle, before the last one, and often: always the bytes and figures of no cut."""
    job = Job(x, y, schema, settings, folder)
    whole = job.run()
    assert [report[0] for report in whole[1]] == list(range(1, 9))
    for rounds in [(1,), (4,), (7,), (8,), (2, 1, 3)]:
        assert job.run(*rounds) == whole, rounds


@pytest.mark.parametrize(
    ("method", "case"), [(method, case) for method, no in MISSING.items() for case in RESUMED if case not in no]
)
def test_an_interrupted_job_ends_with_the_same_bytes(method: str, case: str, tmp_path: Path) -> None:
    classes, settings = RESUMED[case]
    x, y, schema = table(classes, missing=True)
    if method == "exact" or case == "vector leaves":  # take no categories
        x, schema = x[:, :3], Schema(features=schema.features[:3], label=schema.label, rows=400, columns=3)
    exact(x, y, schema, {**settings, "tree_method": method}, tmp_path)


@pytest.mark.parametrize("method", ["hist", "approx", "exact"])
@pytest.mark.parametrize("settings", [{}, SHARES])
def test_an_interrupted_job_over_sparse_rows_ends_with_the_same_bytes(
    settings: dict, method: str, tmp_path: Path
) -> None:
    x, y, schema = table(2)
    sparse = scipy.sparse.csr_matrix(np.where(np.abs(x) > 0.5, x, 0))
    schema = Schema(label=schema.label, rows=400, columns=4, sparse=True)
    exact(sparse, y, schema, {**settings, "tree_method": method}, tmp_path)


@pytest.mark.parametrize("settings", [{}, {"eval_metric": ["auc", "logloss"], **SHARES}, {"params": DART}])
def test_early_stopping_goes_on_from_before_and_after_the_best_round(settings: dict, tmp_path: Path) -> None:
    job = Job(*noise(), {"early_stopping_rounds": 3, "rounds": 50, **settings}, tmp_path)
    whole = job.run()
    best, last = xgboost.Booster(model_file=tmp_path / "model.ubj").best_iteration + 1, len(whole[1])
    assert 1 <= best == last - 3 < 47
    for rounds in range(1, last + 1):
        assert job.run(rounds) == whole, rounds
    assert job.run(*[1] * last) == whole


def test_a_checkpoint_is_the_model_alone(tmp_path: Path) -> None:
    model, _ = Job(*table(2), {}, tmp_path).run()
    [path] = (tmp_path / "()-0").iterdir()
    assert path.read_bytes() == model


def test_chunks_give_the_model_that_one_piece_gives() -> None:
    x, y, schema = table(3, rows=300)

    class Pieces(Rows):
        def chunks(self, *, rank: int = 0, world: int = 1, rows: int = 7) -> Iterator[tuple[Any, np.ndarray]]:
            return super().chunks(rank=rank, world=world, rows=rows)

    whole, pieces = XGBoost(rounds=5, max_bin=1000), XGBoost(rounds=5, max_bin=1000)
    whole.fit(Alone(schema, Rows(x, y)))
    pieces.fit(Alone(schema, Pieces(x, y)))
    np.testing.assert_allclose(
        whole.predict(batch_of(x))["probabilities"], pieces.predict(batch_of(x))["probabilities"], rtol=1e-4
    )


def test_missing_cells_and_sparse_rows_are_taken() -> None:
    x, y, schema = table(0, missing=True)
    dense = XGBoost(rounds=20)
    dense.fit(Alone(schema, Rows(x, y)))
    assert np.sqrt(np.mean((dense.predict(batch_of(x))["prediction"] - y) ** 2)) < 0.7 * y.std()
    sparse_x = scipy.sparse.csr_matrix(np.where(np.abs(x) > 0.5, x, 0)[:, :3])
    sparse_x.data = np.nan_to_num(sparse_x.data)
    sparse = XGBoost(rounds=5)
    sparse.fit(Alone(Schema(label=schema.label, rows=400, columns=3, sparse=True), Rows(sparse_x, y)))
    prediction = sparse.predict(batch_of(sparse_x))["prediction"]
    assert np.sqrt(np.mean((prediction - y) ** 2)) < y.std()


@pytest.mark.parametrize("method", ["approx", "exact"])
def test_other_ways_to_grow_trees_work(method: str) -> None:
    x, y, schema = table(2)
    if method == "exact":  # takes no categories
        x, schema = x[:, :3], Schema(features=schema.features[:3], label=schema.label, rows=400, columns=3)
    algorithm = XGBoost(rounds=10, tree_method=method)
    algorithm.fit(Alone(schema, Rows(x[:300], y[:300])))
    assert (algorithm.predict(batch_of(x[300:]))["prediction"] == y[300:]).mean() > 0.7


@pytest.mark.parametrize(
    ("objective", "classes", "names"),
    [
        ("binary:hinge", 2, {"prediction"}),
        ("binary:logitraw", 2, {"prediction"}),
        ("multi:softmax", 3, {"prediction"}),
        ("reg:absoluteerror", 0, {"prediction"}),
    ],
)
def test_the_librarys_other_objectives_predict_what_they_can(objective: str, classes: int, names: set) -> None:
    algorithm, _, x, y = fitted(classes, objective=objective)
    columns = algorithm.predict(batch_of(x[300:]))
    assert columns.keys() == names
    if classes:
        assert (columns["prediction"] == y[300:]).mean() > 0.7


OWN = [
    ("count:poisson", {}, "poisson-nloglik"),
    ("reg:gamma", {}, "gamma-nloglik"),
    ("reg:tweedie", {"tweedie_variance_power": 1.3}, "tweedie-nloglik@1.3"),
    ("reg:quantileerror", {"quantile_alpha": 0.9}, "quantile"),
    ("reg:pseudohubererror", {"huber_slope": 0.2}, "mphe"),
    ("reg:squaredlogerror", {}, "rmsle"),
    ("reg:absoluteerror", {}, "mae"),
    ("survival:cox", {}, "cox-nloglik"),
]


@pytest.mark.parametrize(("objective", "params", "metric"), OWN)
def test_an_objective_reports_stops_and_is_tuned_by_its_own_metric(objective: str, params: dict, metric: str) -> None:
    x, y, schema = table(0)
    y = np.abs(y) + 0.5
    label = replace(schema.label, min=float(y.min()), max=float(y.max()))
    context = Alone(replace(schema, label=label), Rows(x[:300], y[:300]), Rows(x[300:], y[300:]))
    algorithm = XGBoost(rounds=5, objective=objective, params=params)
    algorithm.fit(context)
    values = context.reports[-1][1]
    assert values["validation_loss"] == values[f"validation_{metric}"]
    assert algorithm.evaluate(context.validation, context.schema)[metric] == pytest.approx(values["validation_loss"])
    kinds = {"feature_types": ["q", "q", "q", "c"], "enable_categorical": True}
    known = xgboost.DMatrix(x[:300], label=y[:300], **kinds)
    theirs = xgboost.train({"objective": objective, **params, "seed": 7, "nthread": 1}, known, 5)
    expected = theirs.predict(xgboost.DMatrix(x[300:], **kinds))
    np.testing.assert_allclose(algorithm.predict(batch_of(x[300:]))["prediction"], expected, rtol=1e-4)


def test_several_quantiles_are_a_column_each_and_the_middle_one_is_the_prediction() -> None:
    algorithm, _, x, _ = fitted(0, objective="reg:quantileerror", params={"quantile_alpha": [0.1, 0.5, 0.9]})
    columns = algorithm.predict(batch_of(x[300:]))
    assert columns.keys() == {"prediction", "quantile_0.1", "quantile_0.5", "quantile_0.9"}
    assert (columns["prediction"] == columns["quantile_0.5"]).all()
    assert (columns["quantile_0.1"] <= columns["quantile_0.9"]).mean() > 0.9


BEFORE = [
    ({"objective": "reg:quantileerror"}, "needs algorithm.params.quantile_alpha"),
    ({"objective": "reg:nonsense"}, "Unknown objective function: `reg:nonsense`"),
    ({"eval_metric": "accuracy"}, "Unknown metric function accuracy"),
    (
        {"params": {"max_leafs": 31}},
        "algorithm.params.max_leafs: xgboost makes nothing of it; did you mean 'max_leaves'",
    ),
    (
        {"eval_metric": "mlogloss", "params": {"max_leafs": 31}},
        "algorithm.params.max_leafs: xgboost makes nothing of it",
    ),
    ({"params": {"seed": 3}}, "algorithm.params.seed is job.seed"),
    ({"params": {"random_state": 3}}, "algorithm.params.random_state is job.seed"),
    ({"params": {"n_jobs": 3}}, "OMP_NUM_THREADS"),
    ({"params": {"num_class": 3}}, "the number of the label's classes"),
    ({"params": {"use_label_encoder": False}}, "use_label_encoder: xgboost makes nothing of it; leave it out"),
    ({"eval_metric": "mlogloss", "objective": "reg:gamma"}, "algorithm=xgboost: Check failed: label"),
    ({"task": "binary", "objective": "reg:squarederror"}, "learns task=regression, and algorithm.task=binary"),
    ({"task": "regression", "objective": "binary:logistic"}, "learns task=binary, and algorithm.task=regression"),
    ({"params": {"grow_policy": "deep"}}, "'deep', valid values are"),
    ({"params": {"max_leaves": "many"}}, "max_leaves"),
]


@pytest.mark.parametrize(("settings", "says"), BEFORE)
def test_what_the_library_will_not_take_is_told_before_anything_starts(settings: dict, says: str) -> None:
    with pytest.raises(UserError) as refusal:
        XGBoost(**settings).check(Path())
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_the_library_takes_passes() -> None:
    XGBoost(params={"monotone_constraints": {"a": 1}, "max_leaves": 31, "grow_policy": "lossguide"}).check(Path())
    XGBoost(objective="multi:softprob", eval_metric=["mlogloss"]).check(Path())
    XGBoost(objective="reg:gamma").check(Path())
    for metric in ("mlogloss", "merror", "logloss", "rmse", "auc"):  # which of them fit is known from the label
        XGBoost(eval_metric=metric).check(Path())
    XGBoost(objective="multi:softprob").check(Path())
    XGBoost(objective="multi:softprob", task="multiclass", params={"max_leaves": 3}).check(Path())
    XGBoost(params={"device": "cuda"}).check(Path())


@pytest.mark.parametrize(
    ("objective", "low", "says"),
    [
        ("count:poisson", -1.0, "takes numbers 0 or more"),
        ("reg:gamma", 0.0, "takes numbers above 0"),
        ("reg:tweedie", -0.5, "takes numbers 0 or more"),
        ("reg:logistic", -0.1, "takes numbers from 0 to 1"),
        ("reg:squaredlogerror", -1.0, "takes numbers above -1"),
    ],
)
def test_labels_that_an_objective_cannot_learn_are_refused(objective: str, low: float, says: str) -> None:
    x, y, schema = table(0)
    label = replace(schema.label, min=low, max=1.0)
    with pytest.raises(UserError, match=says):
        XGBoost(objective=objective).fit(Alone(replace(schema, label=label), Rows(x, y)))


def test_cox_is_of_one_worker() -> None:
    """The library would compare the rows of each worker with each other, and say nothing."""
    x, y, schema = table(0)
    with pytest.raises(UserError, match="one worker only"):
        XGBoost(objective="survival:cox", eval_metric="rmse").fit(Alone(schema, Rows(x, y), world_size=2))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_job_that_goes_on_keeps_the_settings_that_it_began_with(tmp_path: Path) -> None:
    """Begun on a version that took them."""
    x, y, schema = table(0)
    began = Alone(schema, Rows(x, y))
    first = XGBoost(rounds=3)
    first.fit(began)
    first.save(tmp_path)
    on = Alone(schema, Rows(x, y), resumed=tmp_path)
    XGBoost(rounds=5, params={"use_label_encoder": False, "seed": 3}).fit(on)
    assert [step for step, *_ in on.reports] == [4, 5]


def test_constraints_may_name_the_columns() -> None:
    x, y, schema = table(0)
    names = [column.name for column in schema.features]
    named = XGBoost(rounds=5, params={"monotone_constraints": {names[1]: 1}, "interaction_constraints": [names[:2]]})
    signs = [0, 1, *([0] * (len(names) - 2))]
    placed = XGBoost(rounds=5, params={"monotone_constraints": signs, "interaction_constraints": "[[0, 1]]"})
    for algorithm in (named, placed):
        algorithm.fit(Alone(schema, Rows(x, y)))
    one, other = (algorithm.predict(batch_of(x))["prediction"] for algorithm in (named, placed))
    assert (one == other).all()
    for wrong, says in [
        ({"monotone_constraints": {"nothing": 1}}, "there is no column 'nothing'"),
        ({"monotone_constraints": {names[0]: 2}}, "2 is none of -1, 0 and 1"),
        ({"monotone_constraints": [1]}, "has 1 entries, and there are"),
        ({"interaction_constraints": [["nothing"]]}, "there is no column 'nothing'"),
        ({"interaction_constraints": ["a"]}, "give groups of columns"),
        ({"interaction_constraints": "[[0, 1], [2, 99]]"}, "there is no column 99"),
        ({"interaction_constraints": "[[0, 1]"}, "give groups of columns"),
    ]:
        with pytest.raises(UserError, match=says):
            XGBoost(params=wrong).fit(Alone(schema, Rows(x, y)))


def test_a_device_that_is_not_here_is_no_silent_change_to_another() -> None:
    x, y, schema = table(0)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"algorithm\.params\.device=cuda: there is no such device here"):
            XGBoost(rounds=1, params={"device": "cuda"}).fit(Alone(schema, Rows(x, y)))
    XGBoost(params={"device": "cuda"}).check(Path())  # the workers may have one
    for wrong, says in [
        ({"device": "gpuu"}, "Invalid argument for `device`. Expected to be one of the following: - cpu - cuda"),
        ({"device": "cuda", "max_leafs": 3}, "algorithm.params.max_leafs"),
    ]:
        with pytest.raises(UserError) as refusal:
            XGBoost(params=wrong).check(Path())
        assert says in str(refusal.value)
        assert "\n" not in str(refusal.value)


REFUSED = [
    ({"task": "binary"}, 3, "3 classes"),
    ({"task": "multiclass"}, 0, "a number, not a class"),
    ({"task": "regression"}, 2, "is not a number"),
    ({"objective": "reg:nonsense"}, 0, "reg:nonsense"),
    ({"early_stopping_rounds": 2}, 2, r"data\.validation"),
]


@pytest.mark.parametrize(("settings", "classes", "says"), REFUSED)
def test_settings_that_do_not_fit_are_refused_in_one_line(settings: dict, classes: int, says: str) -> None:
    x, y, schema = table(classes)
    with pytest.raises(UserError, match=says) as refusal:
        XGBoost(**settings).fit(Alone(schema, Rows(x, y)))
    assert "\n" not in str(refusal.value)


def test_the_config_file_lists_every_setting_with_its_default() -> None:
    config = yaml.safe_load((CONF / "xgboost.yaml").read_text())
    assert config.pop("_target_") == "algorithms.xgboost.XGBoost"
    assert config.pop("_space_")
    assert config == asdict(XGBoost())


def test_a_setting_that_has_a_name_of_ours_is_not_given_twice() -> None:
    with pytest.raises(UserError, match=r"algorithm\.lr"):
        XGBoost(params={"eta": 0.1})
    with pytest.raises(UserError, match="always true"):
        XGBoost(params={"seed_per_iteration": False})
    with pytest.raises(UserError, match="algorithm=linear"):
        XGBoost(params={"booster": "gblinear"})
    assert XGBoost(params={"max_leaves": 31}).params == {"max_leaves": 31}


def test_without_the_library_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    x, y, schema = table(2)
    with pytest.raises(UserError, match=r'pip install "xgboost'):
        XGBoost().fit(Alone(schema, Rows(x, y)))


@dataclass
class Part:
    """A session of a job on several workers, over the first `rows` rows."""

    folder: Path
    rows: int = 300
    stop_after: int | None = None
    resumed: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def _worker(rank: int, workers: int, parts: list[Part], queues: list) -> None:
    x, y, schema = table(3, rows=400)
    for part in parts:
        context = Together(
            schema,
            Rows(x[: part.rows], y[: part.rows]),
            Rows(x[300:], y[300:]),
            stop_after=part.stop_after,
            resumed=part.resumed,
            saves=part.folder / "checkpoint",
            rank=rank,
            world_size=workers,
            queues=queues,
        )
        algorithm = XGBoost(**{"rounds": 6, **part.settings})
        algorithm.fit(context)
        mine = part.folder / str(rank)
        mine.mkdir()
        algorithm.save(mine)
        (mine / "reports.json").write_text(json.dumps(context.reports))


def run_workers(workers: int, *parts: Part) -> list[list]:
    """Runs `workers` real processes, all parts in each; the reports of each part, the same for all, as are the models."""
    for part in parts:
        part.folder.mkdir(exist_ok=True)
    start = multiprocessing.get_context("spawn")
    queues = [start.Queue() for _ in range(workers)]
    processes = [
        start.Process(target=_worker, args=(rank, workers, parts, queues), daemon=True) for rank in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=100)
    assert [process.exitcode for process in processes] == [0] * workers
    told = []
    for part in parts:
        folders = [part.folder / str(rank) for rank in range(workers)]
        assert len({(folder / "model.ubj").read_bytes() for folder in folders}) == 1
        reports = [json.loads((folder / "reports.json").read_text()) for folder in folders]
        assert all(those == reports[0] for those in reports)
        told.append(reports[0])
    return told


def test_two_workers_end_with_the_same_model_and_close_to_that_of_one(tmp_path: Path) -> None:
    [reports] = run_workers(2, Part(tmp_path))
    _, context, _, _ = fitted(3, rounds=6)
    both, alone = reports[-1][1], context.reports[-1][1]
    assert both["validation_mlogloss"] == pytest.approx(alone["validation_mlogloss"], abs=0.05)
    assert both["train_mlogloss"] == pytest.approx(alone["train_mlogloss"], abs=0.03)


def test_a_worker_without_rows_takes_part_and_all_stop_together(tmp_path: Path) -> None:
    [reports] = run_workers(3, Part(tmp_path, rows=2, stop_after=4))
    assert len(reports) == 4


@pytest.mark.slow
def test_interrupted_workers_end_with_the_same_bytes(tmp_path: Path) -> None:
    cases = [
        {**SHARES, "early_stopping_rounds": 2, "rounds": 9},
        {"tree_method": "approx", "subsample": 0.7, "params": {**DART, "colsample_bynode": 0.7}},
        {"params": {"num_parallel_tree": 2}},
    ]
    whole = [Part(tmp_path / f"whole-{i}", settings=settings) for i, settings in enumerate(cases)]
    first = [Part(tmp_path / f"first-{i}", stop_after=2, settings=settings) for i, settings in enumerate(cases)]
    second = [
        Part(tmp_path / f"second-{i}", resumed=part.folder / "checkpoint", settings=part.settings)
        for i, part in enumerate(first)
    ]
    told = run_workers(2, *first, *whole)
    later = run_workers(2, *second)
    assert told[3:] == [before + after for before, after in zip(told[:3], later, strict=True)]
    for a, b in zip(whole, second, strict=True):
        assert (a.folder / "0" / "model.ubj").read_bytes() == (b.folder / "0" / "model.ubj").read_bytes()


def test_a_job_of_one_worker_goes_on_with_two_and_back(tmp_path: Path) -> None:
    x, y, schema = table(3)
    folders = [tmp_path / "0", tmp_path / "1" / "checkpoint", tmp_path / "2"]
    rows = Rows(x[:300], y[:300]), Rows(x[300:], y[300:])
    XGBoost(rounds=6, **SHARES).fit(Alone(schema, *rows, stop_after=2, saves=folders[0]))
    run_workers(2, Part(tmp_path / "1", stop_after=2, resumed=folders[0], settings=SHARES))
    context = Alone(schema, *rows, resumed=folders[1])
    algorithm = XGBoost(rounds=6, **SHARES)
    algorithm.fit(context)
    assert [step for step, _, _ in context.reports] == [5, 6]
    _, never_cut, _, _ = fitted(3, rounds=6, **SHARES)
    name = "validation_mlogloss"
    assert context.reports[-1][1][name] == pytest.approx(never_cut.reports[-1][1][name], abs=0.1)
