"""Linear models: regression, two classes and many, on dense, categorical and sparse features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.algorithm import Batch, Module, Range, SparseRows
from trainer.data.schema import Column, Schema
from trainer.errors import UserError, did_you_mean

TASKS: dict[str, tuple[str, ...]] = {
    "regression": ("squared", "absolute", "huber", "quantile"),
    "binary": ("logistic", "hinge"),
    "multiclass": ("softmax",),
}
PLAIN = ("loss", "accuracy", "mae")


@dataclass(kw_only=True)
class Linear(Module):
    """A linear learner, trained by Adam (Kingma and Ba, 2015, arXiv:1412.6980), its rate falling as a cosine.

    The output is f(x) = b + Σ w_j x_j, over standardised numeric features and one weight for each category of
    a categorical column (a missing or unknown one adds nothing). With r = f(x) - y, in standard deviations of
    the label if `normalize`, and s = ±1 for the two classes, a sample's loss is

        squared   r²                  huber     r²/2 where |r| <= d, else d·(|r| - d/2), d = `huber_delta`
        absolute  |r|                 quantile  max(-q·r, (1-q)·r), q = `quantile` (Koenker, Bassett, 1978)
        logistic  log(1 + exp(-s·f))  hinge     max(0, 1 - s·f)
        softmax   -log softmax(f)[y]

    times the weight of its class. What is minimised is its mean plus l1·Σ|w| + l2/2·Σw² over all weights but
    the bias; `l2=None` is 1 / rows, the strength that scikit-learn's LogisticRegression has by default.
    Weights start at zero.
    """

    lr: Annotated[float, Range(above=0)] = 0.05
    task: Literal["auto", "regression", "binary", "multiclass"] = "auto"
    objective: Literal["auto", "squared", "absolute", "huber", "quantile", "logistic", "hinge", "softmax"] = "auto"
    huber_delta: Annotated[float, Range(above=0)] = 1.0
    quantile: Annotated[float, Range(above=0, below=1)] = 0.5
    l1: Annotated[float, Range(min=0)] = 0.0
    l2: Annotated[float, Range(min=0)] | None = None
    class_weights: Literal["balanced"] | list[float] | dict[str, float] | None = None
    normalize: bool = True

    takes: ClassVar[frozenset[str]] = frozenset({"numeric", "categorical", "sparse"})

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise UserError(f"algorithm.quantile: {self.quantile} is not between 0 and 1")
        chosen = next((task for task, names in TASKS.items() if self.objective in names), None)
        if self.task != "auto" and chosen and chosen != self.task:
            raise UserError(
                f"algorithm.objective: {self.objective!r} is a {chosen} loss, but task={self.task}; "
                f"choose {' or '.join(TASKS[self.task])}"
            )

    def target(self, schema: Schema) -> str | None:
        return "number" if self._resolve(schema)[0] == "regression" else "class"

    def shift_equivariant(self, schema: Schema) -> bool:
        return True

    def build(self, schema: Schema) -> LinearModel:
        self._task, self._objective = self._resolve(schema)
        label = schema.label
        assert label is not None  # _resolve refuses a schema without one
        self._l2 = 1 / max(schema.rows, 1) if self.l2 is None else self.l2
        self._label_scale = _deviation(label) if self._task == "regression" and self.normalize else 1.0
        weights = self._weights_of(label)
        self._class_weights = None if weights is None else torch.tensor(weights)
        outputs = schema.classes if self._task == "multiclass" else 1
        shift = label.mean if self._task == "regression" and self.normalize else 0.0
        return LinearModel(schema, outputs, self.normalize, shift, self._label_scale)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        output = model(batch.x)
        if self._class_weights is None:
            loss = self._losses(output, batch.y, "mean")
        else:
            loss = self._losses(output, batch.y, "none").mean()
        return self._with_penalties(loss, model) if self.l1 or self._l2 else loss

    def _with_penalties(self, loss: Tensor, model: nn.Module) -> Tensor:
        assert isinstance(model, LinearModel)
        for parameter in (model.weight, model.table):  # by attribute: ZeRO gathers what is asked for so
            if parameter is not None:
                weights = parameter.flatten()
                if self._l2:
                    loss = torch.add(loss, weights.dot(weights), alpha=self._l2 / 2)
                if self.l1:
                    loss = torch.add(loss, weights.abs().sum(), alpha=self.l1)
        return loss

    def _losses(self, output: Tensor, y: Tensor, reduction: str) -> Tensor:
        """The data's loss, class weights included, penalties not: its mean, or [n] with reduction "none"."""
        if self._objective == "softmax":
            losses = F.cross_entropy(output, y, reduction=reduction)
        elif self._task == "binary":
            margin = output.squeeze(1) * (2 * y - 1)
            # softplus, as binary_cross_entropy_with_logits wakes all threads for a few values
            losses = F.softplus(-margin) if self._objective == "logistic" else F.relu(1 - margin)
            losses = _reduce(losses, reduction)
        else:
            return self._regression_losses((output.squeeze(1) - y) / self._label_scale, reduction)
        if self._class_weights is not None:
            losses = losses * self._class_weights.to(y.device)[y]
        return losses

    def _regression_losses(self, residual: Tensor, reduction: str) -> Tensor:
        if self._objective == "squared":
            losses = residual.square()
        elif self._objective == "absolute":
            losses = residual.abs()
        elif self._objective == "huber":
            return F.huber_loss(residual, torch.zeros_like(residual), reduction=reduction, delta=self.huber_delta)
        else:
            losses = torch.maximum(-self.quantile * residual, (1 - self.quantile) * residual)
        return _reduce(losses, reduction)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=self.lr, betas=(0.9, 0.99), fused=True)

    def schedule(self, optimizer: torch.optim.Optimizer, steps: int | None) -> Any:
        if steps is None:
            return None
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2
        )

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`loss` is the data's, without penalties; regression adds what rmse, mae and r2 are made of."""
        output, y = model(batch.x), batch.y
        figures = {"loss": self._losses(output, y, "none")}
        if self._task == "regression":
            error = output.squeeze(1) - y
            centred = (y - model.label_shift) / model.label_scale  # keeps the variance's difference of squares exact
            figures |= {"mae": error.abs(), "squared_error": error.square()}
            figures |= {"label": centred, "squared_label": centred.square()}
            return figures
        chosen = _class_of(output)
        figures["accuracy"] = (chosen == y).float()
        if self._task == "binary":
            figures["chosen_and_true"] = (chosen * y).float()
            figures["chosen"] = chosen.float()
            figures["true"] = y.float()
        return figures

    def summarize(self, means: dict[str, Any]) -> dict[str, float]:
        metrics: dict[str, float] = {name: means[name] for name in PLAIN if name in means}
        if self._task == "regression":
            metrics["rmse"] = math.sqrt(means["squared_error"])
            variance = means["squared_label"] - means["label"] ** 2
            if variance > 0:
                metrics["r2"] = 1 - means["squared_error"] / (variance * self._label_scale**2)
        if self._task == "binary":
            both, chosen, true = means["chosen_and_true"], means["chosen"], means["true"]
            metrics["precision"] = both / chosen if chosen else 0.0
            metrics["recall"] = both / true if true else 0.0
            metrics["f1"] = 2 * both / (chosen + true) if chosen + true else 0.0
        return metrics

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`prediction`, and `probability` of the second class (logistic) or `probabilities` of all."""
        output = model(batch.x)
        if self._task == "regression":
            return {"prediction": output.squeeze(1)}
        columns = {"prediction": _class_of(output)}
        if self._objective == "softmax":
            columns["probabilities"] = output.softmax(1)
        elif self._objective == "logistic":
            columns["probability"] = output.squeeze(1).sigmoid()
        return columns

    def _resolve(self, schema: Schema) -> tuple[str, str]:
        """Task and loss for this data. Raises UserError where they don't fit it."""
        label = schema.label
        if label is None:
            raise UserError("algorithm=linear learns from a label: name its column with data.label=…")
        classes = len(label.classes)
        if self.task != "auto":
            task: str = self.task
        elif self.objective != "auto":
            task = next(name for name, objectives in TASKS.items() if self.objective in objectives)
        else:
            task = "regression" if not classes else "binary" if classes == 2 else "multiclass"
        where = f"the label {label.name!r}"
        if task == "regression" and label.kind != "numeric":
            raise UserError(f"{where} is not a number, so task=regression cannot learn it; use algorithm.task=auto")
        if task != "regression" and classes < 2:
            found = "a number, not a class" if not classes else "the same class in every row"
            raise UserError(f"{where} is {found}: a {task} loss cannot learn it; use algorithm.task=regression")
        if task == "binary" and classes != 2:
            raise UserError(f"{where} has {classes} classes, and task=binary takes 2; use algorithm.task=multiclass")
        return task, self.objective if self.objective != "auto" else TASKS[task][0]

    def _weights_of(self, label: Column) -> list[float] | None:
        """The weight of each class, in their order. Raises UserError if those given don't fit the label."""
        given = self.class_weights
        if given is None:
            return None
        if self._task == "regression":
            raise UserError("algorithm.class_weights: a regression has no classes; leave it null")
        names = [str(name) for name in label.classes]
        if given == "balanced":  # the mean weight over the training rows is then 1
            return [sum(label.counts) / (len(names) * max(count, 1)) for count in label.counts]
        if isinstance(given, dict):
            unknown = next((str(name) for name in given if str(name) not in names), None)
            if unknown is not None:
                hint = did_you_mean(unknown, names)
                raise UserError(f"algorithm.class_weights: no class {unknown!r} in {label.name!r}; {hint}")
            by_name = {str(name): weight for name, weight in given.items()}
            given = [by_name.get(name, 1.0) for name in names]
        weights = [float(weight) for weight in given]
        if len(weights) != len(names):
            raise UserError(f"algorithm.class_weights: {len(weights)} weights for {len(names)} classes")
        if min(weights) < 0 or not all(map(math.isfinite, weights)) or not any(weights):
            raise UserError("algorithm.class_weights: weights are 0 or more, and not all 0")
        return weights


