"""Algorithms that break what an algorithm must keep, each in one way; tests put this folder on PYTHONPATH."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainer import Batch, Context, Estimator, Module, Schema


@dataclass(kw_only=True)
class Untrue(Module):
    """A linear classifier that is wrong in the way `how`."""

    how: str = "none"
    lr: float = 0.01

    def build(self, schema: Schema) -> nn.Module:
        self.scale = 1.0
        return nn.Linear(schema.columns, schema.classes)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        loss = nn.functional.cross_entropy(model(batch.x), batch.y)
        if self.how == "chance":
            return loss * (1 + random.SystemRandom().random())
        if self.how == "forgets" and model.training:
            self.scale *= 0.99  # a state outside the model, in no checkpoint
            return loss * self.scale
        if self.how == "nan":
            return loss * float("nan")
        if self.how == "two" and int(os.environ["WORLD_SIZE"]) > 1:
            raise RuntimeError("I work alone")
        return loss

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=self.lr)

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"prediction": model(batch.x).argmax(dim=1)[: -1 if self.how == "short" else None]}

    def load(self, folder: Path) -> None:
        if self.how == "load":
            raise RuntimeError("I can't be read")


class StartsOver(Estimator):
    """Has no checkpoints."""

    def fit(self, context: Context) -> None:
        import time

        for step in range(1, 200):
            time.sleep(0.01)
            context.report(step, {"train_loss": 1 / step})
            if context.should_stop():
                return

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        return {"prediction": np.zeros(len(batch.x), int)}
