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
    """A linear classifier with dropout that fails on worker `rank` at step `at` in the way `how`.

    The step is one of each life of the worker; for `bug`, of the job: started again, it comes to the same step.
    """

    how: str = "none"
    at: int = 20
    rank: int = 1
    lr: float = 0.01
    seconds: float = 0.0
    slow: float = 0.0  # seconds by which a step takes longer on worker `rank`
    validating: float = 0.0  # seconds that each batch of validation takes
    dropout: float = 0.1

    def build(self, schema: Schema) -> nn.Module:
        self.steps = 0
        return nn.Sequential(nn.Dropout(self.dropout), nn.Linear(schema.columns, schema.classes))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        output = model(batch.x)
        if not model.training:
            time.sleep(self.validating)
        if model.training:
            self.steps += 1
            time.sleep(self.seconds + self.slow * (int(os.environ["RANK"]) == self.rank))
            if self.how == "bug" and self.done() == self.at and int(os.environ["RANK"]) == self.rank:
                raise RuntimeError("my own bug")
            if self.steps > self.at and int(os.environ["RANK"]) == self.rank:
                if self.how == "raise":
                    raise RuntimeError("my own bug")
                if self.how == "kill":
                    os.kill(os.getpid(), 9)
                if self.how == "hang":
                    time.sleep(3600)
                if self.how == "exit":
                    os._exit(3)
                if self.how == "allocate":
                    torch.empty(1 << 50)
                if self.how == "fill":
                    self.kept = [torch.ones(1 << 24) for _ in range(1000)]
                if self.how == "nan":
                    return output.sum() * float("nan")
        return nn.functional.cross_entropy(output, batch.y)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        self.adam = torch.optim.Adam(model.parameters(), lr=self.lr)
        return self.adam

    def done(self) -> int:
        """The steps done since the job began: a life that went on from a checkpoint knows those before it."""
        return max((int(state["step"]) for state in self.adam.state.values()), default=0)