class LinearModel(nn.Module):
    """Outputs [n, outputs] from a batch's x as it comes; the constants that normalise it are its buffers.

    A regression's output is in the label's own units.
    """

    shift: Tensor | None
    scale: Tensor | None
    numeric: Tensor | None
    categorical: Tensor | None
    first_row: Tensor
    label_shift: Tensor
    label_scale: Tensor

    def __init__(self, schema: Schema, outputs: int, normalize: bool, label_shift: float, label_scale: float) -> None:
        super().__init__()
        self.sparse = schema.sparse
        self.in_label_units = (label_shift, label_scale) != (0.0, 1.0)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("label_shift", torch.tensor(label_shift, dtype=torch.float32))
        self.register_buffer("label_scale", torch.tensor(label_scale, dtype=torch.float32))
        scale, shift = _scales(schema)
        # a sparse row stays sparse: it is scaled, not centred
        self.table: nn.Parameter | None = None
        self.register_buffer("scale", scale if normalize else None)
        self.register_buffer("shift", shift if normalize and not schema.sparse else None)
        if schema.sparse:
            self.weight: nn.Parameter | None = nn.Parameter(torch.zeros(schema.columns, outputs))
            return
        categorical = [i for i, c in enumerate(schema.features) if c.kind == "categorical"]
        numeric = [i for i, c in enumerate(schema.features) if c.kind != "categorical"]
        self.weight = nn.Parameter(torch.zeros(outputs, len(numeric))) if numeric else None
        self.register_buffer("numeric", torch.tensor(numeric) if categorical and numeric else None)
        self.register_buffer("categorical", torch.tensor(categorical) if categorical else None)
        if categorical:
            sizes = [len(schema.features[i].categories) for i in categorical]
            *first, self.missing_row = accumulate(sizes, initial=0)  # of a missing or unknown cell
            self.register_buffer("first_row", torch.tensor(first, dtype=torch.float32))
            self.table = nn.Parameter(torch.zeros(self.missing_row + 1, outputs))

    def forward(self, x: Tensor | SparseRows) -> Tensor:
        output = self._sparse(x) if isinstance(x, SparseRows) else self._dense(x)
        if self.in_label_units:
            output = torch.addcmul(self.label_shift, output, self.label_scale)
        return output

    def _dense(self, x: Tensor) -> Tensor:
        if self.categorical is None:
            return self._numbers(x)
        codes = x.index_select(1, self.categorical) + self.first_row
        rows = torch.nan_to_num(codes, nan=self.missing_row).long()
        assert self.table is not None
        output = F.embedding_bag(rows, self.table, mode="sum", padding_idx=self.missing_row)
        return output + (self.bias if self.weight is None else self._numbers(x))

    def _numbers(self, x: Tensor) -> Tensor:
        assert self.weight is not None
        if self.numeric is not None:
            x = x.index_select(1, self.numeric)
        if self.scale is not None and self.shift is not None:
            x = torch.addcmul(self.shift, x, self.scale)
        return F.linear(x, self.weight, self.bias)

    def _sparse(self, x: SparseRows) -> Tensor:
        assert self.weight is not None
        values = x.values if self.scale is None else x.values * self.scale.index_select(0, x.indices)
        summed = F.embedding_bag(
            x.indices, self.weight, x.offsets, mode="sum", per_sample_weights=values, include_last_offset=True
        )
        return summed + self.bias


def _scales(schema: Schema) -> tuple[Tensor, Tensor]:
    """Scale and shift [columns] that standardise x as x·scale + shift; zeros for a constant column."""
    if schema.sparse:
        deviation, mean = np.asarray(schema.sparse_std, np.float64), np.asarray(schema.sparse_mean, np.float64)
    else:
        numeric = [c for c in schema.features if c.kind != "categorical"]
        deviation = np.asarray([c.std for c in numeric], np.float64)
        mean = np.asarray([c.mean for c in numeric], np.float64)
    varies = deviation > 1e-7 * np.abs(mean)  # below that it is rounding
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    return torch.tensor(scale, dtype=torch.float32), torch.tensor(-mean * scale, dtype=torch.float32)


def _deviation(column: Column) -> float:
    return column.std if column.std > 1e-7 * abs(column.mean) else 1.0


def _reduce(losses: Tensor, reduction: str) -> Tensor:
    return losses.mean() if reduction == "mean" else losses


def _class_of(output: Tensor) -> Tensor:
    return output.argmax(1) if output.shape[1] > 1 else (output.squeeze(1) > 0).long()
