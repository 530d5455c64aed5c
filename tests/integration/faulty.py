"""A user's algorithm that goes wrong on request; tests put this folder on PYTHONPATH."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer import Batch, Module, Schema


@dataclass(kw_only=True)
class Faulty(Module):
    """A linear classifier with dropout that fails on worker `rank` at step `at` in the way `how`."""

    how: str = "none"
    at: int = 20
    rank: int = 1
    lr: float = 0.01
    seconds: float = 0.0

    def build(self, schema: Schema) -> nn.Module:
        self.steps = 0
        return nn.Sequential(nn.Dropout(0.1), nn.Linear(schema.columns, schema.classes))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        output = model(batch.x)
        if model.training:
            self.steps += 1
            time.sleep(self.seconds)
            if self.steps > self.at and int(os.environ["RANK"]) == self.rank:
                if self.how == "raise":
                    raise RuntimeError("my own bug")
                if self.how == "kill":
                    os.kill(os.getpid(), 9)
                if self.how == "exit":
                    os._exit(3)
                if self.how == "nan":
                    return output.sum() * float("nan")
        return nn.functional.cross_entropy(output, batch.y)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=self.lr)
