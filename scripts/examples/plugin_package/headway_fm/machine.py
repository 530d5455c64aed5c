"""Factorization machines: linear terms, and for every pair of columns a weight that few factors make up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer import Batch, Module, Range, Schema, UserError


@dataclass(kw_only=True)
class FactorizationMachine(Module):
    """A factorization machine (Rendle, 2010) for two classes or many, trained by AdamW.

    The output for a class is f(x) = b + Σ w_i x_i + Σ_{i<j} <v_i, v_j> x_i x_j over standardised columns, each with a
    vector v_i of `factors` numbers: pairs of columns share what they learn. The pairs' sum costs as much as the
    columns times the factors.
    """

    factors: Annotated[int, Range(min=1)] = 8  # numbers that each column's vector has
    lr: Annotated[float, Range(above=0)] = 0.02  # learning rate
    decay: Annotated[float, Range(min=0)] = 0.01  # weight decay
    spread: Annotated[float, Range(above=0)] = 0.05  # deviation of the vectors at the start

    def build(self, schema: Schema) -> nn.Module:
        if not schema.classes:
            raise UserError("algorithm=fm tells classes apart: name the column of the class with data.label=…")
        return Machine(schema, self.factors, self.spread)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch.x), batch.y)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=self.decay)

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        output = model(batch.x)
        right = output.argmax(dim=1) == batch.y
        return {"loss": F.cross_entropy(output, batch.y, reduction="none"), "accuracy": right.float()}

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        output = model(batch.x)
        return {"prediction": output.argmax(dim=1), "probabilities": output.softmax(dim=1)}


class Machine(nn.Module):
    """Outputs [n, classes] from rows [n, columns] as they come; what standardises them is kept with the weights."""

    mean: Tensor
    scale: Tensor

    def __init__(self, schema: Schema, factors: int, spread: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([column.mean for column in schema.features]))
        scale = [1 / column.std if column.std else 0.0 for column in schema.features]  # a constant column tells nothing
        self.register_buffer("scale", torch.tensor(scale))
        self.linear = nn.Linear(schema.columns, schema.classes)
        self.vectors = nn.Parameter(spread * torch.randn(schema.classes, schema.columns, factors))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) * self.scale
        together = torch.einsum("nd,cdf->ncf", x, self.vectors).square()
        alone = torch.einsum("nd,cdf->ncf", x.square(), self.vectors.square())
        linear: Tensor = self.linear(x)
        return linear + (together - alone).sum(dim=2) / 2
