"""A model scored on rows from Python or of a file, by the metrics that its training is validated by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.datasets import dump_svmlight_file

import trainer
from algorithms.gpt import GPT
from algorithms.linear import Linear
from algorithms.xgboost import XGBoost
from tests.algorithms.contexts import Alone
from trainer.algorithm import Module
from trainer.data.opening import open_data
from trainer.data.source import Source
from trainer.data.sources import Csv, Libsvm, Npy, Text
from trainer.job.model.artifact import Model
from trainer.job.model.scoring import scores, scores_of_module

N = 60


def frame(**more: Any) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"rooms": rng.integers(1, 6, N), "city": rng.choice(["a", "b"], N), "size": rng.random(N)})
    return table.assign(price=table["rooms"] * 10 + 5 * (table["city"] == "a") + 0.5).assign(**more)


def model_of(source: Source, algorithm: Any) -> tuple[Model, dict[str, float]]:
    """A model of a source's schema, as trained for no step or a few rounds, and its figures on the source's test rows."""
    opened = open_data(source, algorithm, seed=0)
    target = algorithm.target(opened.schema)
    if isinstance(algorithm, Module):
        network = algorithm.build(opened.schema).eval()
        figures = scores_of_module(algorithm, network, opened.test, 7)
        return Model(algorithm, opened.schema, target, {}, network), figures
    algorithm.fit(Alone(opened.schema, opened.train))
    return Model(algorithm, opened.schema, target, {}), scores(algorithm, opened.test, opened.schema)


@pytest.fixture
def csv(folder: Path) -> Csv:
    frame().to_csv("train.csv", index=False)
    frame().tail(25).to_csv("test.csv", index=False)
    return Csv(train="train.csv", test="test.csv", label="price", validation=None)


def test_rows_and_files_of_all_kinds_have_the_figures_of_the_training(csv: Csv) -> None:
    model, figures = model_of(csv, XGBoost(rounds=3))
    assert {"rmse", "mae", "loss"} == set(figures)
    test = frame().tail(25)
    test.to_csv("test.tsv", index=False, sep="\t")
    test.to_csv("test.csv.gz", index=False)
    test.to_csv("test.dat", index=False, sep=";")
    test.to_json("test.jsonl", orient="records", lines=True)
    x, y = test.drop(columns="price"), test["price"]
    for rows in (test, test[::-1][["size", "price", "city", "rooms"]], (x, y), (x, y.tolist()), dict(test)):
        assert trainer.evaluate(model, rows) == pytest.approx(figures)
    for path in ("test.csv", Path("test.tsv"), "test.csv.gz", "test.jsonl"):
        assert trainer.evaluate(model, path) == pytest.approx(figures)
    told: dict[str, Any] = {"data": "csv", "data.delimiter": ";"}
    assert trainer.evaluate(model, "test.dat", **told) == pytest.approx(figures)
    assert trainer.evaluate(model, data=test) == pytest.approx(figures)
    assert trainer.evaluate(model, data={"test": "test.csv"}) == pytest.approx(figures)


@pytest.mark.parametrize("label", [["no", "yes"], [7, 3], [False, True], [2**60, 2**60 + 1]])
def test_classes_of_all_kinds_are_told_apart(folder: Path, label: list[Any]) -> None:
    rows = frame(price=[label[i % 2] for i in range(N)])
    rows.to_csv("rows.csv", index=False)
    source = Csv(train="rows.csv", test="rows.csv", label="price", columns=["size"], validation=None)
    model, figures = model_of(source, Linear())
    assert "accuracy" in figures
    assert trainer.evaluate(model, "rows.csv") == pytest.approx(figures)
    assert trainer.evaluate(model, rows) == pytest.approx(figures)
    with pytest.raises(trainer.UserError, match="is no class of the training data"):
        trainer.evaluate(model, frame(price=5))


def test_columns_without_names_have_their_label_by_position(folder: Path) -> None:
    array = np.random.default_rng(0).random((N, 3))
    np.save("rows.npy", array)
    model, figures = model_of(Npy(train="rows.npy", test="rows.npy", label=0, validation=None), Linear())
    assert trainer.evaluate(model, array) == pytest.approx(figures)
    assert trainer.evaluate(model, "rows.npy") == pytest.approx(figures)
    with pytest.raises(trainer.UserError, match="there is no column '0', the label"):
        trainer.evaluate(model, array[:, 1:])


def test_sparse_rows_are_a_file_or_a_matrix_with_labels(folder: Path) -> None:
    dense = np.random.default_rng(0).integers(0, 3, (N, 4)) * 1.0
    y = dense.sum(1) + 0.5
    dump_svmlight_file(dense, y, "rows.libsvm")
    model, figures = model_of(Libsvm(train="rows.libsvm", test="rows.libsvm", validation=None), Linear())
    assert trainer.evaluate(model, (csr_matrix(dense), y)) == pytest.approx(figures)
    assert trainer.evaluate(model, "rows.libsvm") == pytest.approx(figures)
    with pytest.raises(trainer.UserError, match="X has 60 rows and y 3"):
        trainer.evaluate(model, (csr_matrix(dense), y[:3]))


def test_text_is_scored_by_its_model(folder: Path) -> None:
    Path("corpus.txt").write_text("once upon a time\n" * 40)
    tiny = GPT(layers=1, heads=2, width=16, context=8)
    model, figures = model_of(Text(train="corpus.txt", test="corpus.txt", validation=None), tiny)
    assert trainer.evaluate(model, "corpus.txt") == pytest.approx(figures)
    with pytest.raises(trainer.UserError, match="the model reads text: give it a data source"):
        trainer.evaluate(model, frame())


@pytest.mark.parametrize(
    ("rows", "keywords", "said"),
    [
        (
            frame().drop(columns="price"),
            {},
            "the rows: there is no column 'price', the label; there is city, rooms, size",
        ),
        (frame().drop(columns="city"), {}, "there is no column 'city', which the model learned from"),
        (frame(price="x"), {}, "row 1, column 'price': 'x' is not a number"),
        (frame(price=np.nan), {}, "row 1, column 'price': the label is missing"),
        (frame(rooms="five"), {}, "row 1, column 'rooms': 'five' is not a number"),
        ((frame(), frame()["price"]), {}, "the rows: X has a column 'price', as y is called"),
        ((1, 2, 3), {}, "the rows: 3 things are no pair (X, y)"),
        (frame(), {"data": "csv"}, "data: it says how a file is read, and rows are given"),
        ("test.csv", {"data.test": "test.csv"}, "data.test: the rows are given already"),
        ("test.csv", {"train.epochs": 3}, "train.epochs: how a model is scored has no such setting"),
        ("test.csv", {"data": "csv", "data.delimeter": ";"}, "data.delimeter"),
        ("test.xyz", {}, "there is no such file"),
        ("test.csv", {"data.label": "rooms"}, "data.label: the model is scored as it has learned"),
        (".", {"data.header": False}, "its ending tells no format; say it: data='csv'"),
        (None, {}, "the rows: give a DataFrame, an array, a pair (X, y), the path of a file, or data=NAME"),
    ],
)
def test_a_mistake_is_one_line(csv: Csv, rows: Any, keywords: Any, said: str) -> None:
    Path("a.txt.old").write_text("x")
    opened = open_data(csv, Linear(), seed=0)
    model = Model(Linear(), opened.schema, "number", {}, object())
    with pytest.raises(trainer.UserError) as error:
        trainer.evaluate(model, rows, **keywords)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_result_a_folder_and_a_model_are_scored_alike(digits: trainer.Result) -> None:
    figures = trainer.evaluate(digits, data="digits")
    assert (
        figures
        == trainer.evaluate(str(digits.model), data="digits")
        == trainer.evaluate(trainer.load(str(digits.model)), data="digits")
    )
    assert 0.95 < figures["accuracy"] < 1


def test_a_ranking_is_scored_within_the_groups_of_the_rows(folder: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"query": rng.integers(0, 9, N) + 2**60, "a": rng.random(N), "b": rng.random(N)})
    table["grade"] = (table["a"] * 3).round().astype(int)
    for name in ("train.csv", "test.csv"):
        table.to_csv(name, index=False)
    ranker = XGBoost(task="ranking", rounds=3, params={"ndcg_exp_gain": False})
    source = Csv(train="train.csv", test="test.csv", label="grade", group="query", validation=None)
    model, figures = model_of(source, ranker)
    assert set(figures) == {"ndcg", "loss"}
    assert trainer.evaluate(model, "test.csv") == figures
    assert trainer.evaluate(model, table[["grade", "a", "query", "b"]]) == figures
    assert trainer.evaluate(model, (table.drop(columns="grade"), table["grade"])) == figures
    for rows, says in [
        (table.drop(columns="query"), "the rows: there is no column 'query', the group"),
        (table.assign(query=[None, *table["query"][1:]]), "row 1, column 'query': the group is missing"),
        (table.assign(grade=-1), "'grade' holds -1"),
    ]:
        with pytest.raises(trainer.UserError, match=says):
            trainer.evaluate(model, rows)
    lines = [f"{row.grade} qid:{row.query} 1:{row.a!r} 2:{row.b!r}\n" for row in table.itertuples()]
    Path("rows.svm").write_text("".join(lines))
    model, figures = model_of(Libsvm(train="rows.svm", test="rows.svm", validation=None), ranker)
    assert trainer.evaluate(model, "rows.svm") == figures
    Path("bare.svm").write_text("1 1:2\n0 1:1\n")
    with pytest.raises(trainer.UserError, match=r"bare.svm, row 1, the line has no qid"):
        trainer.evaluate(model, "bare.svm")
    with pytest.raises(trainer.UserError, match=r"a pair \(X, y\) doesn't say the group of a row"):
        trainer.evaluate(model, (csr_matrix(np.ones((2, 2))), [0, 1]))


def test_times_between_bounds_are_scored_by_both(folder: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.random(N), "low": rng.random(N)})
    table["high"] = np.where(rng.random(N) < 0.5, table["low"], np.inf)
    for name in ("train.csv", "test.csv"):
        table.to_csv(name, index=False)
    source = Csv(train="train.csv", test="test.csv", label="low", label_upper_bound="high", validation=None)
    params = {"aft_loss_distribution": "logistic", "aft_loss_distribution_scale": 0.5}
    model, figures = model_of(source, XGBoost(objective="survival:aft", rounds=3, params=params))
    assert set(figures) == {"aft-nloglik", "loss"}
    assert trainer.evaluate(model, "test.csv") == trainer.evaluate(model, table) == figures
    with pytest.raises(trainer.UserError, match="there is no column 'high', the upper bound"):
        trainer.evaluate(model, table[["a", "low"]])


def test_what_cannot_be_scored_says_so(csv: Csv) -> None:
    opened = open_data(csv, Linear(), seed=0)

    def loop(context: Any) -> None:
        pass

    from trainer.config.code.function import Function

    with pytest.raises(trainer.UserError, match="loop reads its data by itself, so no rows can be scored here"):
        trainer.evaluate(Model(Function(loop, {}), opened.schema, None, {}), "test.csv")
