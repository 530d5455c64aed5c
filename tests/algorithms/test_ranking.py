"""Ranking within groups: on one worker the model is the library's own; no worker, split or metric ever cuts a group."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algorithms.xgboost import XGBoost
from tests.algorithms.contexts import Alone, Together
from trainer.algorithm import Batch, Estimator
from trainer.data.encoding.opened import Opened
from trainer.data.opening import open_data
from trainer.data.sources import Csv, Libsvm
from trainer.errors import UserError
from trainer.job.result import more_is_better
from trainer.submission.preflight import check_data

xgboost = pytest.importorskip("xgboost")

GROUPS, HELD = 40, 10
SETTINGS = {"rounds": 8, "max_depth": 3}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path / "cache"))


def rows(grades: int, seed: int = 0, groups: int = GROUPS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups of 1 to 20 rows that don't lie side by side, three features of which two make the relevance, and it."""
    rng = np.random.default_rng(seed)
    of = rng.permutation(np.repeat(np.arange(groups), rng.integers(1, 20, groups)))
    x = rng.normal(size=(len(of), 3)).astype(np.float32)
    score = x[:, 0] + x[:, 1] + rng.normal(scale=0.7, size=len(of))
    return of, x, np.digitize(score, np.quantile(score, np.arange(1, grades) / grades))


def written(folder: Path, grades: int = 4, **settings: Any) -> Csv:
    """Two files; the ids of the groups are beyond 2^53."""
    for name, seed, groups in (("train", 0, GROUPS), ("validation", 1, HELD)):
        of, x, y = rows(grades, seed, groups)
        lines = [
            f"{2**60 + q},{a!r},{b!r},{c!r},{grade}" for q, (a, b, c), grade in zip(of, x.tolist(), y, strict=True)
        ]
        (folder / f"{name}.csv").write_text("\n".join(["query,a,b,c,grade", *lines]) + "\n")
    files = {"train": str(folder / "train.csv"), "validation": str(folder / "validation.csv")}
    return Csv(**{**files, "label": "grade", "group": "query", **settings})


def opened(source: Any, **settings: Any) -> Opened:
    return open_data(source, XGBoost(**{"objective": "rank:ndcg", **settings}), seed=7)


def fitted(source: Any, **settings: Any) -> tuple[XGBoost, Alone]:
    found = opened(source, **settings)
    context = Alone(found.schema, found.train, found.validation)
    algorithm = XGBoost(**{"objective": "rank:ndcg", **SETTINGS, **settings})
    algorithm.fit(context)
    return algorithm, context


