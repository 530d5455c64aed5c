"""A user's `DataLoader` shared by the workers of a job, which goes on where it was left."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from trainer.data.tables.order import generator, share
from trainer.errors import UserError
from trainer.worker.distributed.ranks import Ranks


class Loader:
    """The batches of a loader, `batch_size` samples over all workers together; each worker takes its share.

    The order depends on (seed, epoch) alone, so any number of workers goes on where others were interrupted. A loop over
    it is an epoch, or what is left of the one that was interrupted. epoch: whole ones done; position: batches of this one.
    """

    def __init__(self, loader: DataLoader[Any], ranks: Ranks, seed: int) -> None:
        if isinstance(loader.dataset, IterableDataset) or loader.batch_size is None:
            raise UserError(
                "context.prepare: a loader without an index or a batch size can't be shared; leave it out, read by "
                "context.rank and context.world_size, and keep its position with context.checkpoint(step, extra=…)"
            )
        if not isinstance(loader.sampler, (RandomSampler, SequentialSampler)):
            raise UserError(
                f"context.prepare: a loader with a {type(loader.sampler).__name__} has an order of its own; leave it out, "
                "or give it shuffle=True"
            )
        if loader.batch_size < ranks.world_size:
            raise UserError(
                f"context.prepare: batches of {loader.batch_size} are too small for {ranks.world_size} workers: "
                "batch_size counts over all of them"
            )
        self.epoch = self.position = 0
        self.dataset, self.batch_size = loader.dataset, loader.batch_size
        self._loader, self._ranks, self._seed = loader, ranks, seed
        self._rows = len(cast(Sized, loader.dataset))  # one with an index has a length
        self._shuffled = isinstance(loader.sampler, RandomSampler)

    def __len__(self) -> int:
        whole, rest = divmod(self._rows, self.batch_size)
        return whole + bool(rest and not self._loader.drop_last)

    @property
    def samples(self) -> int:
        """Samples of the batches handed out so far, over all workers."""
        each = min(self._rows, len(self) * self.batch_size)
        return self.epoch * each + min(each, self.position * self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        rng = torch.Generator()  # of its own: an epoch begun again must not draw from the model's
        rng.manual_seed(int(generator(self._seed, self.epoch).integers(1 << 62)))
        order = torch.randperm(self._rows, generator=rng).tolist() if self._shuffled else range(self._rows)
        loader, device = self._loader, self._ranks.device
        batches = [self._own(order, step) for step in range(self.position, len(self))]
        part: DataLoader[Any] = DataLoader(
            loader.dataset, batch_sampler=batches, num_workers=loader.num_workers, collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory, timeout=loader.timeout, worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context, generator=rng,
        )  # fmt: skip
        for batch in part:
            self.position += 1
            yield moved(batch, device)
        self.epoch, self.position = self.epoch + 1, 0

    def _own(self, order: Any, step: int) -> list[int]:
        """This worker's share of a batch. One with fewer samples than workers hands some out twice: none may be idle."""
        batch = list(order[step * self.batch_size : (step + 1) * self.batch_size])
        start, stop = share(len(batch), self._ranks.rank, self._ranks.world_size)
        return batch[start:stop] or [batch[self._ranks.rank % len(batch)]]

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]


def moved(tree: Any, device: torch.device) -> Any:
    """The tensors of a batch, however it nests, on a device."""
    if device.type == "cpu":
        return tree
    if isinstance(tree, dict):
        return {key: moved(value, device) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(moved(value, device) for value in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(moved(value, device) for value in tree)
    return tree.to(device, non_blocking=True) if hasattr(tree, "to") else tree
