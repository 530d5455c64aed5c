"""Whether a training that came to its end has learned: a loss above the one it began with is told, not shown in green."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from trainer.process.format import figure

LOSSES = ("validation_loss", "train_loss")


def told(reports: Sequence[dict[str, Any]]) -> str:
    """A line on the first of the losses that ended above where it began, or is no number; empty if none did.

    reports: the job's, as metrics.jsonl has them.
    """
    for name in LOSSES:
        seen = [(line["step"], line["values"][name]) for line in reports if line["values"].get(name) is not None]
        if len(seen) < 2:
            continue
        (first, began), (last, ended) = seen[0], seen[-1]
        if not math.isfinite(ended):
            return f"{name} is {figure(ended)} at step {last:,}: the training diverged; lower algorithm.lr"
        if ended > began:
            return (
                f"{name} ended above where it began: {figure(began)} at step {first:,}, {figure(ended)} at step {last:,}; "
                "a lower algorithm.lr, or train.early_stopping.patience, may help"
            )
    return ""
