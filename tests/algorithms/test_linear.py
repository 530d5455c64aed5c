"""The linear learner: losses and penalties by hand, quality beside scikit-learn's, what it refuses."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, precision_score, r2_score, recall_score

from algorithms.linear import Linear
from trainer.algorithm import Batch, SparseRows
from trainer.data.schema import Column, Schema
from trainer.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "algorithm"
DATA = Path(__file__).parents[3] / "shared" / "data"


def schema_of(x: np.ndarray, y: np.ndarray, categories: dict[int, int] | None = None, classes: int = 0) -> Schema:
    """What the data layer says of these rows; `categories`: how many a categorical column has, by index."""
    features = tuple(
        Column(name=f"x{j}", kind="categorical", categories=tuple(map(str, range(categories[j]))))
        if categories and j in categories
        else Column(name=f"x{j}", kind="numeric", mean=float(np.mean(v)), std=float(np.std(v)))
        for j, v in enumerate(x.T.astype(np.float64))
    )
    if classes:
        counts = tuple(np.bincount(y, minlength=classes).tolist())
        label = Column(name="y", kind="categorical", classes=tuple(range(classes)), counts=counts)
    else:
        values = y.astype(np.float64)
        label = Column(name="y", kind="numeric", mean=float(values.mean()), std=float(values.std()))
    return Schema(features=features, label=label, rows=len(x), columns=x.shape[1])


def batch_of(x: np.ndarray, y: np.ndarray) -> Batch:
    return Batch(torch.from_numpy(x), torch.from_numpy(y), len(x), len(x))


def fit(algorithm: Linear, schema: Schema, x: np.ndarray, y: np.ndarray, epochs: int = 20, size: int = 32):
    """The trainer's loop in short; 20 epochs of 32 are its defaults."""
    torch.manual_seed(0)
    model = algorithm.build(schema)
    optimizer = algorithm.optimizer(model)
    schedule = algorithm.schedule(optimizer, epochs * math.ceil(len(x) / size))
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(size):
            optimizer.zero_grad()
            algorithm.loss(model, batch_of(x[rows], y[rows])).backward()
            optimizer.step()
            schedule.step()
    return model


