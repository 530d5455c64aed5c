from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer import Batch, Module, Schema


@dataclass(kw_only=True)
class MLP(Module):
    hidden: int = 32  # width of the hidden layer
    lr: float = 0.01  # learning rate of Adam

    def build(self, schema: Schema) -> nn.Module:
        layers = nn.Linear(schema.columns, self.hidden), nn.ReLU(), nn.Linear(self.hidden, schema.classes)
        return nn.Sequential(*layers)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(model(batch.x), batch.y)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=self.lr)

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"accuracy": (model(batch.x).argmax(dim=1) == batch.y).float()}

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"prediction": model(batch.x).argmax(dim=1)}
