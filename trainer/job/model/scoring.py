"""Figures of what was learned, on samples whose label is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.algorithm import Batch, Estimator, Module
from trainer.data.schema import Schema

if TYPE_CHECKING:
    from trainer.data.tables.samples import Samples


def scores_of_module(algorithm: Module, network: Any, samples: Samples, batch_size: int) -> dict[str, float]:
    """The metrics that a training validates by, in this process: of a network in evaluation mode, each sample counting once."""
    import torch

    sums: dict[str, Any] = {}
    with torch.no_grad():
        for batch in samples.sequential(batch_size=batch_size):
            for name, value in algorithm.evaluate(network, batch).items():
                each = value.double() if value.dim() else value.double().expand(batch.size)
                sums[name] = sums.get(name, 0) + each.sum(0)
    means = {name: (total / samples.rows).tolist() for name, total in sums.items()}
    return {name: float(value) for name, value in algorithm.summarize(means).items()}


def scores(algorithm: Estimator, samples: Samples, schema: Schema) -> dict[str, float]:
    """Its own (`Estimator.evaluate`), or those of its predictions."""
    own = algorithm.evaluate(samples, schema)
    return _of_predictions(algorithm, samples, schema) if own is None else own


def _of_predictions(algorithm: Estimator, samples: Samples, schema: Schema) -> dict[str, float]:
    """`accuracy` of classes; `rmse`, `mae` and `r2` of numbers; nothing where it learns without a label, or predicts no
    column `prediction`. In one pass, in bounded memory."""
    target = algorithm.target(schema)
    if target is None:
        return {}
    rows = right = 0
    mean = spread = squares = absolute = 0.0
    for x, y in samples.chunks():
        found = algorithm.predict(Batch(x, None, x.shape[0], x.shape[0])).get("prediction")
        if found is None or y is None:
            return {}
        n, rows = len(y), rows + len(y)
        if target == "class":
            right += int((np.asarray(found) == y).sum())
            continue
        label = np.asarray(y, np.float64)
        error = np.asarray(found, np.float64) - label
        squares, absolute = squares + float(error @ error), absolute + float(np.abs(error).sum())
        # the label's spread by Chan, Golub and LeVeque (1979): a sum of squares would lose digits far from zero
        shift = float(label.mean()) - mean
        spread += float(((label - label.mean()) ** 2).sum()) + shift**2 * (rows - n) * n / rows
        mean += shift * n / rows
    if target == "class":
        return {"accuracy": right / rows}
    figures = {"rmse": math.sqrt(squares / rows), "mae": absolute / rows}
    return figures | ({"r2": 1 - squares / spread} if spread > 0 else {})