def metrics(algorithm: Linear, model: torch.nn.Module, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    with torch.no_grad():
        figures = algorithm.evaluate(model, batch_of(x, y))
    assert all(len(f) == len(x) for f in figures.values())
    return algorithm.summarize({name: f.double().mean().item() for name, f in figures.items()})


def regression_rows(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.normal(3, 2, (n, 4)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5, 0.0] + 100 + rng.normal(0, 1, n)).astype(np.float32)
    return x, y


def class_rows(classes: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, (n, 4)).astype(np.float32)
    y = np.argmax(x[:, :classes] + rng.normal(0, 0.5, (n, classes)), axis=1).astype(np.int64)
    return x, y


def with_weights(algorithm: Linear, schema: Schema) -> tuple[torch.nn.Module, np.ndarray, np.ndarray]:
    """A model with random weights, and these weights: [outputs, columns] and [outputs]."""
    model = algorithm.build(schema)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model, model.weight.detach().numpy(), model.bias.detach().numpy()


RESIDUAL_LOSSES = {
    "squared": lambda r: r**2,
    "absolute": np.abs,
    "huber": lambda r: np.where(np.abs(r) <= 0.7, r**2 / 2, 0.7 * (np.abs(r) - 0.35)),
    "quantile": lambda r: np.maximum(-0.9 * r, 0.1 * r),
}


@pytest.mark.parametrize("objective", RESIDUAL_LOSSES)
def test_a_regression_loss_is_its_formula_in_deviations_of_the_label(objective: str) -> None:
    x, y = regression_rows()
    algorithm = Linear(objective=objective, huber_delta=0.7, quantile=0.9, l2=0.0)
    model, weight, bias = with_weights(algorithm, schema_of(x, y))
    outputs = ((x - x.mean(0)) / x.std(0)) @ weight[0] + bias[0]
    expected = RESIDUAL_LOSSES[objective](outputs - (y - y.mean()) / y.std()).mean()
    assert algorithm.loss(model, batch_of(x, y)).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("objective", ["logistic", "hinge"])
def test_a_loss_of_two_classes_is_its_formula(objective: str) -> None:
    x, y = class_rows(2)
    algorithm = Linear(objective=objective, l2=0.0, normalize=False)
    model, weight, bias = with_weights(algorithm, schema_of(x, y, classes=2))
    margin = (x @ weight[0] + bias[0]) * (2 * y - 1)
    expected = np.log1p(np.exp(-margin)) if objective == "logistic" else np.maximum(0, 1 - margin)
    assert algorithm.loss(model, batch_of(x, y)).item() == pytest.approx(expected.mean(), rel=1e-5)


def softmax_of(outputs: np.ndarray) -> np.ndarray:
    exponents = np.exp(outputs - outputs.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def test_softmax_loss_and_its_gradient_are_their_formulas() -> None:
    x, y = class_rows(3)
    algorithm = Linear(l2=0.0, normalize=False)
    model, weight, bias = with_weights(algorithm, schema_of(x, y, classes=3))
    chance = softmax_of(x @ weight.T + bias)
    loss = algorithm.loss(model, batch_of(x, y))
    loss.backward()
    assert loss.item() == pytest.approx(-np.log(chance[np.arange(len(y)), y]).mean(), rel=1e-5)
    np.testing.assert_allclose(model.weight.grad, (chance - np.eye(3)[y]).T @ x / len(x), rtol=1e-3, atol=1e-6)


def test_penalties_are_part_of_the_loss_and_leave_the_bias_alone() -> None:
    x, y = class_rows(3)
    schema = schema_of(x, y, classes=3)
    plain, penalised = Linear(l2=0.0), Linear(l1=0.3, l2=0.2)
    model, weight, _ = with_weights(plain, schema)
    penalised.build(schema)
    difference = penalised.loss(model, batch_of(x, y)) - plain.loss(model, batch_of(x, y))
    difference.backward()
    assert difference.item() == pytest.approx(0.3 * np.abs(weight).sum() + 0.1 * (weight**2).sum(), rel=1e-4)
    np.testing.assert_allclose(model.weight.grad, 0.3 * np.sign(weight) + 0.2 * weight, atol=1e-5)
    np.testing.assert_allclose(model.bias.grad, 0, atol=1e-6)


def test_without_a_choice_the_l2_penalty_is_one_over_the_rows() -> None:
    x, y = class_rows(2)
    schema = schema_of(x, y, classes=2)
    default, plain = Linear(), Linear(l2=0.0)
    model, weight, _ = with_weights(default, schema)
    plain.build(schema)
    difference = default.loss(model, batch_of(x, y)) - plain.loss(model, batch_of(x, y))
    assert difference.item() == pytest.approx((weight**2).sum() / 2 / len(x), rel=1e-3)


@pytest.mark.parametrize("given", ["balanced", [1.0, 2.0, 5.0], {"1": 2.0, "2": 5.0}])
def test_class_weights_multiply_each_samples_loss(given: object) -> None:
    x, y = class_rows(3)
    schema = schema_of(x, y, classes=3)
    algorithm = Linear(l2=0.0, normalize=False, class_weights=given)
    model, weight, bias = with_weights(algorithm, schema)
    weights = len(y) / (3 * np.bincount(y)) if given == "balanced" else np.array([1.0, 2.0, 5.0])
    losses = -np.log(softmax_of(x @ weight.T + bias)[np.arange(len(y)), y])
    assert algorithm.loss(model, batch_of(x, y)).item() == pytest.approx((weights[y] * losses).mean(), rel=1e-5)


def test_a_category_has_its_own_weight_and_a_missing_one_adds_nothing() -> None:
    x = np.array([[0, 1.0, 2], [1, 3.0, 0], [np.nan, 5.0, np.nan]], dtype=np.float32)
    y = np.array([1.0, 2.0, 4.0], dtype=np.float32)
    algorithm = Linear(normalize=False)
    model, weight, bias = with_weights(algorithm, schema_of(x, y, categories={0: 2, 2: 3}))
    table = model.table.detach().numpy()  # two rows of column 0, three of column 2
    expected = weight[0, 0] * x[:, 1] + bias[0]
    expected[:2] += [table[0, 0] + table[4, 0], table[1, 0] + table[2, 0]]
    output = algorithm.predict(model, batch_of(x, y))["prediction"]
    np.testing.assert_allclose(output.detach(), expected, rtol=1e-5)


def test_a_sparse_row_counts_as_the_dense_one_scaled_but_not_centred() -> None:
    rng = np.random.default_rng(4)
    dense = (rng.normal(0, 2, (20, 6)) * (rng.random((20, 6)) < 0.3)).astype(np.float32)
    y = rng.normal(0, 1, 20).astype(np.float32)
    deviation = dense.std(0)
    label = Column(name="y", kind="numeric", mean=float(y.mean()), std=float(y.std()))
    schema = Schema(
        label=label,
        rows=20,
        columns=6,
        sparse=True,
        sparse_std=tuple(deviation.tolist()),
        sparse_mean=tuple(dense.mean(0).tolist()),
    )
    algorithm = Linear()
    model, weight, bias = with_weights(algorithm, schema)
    rows, columns = np.nonzero(dense)
    offsets = np.concatenate([[0], np.bincount(rows, minlength=20).cumsum()])
    sparse = SparseRows(torch.from_numpy(columns), torch.from_numpy(dense[rows, columns]), torch.from_numpy(offsets), 6)
    output = algorithm.predict(model, Batch(sparse, None, 20, 20))["prediction"]
    scale = np.where(deviation > 0, 1 / np.where(deviation > 0, deviation, 1), 0)
    expected = ((dense * scale) @ weight[:, 0] + bias[0]) * y.std() + y.mean()
    np.testing.assert_allclose(output.detach(), expected, rtol=1e-4, atol=1e-5)


def test_a_constant_column_changes_nothing() -> None:
    x, y = regression_rows()
    x[:, 1] = 7.0
    model, _, _ = with_weights(Linear(), schema_of(x, y))
    moved = x.copy()
    moved[:, 1] = 9.0
    assert torch.equal(model(torch.from_numpy(x)), model(torch.from_numpy(moved)))


def test_metrics_of_two_classes_are_scikit_learns() -> None:
    x, y = class_rows(2, 300)
    algorithm = Linear()
    schema = schema_of(x, y, classes=2)
    model = fit(algorithm, schema, x, y, epochs=2)
    found = metrics(algorithm, model, x, y)
    columns = algorithm.predict(model, batch_of(x, y))
    chosen = columns["prediction"].numpy()
    assert found["accuracy"] == pytest.approx((chosen == y).mean())
    assert found["precision"] == pytest.approx(precision_score(y, chosen))
    assert found["recall"] == pytest.approx(recall_score(y, chosen))
    assert found["f1"] == pytest.approx(f1_score(y, chosen))
    np.testing.assert_array_equal(columns["probability"].detach().numpy() > 0.5, chosen == 1)


def test_metrics_of_a_regression_are_in_the_labels_units() -> None:
    x, y = regression_rows(400)
    algorithm = Linear()
    model = fit(algorithm, schema_of(x, y), x, y, epochs=20)
    found = metrics(algorithm, model, x, y)
    predicted = algorithm.predict(model, batch_of(x, y))["prediction"].detach().numpy()
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((predicted - y) ** 2)), rel=1e-5)
    assert found["mae"] == pytest.approx(np.abs(predicted - y).mean(), rel=1e-5)
    assert found["r2"] == pytest.approx(r2_score(y, predicted), abs=1e-5)
    assert found["rmse"] < 1.1  # the noise has deviation 1


