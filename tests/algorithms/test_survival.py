"""Times between two bounds: the model is the library's own, reported and stopped by the likelihood of the intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algorithms.xgboost import XGBoost
from tests.algorithms.contexts import Alone
from trainer.algorithm import Batch
from trainer.data.opening import open_data
from trainer.data.sources import Csv
from trainer.errors import UserError

xgboost = pytest.importorskip("xgboost")

ROWS, CUT = 300, 220
AFT = {"objective": "survival:aft", "rounds": 8, "max_depth": 3}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path / "cache"))


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Features, and bounds of which a quarter are exact, a quarter without an upper one, a quarter without a lower one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 3)).astype(np.float32)
    time = np.exp(1 + x[:, 0] - x[:, 1] / 2 + rng.normal(scale=0.3, size=ROWS)).astype(np.float32)
    kind = rng.integers(0, 4, ROWS)
    low = np.select([kind == 2, kind == 3], [0 * time, time * np.float32(0.8)], time)
    high = np.select([kind == 1, kind == 0], [np.inf, time], time * np.float32(1.2))
    return x, np.column_stack([low, high]).astype(np.float32)


def written(folder: Path, bounds: np.ndarray) -> Csv:
    for name, part in (("train", slice(CUT)), ("validation", slice(CUT, None))):
        table = np.column_stack([rows()[0], bounds])[part].tolist()
        lines = [",".join(["" if cell == np.inf else repr(cell) for cell in row]) for row in table]
        (folder / f"{name}.csv").write_text("\n".join(["a,b,c,low,high", *lines]) + "\n")
    files = {name: str(folder / f"{name}.csv") for name in ("train", "validation")}
    return Csv(label="low", label_upper_bound="high", test=files["validation"], **files)


def context_of(source: Csv, **session: Any) -> Alone:
    found = open_data(source, XGBoost(**AFT), seed=7)
    return Alone(found.schema, found.train, found.validation, test=found.test, **session)


@pytest.mark.parametrize("method", ["hist", "approx"])
@pytest.mark.parametrize("params", [{}, {"aft_loss_distribution": "logistic", "aft_loss_distribution_scale": 0.8}])
def test_the_model_is_what_the_library_learns_of_the_same_bounds(method: str, params: dict, tmp_path: Path) -> None:
    x, y = rows()
    context = context_of(written(tmp_path, y))
    algorithm = XGBoost(**AFT, tree_method=method, params=params)
    algorithm.fit(context)
    kept, held = (
        xgboost.DMatrix(x[part], label_lower_bound=y[part, 0], label_upper_bound=y[part, 1])
        for part in (slice(CUT), slice(CUT, None))
    )
    given = {"objective": "survival:aft", "eval_metric": "aft-nloglik", "max_depth": 3, "eta": 0.3, "nthread": 1}
    told: dict = {}  # asked afterwards, the library forgets the distribution
    settings = {**given, "tree_method": method, **params}
    booster = xgboost.train(settings, kept, 8, evals=[(held, "held")], evals_result=told, verbose_eval=False)
    prediction = algorithm.predict(Batch(x, None, ROWS, ROWS))["prediction"]
    np.testing.assert_allclose(prediction, booster.predict(xgboost.DMatrix(x)), rtol=1e-5)
    assert (prediction > 0).all()
    last = context.reports[-1][1]
    assert last.keys() == {f"{side}_{name}" for side in ("train", "validation") for name in ("aft-nloglik", "loss")}
    theirs = pytest.approx(told["held"]["aft-nloglik"][-1], rel=1e-5)
    assert last["validation_loss"] == last["validation_aft-nloglik"] == theirs
    assert algorithm.evaluate(context.test, context.schema)["aft-nloglik"] == theirs


@pytest.mark.parametrize("metric", ["aft-nloglik", "interval-regression-accuracy"])
def test_it_stops_early_by_its_own_metric(metric: str, tmp_path: Path) -> None:
    context = context_of(written(tmp_path, rows()[1]))
    settings = {**AFT, "rounds": 60, "lr": 0.6, "max_depth": 6}
    algorithm = XGBoost(**settings, eval_metric=metric, early_stopping_rounds=3)
    algorithm.fit(context)
    told = [values[f"validation_{metric}"] for _, values, _ in context.reports]
    best = int(np.argmin(told) if metric == "aft-nloglik" else np.argmax(told))
    assert len(told) == best + 1 + 3 < 60
    assert ("validation_loss" in context.reports[0][1]) == (metric == "aft-nloglik")


def test_an_interrupted_job_ends_with_the_same_bytes(tmp_path: Path) -> None:
    source = written(tmp_path, rows()[1])
    ends = []
    for name, stops in (("whole", [None]), ("cut", [3, None])):
        reports: list = []
        for session, stop_after in enumerate(stops):
            folders = [tmp_path / f"{name}-{number}" for number in (session - 1, session)]
            resumed = folders[0] if session else None
            context = context_of(source, stop_after=stop_after, resumed=resumed, saves=folders[1])
            algorithm = XGBoost(**AFT, params={"aft_loss_distribution": "extreme"})
            algorithm.fit(context)
            reports += context.reports
        algorithm.save(tmp_path)
        ends.append(((tmp_path / "model.ubj").read_bytes(), reports))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("row", [3, CUT + 3])
@pytest.mark.parametrize("bounds", [(-1, 2), (0, 0)])
def test_bounds_that_are_no_times_are_told(bounds: tuple[float, float], row: int, tmp_path: Path) -> None:
    y = rows()[1]
    y[row] = bounds
    context = context_of(written(tmp_path, y))
    with pytest.raises(UserError, match=rf"'low' holds {bounds[0]}, up to {bounds[1]}, .* takes times") as refusal:
        XGBoost(**AFT).fit(context)
    assert "\n" not in str(refusal.value)
    assert not context.reports


def test_its_metrics_and_those_of_others_are_told_apart() -> None:
    XGBoost(objective="survival:aft", eval_metric=["interval-regression-accuracy", "aft-nloglik"]).check(Path())
    with pytest.raises(UserError, match="eval_metric=rmse is of single values, and survival:aft learns intervals"):
        XGBoost(objective="survival:aft", eval_metric="rmse").check(Path())
    with pytest.raises(UserError, match="eval_metric=aft-nloglik is of intervals"):
        XGBoost(eval_metric=["rmse", "aft-nloglik"]).check(Path())
    with pytest.raises(UserError, match=r"learns task=regression, and algorithm\.task=ranking"):
        XGBoost(objective="survival:aft", task="ranking").check(Path())
