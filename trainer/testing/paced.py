"""An algorithm for trying launchers: its steps take a known time, and it goes wrong on request."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer import Batch, Module, Schema


@dataclass(kw_only=True)
class Paced(Module):
    """A linear classifier with dropout. seconds: of each step; how: none, raise, or memory, in step `at` of each life."""

    lr: float = 0.01
    seconds: float = 0.0
    how: str = "none"
    at: int = 5

    def build(self, schema: Schema) -> nn.Module:
        self.steps = 0
        return nn.Sequential(nn.Dropout(0.1), nn.Linear(schema.columns, schema.classes))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        if model.training:
            self.steps += 1
            time.sleep(self.seconds)
            if self.steps >= self.at and self.how == "raise":
                raise RuntimeError("this went wrong as it was asked to")
            if self.steps >= self.at and self.how == "memory":
                torch.empty(1 << 50)
        return nn.functional.cross_entropy(model(batch.x), batch.y)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        self.adam = torch.optim.Adam(model.parameters(), lr=self.lr)
        return self.adam