def test_the_quantile_loss_learns_the_quantile() -> None:
    x, y = regression_rows(2000)
    algorithm = Linear(objective="quantile", quantile=0.9)
    model = fit(algorithm, schema_of(x, y), x, y, epochs=20)
    below = (torch.from_numpy(y) < algorithm.predict(model, batch_of(x, y))["prediction"]).float().mean()
    assert below.item() == pytest.approx(0.9, abs=0.02)


def test_an_l1_penalty_silences_a_useless_feature() -> None:
    x, y = regression_rows(400)
    algorithm = Linear(l1=0.1)
    weight = fit(algorithm, schema_of(x, y), x, y, epochs=20).weight.detach()[0]
    assert abs(weight[3]) < 0.005 < 0.1 < abs(weight[1])


REFUSED = [
    ({"objective": "hinge", "task": "regression"}, 2, "'hinge' is a binary loss"),
    ({"objective": "squared", "task": "binary"}, 2, "'squared' is a regression loss"),
    ({"quantile": 1.5}, 0, "quantile"),
    ({"task": "binary"}, 3, "3 classes"),
    ({"objective": "logistic"}, 3, "3 classes"),
    ({"objective": "hinge"}, 0, "a number, not a class"),
    ({"task": "regression"}, 3, "is not a number"),
    ({"class_weights": [1.0, 2.0]}, 3, "2 weights for 3 classes"),
    ({"class_weights": {"7": 2.0}}, 3, "no class '7'"),
    ({"class_weights": [1.0, -2.0, 1.0]}, 3, "0 or more"),
    ({"class_weights": "balanced"}, 0, "has no classes"),
]


