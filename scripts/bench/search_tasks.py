"""Tasks to compare search by: classic functions, and models of scikit-learn on its bundled data sets.

After the black-box optimization challenge of NeurIPS 2020 (Turner et al., "Bayesian Optimization is Superior to Random
Search for Machine Learning Hyperparameter Tuning", PMLR 133, 2021) and its benchmark: a task is a model, a data set and
a metric by cross-validation. Models are kept small (few rows, trees, passes), so that one evaluation takes
milliseconds; nothing is interpolated. All values are to be minimized. The two groups share no task: DEVELOPMENT is what
`search=bayes` was built on, HELD_OUT what is reported.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Space = dict[str, BaseDistribution]
FOLDS = 3
ROWS = 400  # of a data set, at most


@dataclass(frozen=True)
class Task:
    """What to minimize. best: the known minimum, or None."""

    name: str
    space: Space
    value: Callable[[dict[str, Any]], float]
    best: float | None = None

    @property
    def is_function(self) -> bool:
        return self.best is not None


def log(low: float, high: float) -> FloatDistribution:
    return FloatDistribution(low, high, log=True)


# -- functions: their usual domains, made lopsided where the minimum would lie in the middle


def branin(x: np.ndarray) -> float:
    a = x[1] - 5.1 / (4 * math.pi**2) * x[0] ** 2 + 5 / math.pi * x[0] - 6
    return float(a**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x[0]) + 10)


def six_hump_camel(x: np.ndarray) -> float:
    a, b = x
    return float((4 - 2.1 * a**2 + a**4 / 3) * a**2 + a * b + (-4 + 4 * b**2) * b**2)


def goldstein_price(x: np.ndarray) -> float:
    a, b = x
    first = 1 + (a + b + 1) ** 2 * (19 - 14 * a + 3 * a**2 - 14 * b + 6 * a * b + 3 * b**2)
    second = 30 + (2 * a - 3 * b) ** 2 * (18 - 32 * a + 12 * a**2 + 48 * b - 36 * a * b + 27 * b**2)
    return float(first * second)


def hartmann(weights: np.ndarray, centres: np.ndarray, x: np.ndarray) -> float:
    return float(-np.array([1.0, 1.2, 3.0, 3.2]) @ np.exp(-(weights * (x - centres * 1e-4) ** 2).sum(1)))


hartmann3 = partial(
    hartmann,
    np.array([[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]]),
    np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]]),
)
hartmann6 = partial(
    hartmann,
    np.array(
        [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
    ),
    np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    ),
)


def ackley(x: np.ndarray) -> float:
    wave = np.exp(np.cos(2 * math.pi * x).mean())
    return float(20 + math.e - 20 * np.exp(-0.2 * np.sqrt((x**2).mean())) - wave)


def rastrigin(x: np.ndarray) -> float:
    return float(10 * len(x) + (x**2 - 10 * np.cos(2 * math.pi * x)).sum())


def rosenbrock(x: np.ndarray) -> float:
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def levy(x: np.ndarray) -> float:
    w = 1 + (x - 1) / 4
    inner = ((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2)).sum()
    return float(np.sin(math.pi * w[0]) ** 2 + inner + (w[-1] - 1) ** 2 * (1 + np.sin(2 * math.pi * w[-1]) ** 2))


def griewank(x: np.ndarray) -> float:
    return float(1 + (x**2).sum() / 4000 - np.cos(x / np.sqrt(np.arange(1, len(x) + 1))).prod())


def styblinski_tang(x: np.ndarray) -> float:
    return float((x**4 - 16 * x**2 + 5 * x).sum() / 2)


def powell(x: np.ndarray) -> float:
    a, b, c, d = x
    return float((a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4)


def function(formula: Callable[[np.ndarray], float], low: float, high: float, size: int, best: float) -> Task:
    """A function of `size` numbers, each within [low, high]."""
    named = formula.__name__ if hasattr(formula, "__name__") else {3: "hartmann3", 6: "hartmann6"}[size]
    space: Space = {f"x{i}": FloatDistribution(low, high) for i in range(size)}
    return Task(f"{named}, {size}", space, partial(_of_numbers, formula), best)


def _of_numbers(formula: Callable[[np.ndarray], float], config: dict[str, Any]) -> float:
    return formula(np.array([config[key] for key in sorted(config)]))


BRANIN = Task(
    "branin, 2",
    {"x0": FloatDistribution(-5, 10), "x1": FloatDistribution(0, 15)},
    partial(_of_numbers, branin),
    0.397887,
)

# -- models


@cache
def data(name: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Features (standardized), targets (standardized if numbers), and whether they are classes."""
    from sklearn import datasets
    from sklearn.preprocessing import scale

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(x))[:ROWS]
    classes = name != "diabetes"
    return scale(x[chosen]), (y[chosen] if classes else scale(y[chosen])), classes


