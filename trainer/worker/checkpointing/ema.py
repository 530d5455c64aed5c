"""`train.ema`: a running average of the weights, which is what is validated and kept in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from trainer.worker.checkpointing.shards import Part, data_of
from trainer.worker.checkpointing.state import Training


class Averages:
    """Exponential moving averages of what this worker holds of the parameters (Polyak & Juditsky, 1992).

    After each step: average += (1 - d) · (weight - average), d = min(decay, (1 + step) / (10 + step)), so that the
    first steps don't weigh for long. changed: called once others than the optimizer have changed the weights.
    """

    def __init__(self, training: Training, decay: float, changed: Callable[[], None]) -> None:
        assert training.layout
        learned = {name for name, p in training.model.named_parameters() if p.requires_grad}
        weights = {name: held for name, held in training.layout.weights().items() if name in learned}
        self._training, self._decay, self._changed = training, decay, changed
        self._weights = [data_of(held).detach() for held in weights.values()]
        self._averages = [weight.clone() for weight in self._weights]
        for (name, held), average in zip(weights.items(), self._averages, strict=True):
            training.averages[name] = Part(held.shape, held.start, average) if isinstance(held, Part) else average

    @torch.no_grad()
    def update(self) -> None:
        step = self._training.position.step
        torch._foreach_lerp_(self._averages, self._weights, 1 - min(self._decay, (1 + step) / (10 + step)))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Here the model has the averages for weights."""
        with torch.no_grad():
            kept = [weight.clone() for weight in self._weights]
            torch._foreach_copy_(self._weights, self._averages)
        self._changed()
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, kept)
            self._changed()