@pytest.mark.parametrize(("settings", "classes", "says"), REFUSED)
def test_settings_that_do_not_fit_the_label_are_refused_in_one_line(settings: dict, classes: int, says: str) -> None:
    x, y = class_rows(classes) if classes else regression_rows()
    with pytest.raises(UserError, match=says) as refusal:
        Linear(**settings).build(schema_of(x, y, classes=classes))
    assert "\n" not in str(refusal.value)


def test_the_config_file_lists_every_setting_with_its_default() -> None:
    config = yaml.safe_load((CONF / "linear.yaml").read_text())
    assert config.pop("_target_") == "algorithms.linear.Linear"
    assert config.pop("_space_")
    assert config == asdict(Linear())


def test_data_without_a_label_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.label"):
        Linear().build(Schema(columns=1))


def split(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[: len(x) * 8 // 10], order[len(x) * 8 // 10 :]
    return x[train], y[train], x[test], y[test]


def encoded(x: np.ndarray, schema: Schema) -> np.ndarray:
    """Standardised and one-hot: what scikit-learn gets."""
    parts = [
        np.eye(len(column.categories))[values.astype(int)]
        if column.categories
        else ((values.astype(np.float64) - column.mean) / (column.std or 1))[:, None]
        for column, values in zip(schema.features, x.T, strict=True)
    ]
    return np.concatenate(parts, axis=1)


def test_digits_come_out_as_well_as_with_scikit_learn() -> None:
    digits = load_digits()
    x, y, test_x, test_y = split(digits.data.astype(np.float32), digits.target.astype(np.int64))
    schema = schema_of(x, y, classes=10)
    algorithm = Linear()
    found = metrics(algorithm, fit(algorithm, schema, x, y), test_x, test_y)["accuracy"]
    reference = LogisticRegression(max_iter=1000).fit(encoded(x, schema), y)
    assert found >= reference.score(encoded(test_x, schema), test_y) - 0.005


def columns_of(path: Path, header: bool) -> tuple[list[list[str]], list[str]]:
    if not path.exists():
        pytest.skip(f"{path.name} is not in shared/data")
    with open(path, newline="") as file:
        rows = [row for row in csv.reader(file, skipinitialspace=True) if row]
    names = rows.pop(0) if header else []
    return [list(column) for column in zip(*rows, strict=True)], names


def codes_of(column: list[str]) -> tuple[np.ndarray, int]:
    names, codes = np.unique(column, return_inverse=True)
    return codes, len(names)


@pytest.mark.slow
def test_adult_comes_out_as_well_as_with_scikit_learn() -> None:
    columns, _ = columns_of(DATA / "adult_train.csv", header=False)
    labels, _ = codes_of(columns.pop())
    categories: dict[int, int] = {}
    for j in (1, 3, 5, 6, 7, 8, 9, 13):
        columns[j], categories[j] = codes_of(columns[j])
    x, y, test_x, test_y = split(np.array(columns, dtype=np.float32).T, labels.astype(np.int64))
    schema = schema_of(x, y, categories, classes=2)
    algorithm = Linear()
    found = metrics(algorithm, fit(algorithm, schema, x, y), test_x, test_y)["accuracy"]
    reference = LogisticRegression(max_iter=1000).fit(encoded(x, schema), y)
    assert found >= reference.score(encoded(test_x, schema), test_y) - 0.005


@pytest.mark.slow
def test_california_housing_comes_out_as_well_as_with_scikit_learn() -> None:
    columns, names = columns_of(DATA / "california_housing.csv", header=True)
    by_name = dict(zip(names, columns, strict=True))
    y = np.array(by_name.pop("median_house_value"), dtype=np.float32)
    near, count = codes_of(by_name.pop("ocean_proximity"))
    x = np.array([[float(cell or "nan") for cell in column] for column in by_name.values()]).T
    x = np.where(np.isnan(x), np.nanmean(x, axis=0), x)
    x = np.concatenate([x, near[:, None]], axis=1).astype(np.float32)
    x, y, test_x, test_y = split(x, y)
    schema = schema_of(x, y, {8: count})
    algorithm = Linear()
    found = metrics(algorithm, fit(algorithm, schema, x, y), test_x, test_y)["rmse"]
    reference = Ridge().fit(encoded(x, schema), y).predict(encoded(test_x, schema))
    assert found <= 1.01 * np.sqrt(np.mean((reference - test_y) ** 2))