TREE: Space = {
    "max_depth": IntDistribution(1, 15),
    "min_samples_split": FloatDistribution(0.01, 0.99),
    "min_samples_leaf": log(0.005, 0.49),
    "max_features": FloatDistribution(0.05, 1.0),
    "min_impurity_decrease": FloatDistribution(0.0, 0.3),
}
SVM: Space = {"C": log(1e-3, 1e3), "gamma": log(1e-5, 10.0), "tol": log(1e-5, 1e-1)}
SPACES: dict[str, Space] = {
    "svm": SVM | {"kernel": CategoricalDistribution(["rbf", "poly", "sigmoid"])},
    "svr": SVM | {"epsilon": log(1e-3, 1.0)},
    "knn": {
        "n_neighbors": IntDistribution(1, 40),
        "p": FloatDistribution(1.0, 5.0),
        "weights": CategoricalDistribution(["uniform", "distance"]),
    },
    "tree": TREE,
    "forest": TREE | {"n_estimators": IntDistribution(3, 15), "bootstrap": CategoricalDistribution([False, True])},
    "logistic": {
        "C": log(1e-4, 1e4),
        "intercept_scaling": log(1e-2, 1e2),
        "tol": log(1e-5, 1e-1),
        "l1_ratio": CategoricalDistribution([0, 1]),
    },
    "elastic": {"alpha": log(1e-4, 1e2), "l1_ratio": FloatDistribution(0.0, 1.0), "tol": log(1e-5, 1.0)},
    "ada": {
        "n_estimators": IntDistribution(3, 20, log=True),
        "learning_rate": log(1e-3, 1e1),
        "max_depth": IntDistribution(1, 4),
    },
    "mlp": {
        "hidden": IntDistribution(4, 64, log=True),
        "alpha": log(1e-6, 1e1),
        "learning_rate_init": log(1e-5, 1e-1),
        "batch_size": IntDistribution(8, 128),
        "beta_1": FloatDistribution(0.5, 0.99),
        "beta_2": FloatDistribution(0.9, 0.999999),
        "activation": CategoricalDistribution(["relu", "tanh", "logistic"]),
    },
}


