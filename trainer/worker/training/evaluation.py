"""Figures over a validation set: each sample counts once, whoever of the workers holds it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainer.algorithm import Batch, Module
from trainer.data.tables.order import share
from trainer.data.tables.samples import Samples
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.strategy.exact import aligned, seed_by

# validation needs no gradients: larger batches than in training cost little memory and save time
BATCH_FACTOR = 4


Sums = dict[str, dict[int, torch.Tensor]]  # of a metric, by part


def evaluate(
    algorithm: Module,
    model: nn.Module,
    samples: Samples,
    ranks: Ranks,
    *,
    batch_size: int,
    figures: Callable[[Batch], dict[str, torch.Tensor]],
    parts: int | None = None,
    told: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """The algorithm's metrics over all samples, the same on every worker. Names have no prefix.

    figures: the algorithm's `evaluate` of a batch, by the strategy's way to the model.
    parts: cuts each batch so, whatever the number of workers, that the metrics have the same bits with any: a part of
    all batches is summed by one worker in their order, then the parts' sums are added in order.
    told: hears of every batch.
    """
    sums: Sums = {}
    counts: dict[str, dict[int, int]] = {}
    first, stop = share(parts, ranks.rank, ranks.world_size) if parts else (0, 1)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        size = batch_size * BATCH_FACTOR
        stream = samples.sequential(batch_size=size, rank=ranks.rank, world=ranks.world_size, parts=parts)
        for i, batch in enumerate(stream):
            told()
            part = first + i % (stop - first)
            if parts:
                seed_by(part, i // (stop - first))
                batch = aligned(batch)
            for name, value in figures(batch.to(ranks.device)).items():
                value = value.double()
                # a worker without a sample of the last batch holds one row that stands in and doesn't count
                if value.dim() == 0:
                    value = value.expand(batch.size)
                total = value[: batch.size].sum(0)
                known, count = sums.setdefault(name, {}), counts.setdefault(name, {})
                known[part] = known[part] + total if part in known else total
                count[part] = count.get(part, 0) + batch.size
    model.train(was_training)
    return algorithm.summarize(_means(sums, counts, ranks, parts or 1))


def _means(sums: Sums, counts: dict[str, dict[int, int]], ranks: Ranks, parts: int) -> dict[str, Any]:
    # a worker without a sample doesn't know the names or shapes: all learn them first
    shapes: dict[str, list[int]] = {}
    for known in ranks.gather({name: list(next(iter(by.values())).shape) for name, by in sums.items()}):
        shapes.update(known)
    means: dict[str, Any] = {}
    for name in sorted(shapes):
        packed = torch.zeros(parts, math.prod(shapes[name]) + 1, dtype=torch.float64)
        for part, total in sums.get(name, {}).items():
            packed[part, :-1] = total.reshape(-1)
            packed[part, -1] = counts[name][part]
        summed = ranks.sum(packed).sum(0)  # with parts, all but one worker's are zeros
        mean = summed[:-1] / summed[-1]
        means[name] = mean.item() if not shapes[name] else mean.reshape(shapes[name]).tolist()
    return means