def sorted_by_group(grades: int, seed: int, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In the order in which the groups first come."""
    of, x, y = rows(grades, seed, groups)
    first = {one: place for place, one in enumerate(dict.fromkeys(of.tolist()))}
    order = np.argsort([first[one] for one in of.tolist()], kind="stable")
    return np.array([first[one] for one in of[order].tolist()]), x[order], y[order]


def the_librarys(objective: str, grades: int, rounds: int = 8, **settings: Any) -> tuple[float, np.ndarray]:
    """Its own metric of validation, and its scores of the training rows as they lie in the file."""
    held, kept = sorted_by_group(grades, 1, HELD), sorted_by_group(grades, 0, GROUPS)
    matrix = xgboost.DMatrix if settings.get("tree_method") == "approx" else xgboost.QuantileDMatrix
    train = matrix(kept[1], kept[2], qid=kept[0])
    given = {"objective": objective, "max_depth": 3, "eta": 0.3, "seed": 7, "nthread": 1, **settings}
    metric = "map" if objective == "rank:map" else "ndcg"
    booster = xgboost.train({**given, "eval_metric": metric}, train, rounds)
    [_, told] = booster.eval(xgboost.DMatrix(held[1], held[2], qid=held[0])).split()
    return float(told.rpartition(":")[2]), booster.predict(xgboost.DMatrix(rows(grades)[1]))


@pytest.mark.parametrize(
    ("objective", "grades", "params"),
    [
        ("rank:ndcg", 4, {}),
        ("rank:pairwise", 4, {}),
        ("rank:map", 2, {}),
        ("rank:ndcg", 4, {"lambdarank_pair_method": "mean", "lambdarank_num_pair_per_sample": 2}),
    ],
)
@pytest.mark.parametrize("method", ["hist", "approx"])
def test_the_model_is_what_the_library_learns_of_the_same_groups(
    objective: str, grades: int, params: dict, method: str, tmp_path: Path
) -> None:
    algorithm, context = fitted(written(tmp_path, grades), objective=objective, tree_method=method, params=params)
    told, scores = the_librarys(objective, grades, tree_method=method, **params)
    x = rows(grades)[1]
    np.testing.assert_array_equal(algorithm.predict(Batch(x, None, len(x), len(x)))["prediction"], scores)
    metric = "map" if objective == "rank:map" else "ndcg"
    last = context.reports[-1][1]
    assert last[f"validation_{metric}"] == pytest.approx(told, abs=1e-6)
    assert last.keys() == {f"{side}_{name}" for side in ("train", "validation") for name in (metric, "loss")}
    assert last["validation_loss"] == 1 - last[f"validation_{metric}"]
    gains = [values[f"train_{metric}"] for _, values, _ in context.reports]
    assert gains[-1] > gains[0]


def test_sparse_rows_with_qid_are_ranked_too(tmp_path: Path) -> None:
    of, x, y = rows(4)
    lines = [f"{grade} qid:{q} 1:{a!r} 2:{b!r} 3:{c!r}" for q, (a, b, c), grade in zip(of, x.tolist(), y, strict=True)]
    (tmp_path / "x.svm").write_text("\n".join(lines) + "\n")
    algorithm, context = fitted(Libsvm(train=str(tmp_path / "x.svm"), validation=None))
    _, dense = fitted(written(tmp_path, 4, validation=None))
    assert context.reports[-1][1]["train_ndcg"] == pytest.approx(dense.reports[-1][1]["train_ndcg"], abs=1e-6)
    assert algorithm.predict(Batch(x, None, len(x), len(x)))["prediction"].shape == (len(x),)


def test_ranking_is_a_task_of_its_own(tmp_path: Path) -> None:
    source = written(tmp_path)
    _, by_task = fitted(source, objective=None, task="ranking")
    _, by_objective = fitted(source, objective="rank:ndcg")
    assert by_task.reports == by_objective.reports
    with pytest.raises(UserError, match=r"learns task=ranking, and algorithm\.task=regression"):
        XGBoost(task="regression", objective="rank:ndcg").check(Path())
    for objective in ("rank:ndcg", "rank:pairwise", "rank:map"):
        XGBoost(objective=objective, eval_metric=["ndcg@5", "map@10", "pre@2-"]).check(Path())


def test_it_stops_early_where_more_would_be_better_and_is_no_longer_had(tmp_path: Path) -> None:
    settings = {"rounds": 60, "lr": 1.0, "max_depth": 6, "early_stopping_rounds": 3}
    algorithm, context = fitted(written(tmp_path), **settings)
    gains = [values["validation_ndcg"] for _, values, _ in context.reports]
    assert len(gains) == int(np.argmax(gains)) + 1 + 3 < 60
    algorithm.save(tmp_path)
    assert xgboost.Booster(model_file=tmp_path / "model.ubj").num_boosted_rounds() == int(np.argmax(gains)) + 1


@pytest.mark.parametrize(
    ("metric", "more"),
    [
        ("validation_ndcg", True),
        ("validation_ndcg@10", True),
        ("validation_ndcg@10-", True),
        ("validation_map-", True),
        ("train_pre@2", True),
        ("validation_error@0.3", False),
        ("validation_mape", False),
        ("validation_tweedie-nloglik@1.5", False),
        ("validation_loss", False),
    ],
)
def test_of_an_order_more_is_better_at_any_rank(metric: str, more: bool) -> None:
    assert more_is_better(metric, Estimator.maximize) == more


@pytest.mark.parametrize("params", [{"ndcg_exp_gain": False}, {"lambdarank_pair_method": "mean"}])
def test_an_interrupted_job_ends_with_the_same_bytes(params: dict, tmp_path: Path) -> None:
    source = written(tmp_path, validation=0.2)
    ends = []
    for name, stops in (("whole", [None]), ("cut", [2, 3, None])):
        reports: list = []
        for session, stop_after in enumerate(stops):
            found = opened(source)
            folders = [tmp_path / f"{name}-{number}" for number in (session - 1, session)]
            resumed = folders[0] if session else None
            context = Alone(found.schema, found.train, found.validation, stop_after, resumed, folders[1])
            algorithm = XGBoost(objective="rank:ndcg", subsample=0.7, params=params, **SETTINGS)
            algorithm.fit(context)
            reports += context.reports
        algorithm.save(tmp_path)
        ends.append(((tmp_path / "model.ubj").read_bytes(), reports))
    assert ends[0] == ends[1]


def _worker(rank: int, workers: int, folder: Path, queues: list) -> None:
    found = opened(Csv(train=str(folder / "train.csv"), validation=0.02, label="grade", group="query"))
    context = Together(found.schema, found.train, found.validation, rank=rank, world_size=workers, queues=queues)
    algorithm = XGBoost(objective="rank:ndcg", **SETTINGS)
    algorithm.fit(context)
    (folder / str(rank)).mkdir()
    algorithm.save(folder / str(rank))
    (folder / str(rank) / "reports.json").write_text(json.dumps(context.reports))


def test_two_workers_rank_as_well_as_one_and_one_may_have_no_group_to_validate(tmp_path: Path) -> None:
    source = written(tmp_path)
    start = multiprocessing.get_context("spawn")
    queues = [start.Queue() for _ in range(2)]
    processes = [start.Process(target=_worker, args=(rank, 2, tmp_path, queues), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=100)
    assert [process.exitcode for process in processes] == [0, 0]
    models = {(tmp_path / str(rank) / "model.ubj").read_bytes() for rank in range(2)}
    both, other = (json.loads((tmp_path / str(rank) / "reports.json").read_text()) for rank in range(2))
    assert len(models) == 1
    assert both == other
    _, context = fitted(replace(source, validation=0.02))
    assert context.validation.groups == 1
    for name in ("train_ndcg", "validation_ndcg"):
        assert both[-1][1][name] == pytest.approx(context.reports[-1][1][name], abs=0.03)
    # the first tree comes from sums over the same pairs: had a group been cut, there would have been fewer
    assert both[0][1]["train_ndcg"] == pytest.approx(context.reports[0][1]["train_ndcg"], abs=0.01)


def test_a_test_file_is_scored_by_its_groups_and_checked_before_the_training(tmp_path: Path) -> None:
    source = written(tmp_path)
    source.test = source.validation
    found = opened(source)
    algorithm, context = fitted(source)
    last = context.reports[-1][1]
    assert algorithm.evaluate(found.test, found.schema) == pytest.approx(
        {"ndcg": last["validation_ndcg"], "loss": last["validation_loss"]}
    )
    assert algorithm._booster.num_boosted_rounds() == 8
    bare = tmp_path / "bare.csv"
    bare.write_text("a,b,c,grade\n1,2,3,1\n")
    found = opened(replace(source, test=str(bare)))
    assert found.test is None
    assert "data.test has no column 'query', so nothing is scored on it" in found.notes
    bare.write_text("query,a,b,c,grade\n1,1,2,3,-2\n1,1,2,3,1\n")
    found = opened(replace(source, test=str(bare)))
    context = Alone(found.schema, found.train, found.validation, test=found.test)
    with pytest.raises(UserError, match="'grade' holds -2"):
        XGBoost(objective="rank:ndcg").fit(context)
    assert not context.reports


def test_a_test_file_is_scored_with_the_parameters_of_the_metric(tmp_path: Path) -> None:
    source = written(tmp_path)
    algorithm, context = fitted(source, params={"ndcg_exp_gain": False})
    before = algorithm._booster.save_raw()
    scored = algorithm.evaluate(opened(replace(source, test=source.validation)).test, context.schema)
    assert scored["ndcg"] == pytest.approx(context.reports[-1][1]["validation_ndcg"])
    assert algorithm._booster.save_raw() == before


def test_fewer_groups_than_workers_are_told(tmp_path: Path) -> None:
    found = opened(written(tmp_path, validation=0.98))
    with pytest.raises(UserError, match="1 groups to train on are too few for 2 workers"):
        XGBoost(objective="rank:ndcg").fit(Alone(found.schema, found.train, world_size=2))


LABELS = [
    ("-1", {}, "'grade' holds -1, and algorithm.objective=rank:ndcg takes whole numbers from 0 to 31"),
    ("1.5", {}, "'grade' holds 1.5, and algorithm.objective=rank:ndcg takes whole numbers from 0 to 31"),
    ("32", {}, "holds 32, and .*; algorithm.params.ndcg_exp_gain=false takes larger ones"),
    ("32", {"params": {"ndcg_exp_gain": False}}, ""),
    ("32", {"objective": "rank:pairwise"}, "holds 32, and algorithm.eval_metric=ndcg takes"),
    ("1.5", {"objective": "rank:pairwise", "eval_metric": "rmse"}, ""),
    ("2", {"objective": "rank:map"}, "holds 2, and algorithm.objective=rank:map takes 0 and 1 alone"),
    ("2", {"eval_metric": "map@3"}, "holds 2, and algorithm.eval_metric=map@3 takes 0 and 1 alone"),
    ("2", {"eval_metric": ["ndcg", "aucpr"]}, "holds 2, and algorithm.eval_metric=aucpr takes 0 and 1 alone"),
]


@pytest.mark.parametrize("file", ["train", "validation"])
@pytest.mark.parametrize(("label", "settings", "says"), LABELS)
def test_a_relevance_that_cannot_be_is_told(label: str, settings: dict, says: str, file: str, tmp_path: Path) -> None:
    source = written(tmp_path, 2 if "map" in str(settings) or "aucpr" in str(settings) else 4)
    path = tmp_path / f"{file}.csv"
    lines = path.read_text().splitlines()
    lines[7] = ",".join([*lines[7].split(",")[:-1], label])
    path.write_text("\n".join(lines) + "\n")
    if not says:
        fitted(source, **settings)
        return
    with pytest.raises(UserError, match=says) as refusal:
        fitted(source, **settings)
    assert "\n" not in str(refusal.value)


def test_words_are_no_relevance(tmp_path: Path) -> None:
    source = written(tmp_path, 2, validation=None)
    path = tmp_path / "train.csv"
    path.write_text(path.read_text().replace(",0\n", ",bad\n").replace(",1\n", ",good\n"))
    with pytest.raises(UserError, match=r"'grade' is not a number: task=ranking learns a relevance; write it as 0, 1"):
        fitted(source)


def test_a_metric_of_groups_is_refused_where_there_are_none() -> None:
    for metric in ("ndcg", ["rmse", "map@3"], "pre@2-"):
        with pytest.raises(UserError, match=r"measures the order within groups, which algorithm\.task=ranking"):
            XGBoost(eval_metric=metric).check(Path())


def test_what_is_missing_or_too_much_is_told_before_anything_starts(tmp_path: Path) -> None:
    source = written(tmp_path)
    node = {"_target_": "trainer.data.sources.Csv", "train": source.train, "label": "grade"}
    ranker = {"_target_": "algorithms.xgboost.XGBoost", "objective": "rank:map"}
    with pytest.raises(UserError, match=r"ranks rows within groups: set data\.group"):
        check_data({"algorithm": ranker, "data": node})
    check_data({"algorithm": ranker, "data": {**node, "group": "query"}})
    with pytest.raises(UserError, match=r"doesn't use data\.group; algorithm=xgboost algorithm\.task=ranking does"):
        check_data({"algorithm": {**ranker, "objective": "count:poisson"}, "data": {**node, "group": "query"}})
    with pytest.raises(UserError, match="data=digits has no such column; choose a table"):
        check_data({"algorithm": ranker, "data": {"_target_": "trainer.data.sources.Digits"}})