def model(name: str, config: dict[str, Any], classes: bool) -> Any:
    from sklearn import ensemble, linear_model, neighbors, neural_network, svm, tree

    if name == "svm":
        return svm.SVC(**config, max_iter=3000)
    if name == "svr":
        return svm.SVR(**config, max_iter=3000)
    if name == "knn":
        return (neighbors.KNeighborsClassifier if classes else neighbors.KNeighborsRegressor)(**config)
    if name == "tree":
        return (tree.DecisionTreeClassifier if classes else tree.DecisionTreeRegressor)(**config, random_state=0)
    if name == "forest":
        return (ensemble.RandomForestClassifier if classes else ensemble.RandomForestRegressor)(
            **config, random_state=0
        )
    if name == "logistic":
        from sklearn.multiclass import OneVsRestClassifier

        return OneVsRestClassifier(linear_model.LogisticRegression(**config, solver="liblinear", random_state=0))
    if name == "elastic":
        return linear_model.ElasticNet(**config, max_iter=300)
    if name == "ada":
        rest = {key: value for key, value in config.items() if key != "max_depth"}
        if classes:
            stump = tree.DecisionTreeClassifier(max_depth=config["max_depth"], random_state=0)
            return ensemble.AdaBoostClassifier(stump, **rest, random_state=0)
        stump = tree.DecisionTreeRegressor(max_depth=config["max_depth"], random_state=0)
        return ensemble.AdaBoostRegressor(stump, **rest, random_state=0)
    rest = {key: value for key, value in config.items() if key != "hidden"}
    kind = neural_network.MLPClassifier if classes else neural_network.MLPRegressor
    return kind(hidden_layer_sizes=(config["hidden"],), **rest, max_iter=12, random_state=0)


def tuned(name: str, source: str, metric: str, config: dict[str, Any]) -> float:
    """The metric of a model on a data set by cross-validation, as something to minimize."""
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score

    x, y, classes = data(source)
    scoring = {
        "acc": "accuracy",
        "nll": "neg_log_loss",
        "mse": "neg_mean_squared_error",
        "mae": "neg_mean_absolute_error",
    }
    folds = (StratifiedKFold if classes else KFold)(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        scores = cross_val_score(model(name, config, classes), x, y, scoring=scoring[metric], cv=folds)
    value = -float(np.mean(scores)) + (1.0 if metric == "acc" else 0.0)
    return value if math.isfinite(value) else 1e6


def learned(name: str, source: str, metric: str) -> Task:
    return Task(f"{name} {source} {metric}", SPACES[name], partial(tuned, name, source, metric))


DEVELOPMENT = (
    BRANIN,
    function(hartmann3, 0, 1, 3, -3.86278),
    function(ackley, -10, 20, 4, 0.0),
    function(rastrigin, -3, 5.12, 3, 0.0),
    function(powell, -4, 5, 4, 0.0),
    function(six_hump_camel, -2, 2, 2, -1.031628),
    learned("svm", "breast_cancer", "acc"),
    learned("svr", "diabetes", "mse"),
    learned("knn", "digits", "nll"),
    learned("tree", "wine", "nll"),
    learned("tree", "diabetes", "mae"),
    learned("forest", "iris", "nll"),
    learned("logistic", "wine", "acc"),
    learned("logistic", "iris", "nll"),
    learned("mlp", "iris", "nll"),
    learned("mlp", "diabetes", "mse"),
    learned("ada", "wine", "nll"),
    learned("elastic", "diabetes", "mse"),
)
HELD_OUT = (
    function(goldstein_price, -2, 2, 2, 3.0),
    function(hartmann6, 0, 1, 6, -3.32237),
    function(ackley, -5, 10, 6, 0.0),
    function(rosenbrock, -5, 10, 4, 0.0),
    function(levy, -10, 10, 5, 0.0),
    function(rastrigin, -5.12, 3, 5, 0.0),
    function(griewank, -60, 100, 4, 0.0),
    function(styblinski_tang, -5, 5, 5, -39.16617 * 5),
    learned("svm", "digits", "acc"),
    learned("svr", "diabetes", "mae"),
    learned("knn", "breast_cancer", "nll"),
    learned("knn", "diabetes", "mse"),
    learned("tree", "breast_cancer", "nll"),
    learned("tree", "digits", "acc"),
    learned("forest", "wine", "nll"),
    learned("forest", "diabetes", "mse"),
    learned("logistic", "breast_cancer", "nll"),
    learned("mlp", "wine", "nll"),
    learned("mlp", "breast_cancer", "acc"),
    learned("mlp", "diabetes", "mae"),
    learned("ada", "iris", "nll"),
    learned("ada", "diabetes", "mse"),
)
