"""Figures over a validation set: each sample counts once, whoever of the workers holds it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainer.algorithm import Module
from trainer.data.samples import Samples
from trainer.worker.ranks import Ranks

# validation needs no gradients: larger batches than in training cost little memory and save time
BATCH_FACTOR = 4


def evaluate(
    algorithm: Module, model: nn.Module, samples: Samples, ranks: Ranks, *, batch_size: int, precision: str
) -> dict[str, float]:
    """The algorithm's metrics over all samples, the same on every worker. Names have no prefix."""
    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}
    was_training = model.training
    model.eval()
    with (
        torch.no_grad(),
        torch.autocast(ranks.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"),
    ):
        size = batch_size * BATCH_FACTOR
        for batch in samples.sequential(batch_size=size, rank=ranks.rank, world=ranks.world_size):
            for name, value in algorithm.evaluate(model, batch.to(ranks.device)).items():
                value = value.double()
                # a worker without a sample of the last batch holds one row that stands in and doesn't count
                if value.dim() == 0:
                    value = value.expand(batch.size)
                total = value[: batch.size].sum(0)
                sums[name] = sums[name] + total if name in sums else total
                counts[name] = counts.get(name, 0) + batch.size
    model.train(was_training)
    return algorithm.summarize(_means(sums, counts, ranks))


def _means(sums: dict[str, torch.Tensor], counts: dict[str, int], ranks: Ranks) -> dict[str, Any]:
    # a worker without a sample doesn't know the names or shapes: all learn them first
    shapes: dict[str, list[int]] = {}
    for known in ranks.gather({name: list(value.shape) for name, value in sums.items()}):
        shapes.update(known)
    means: dict[str, Any] = {}
    for name in sorted(shapes):
        total = sums[name].cpu() if name in sums else torch.zeros(shapes[name], dtype=torch.float64)
        packed = ranks.sum(
            torch.cat([total.reshape(-1), torch.tensor([float(counts.get(name, 0))], dtype=torch.float64)])
        )
        mean = packed[:-1] / packed[-1]
        means[name] = mean.item() if not shapes[name] else mean.reshape(shapes[name]).tolist()
    return means
