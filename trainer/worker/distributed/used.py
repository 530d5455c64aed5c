"""Which parameters a step has used, where a strategy has a gradient of zeros for the others.

With one worker they have none, and an optimizer passes them over: no weight decay, no momentum. So it is to be on many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.errors import HeadwayError
from trainer.worker.distributed.ranks import Ranks

Made = list[int]  # parameters in the order in which their gradients were made


class Use:
    """Of the parameters that learn, `names`. `hook(name)` is what is to be called when a gradient of this worker is made."""

    def __init__(self, names: Iterable[str], ranks: Ranks) -> None:
        self._names, self._ranks = list(names), ranks
        self._number = {name: i for i, name in enumerate(self._names)}
        self._made: Made = []  # since the last step

    def hook(self, name: str) -> Callable[[Tensor], None]:
        i = self._number[name]

        def made(parameter: Tensor) -> None:
            self._made.append(i)

        return made

    def unused(self) -> set[str]:
        """Those that no worker has used. Call it on all, once a step, before the optimizer's."""
        made, self._made = self._made, []
        if self._ranks.world_size == 1:
            return self._without(set(made))
        counts = torch.zeros(len(self._names), dtype=torch.int32)
        counts[made] = 1
        dist.all_reduce(counts)
        return self._without(set(torch.nonzero(counts).flatten().tolist()))

    def compare(self) -> None:
        """Raises HeadwayError where workers have used others and must not. Call it on all of them at once."""

    def _without(self, used: set[int]) -> set[str]:
        if len(used) == len(self._names):
            return set()
        return {name for i, name in enumerate(self._names) if i not in used}


class SameUse(Use):
    """Where all workers must use the same. ZeRO's stages lay gradients behind each other as they are made, and add up what
    lies at the same place: if workers leave out others, or make them in another order, those of different parameters."""

    def __init__(self, names: Iterable[str], ranks: Ranks) -> None:
        super().__init__(names, ranks)
        self._first: Made | None = None
        self._others: list[Made] = []  # of steps since the last comparison that weren't like the first

    def unused(self) -> set[str]:
        made, self._made = self._made, []
        if self._first is None:
            self._first = made
            self._refuse_other([made])
        elif made != self._first:
            self._others.append(made)
        return self._without(set(made))

    def compare(self) -> None:
        others, self._others = self._others, []
        self._refuse_other(others)

    def _refuse_other(self, steps: list[Made]) -> None:
        every = self._ranks.gather(steps)
        for rank, theirs in enumerate(every):
            if theirs != every[0]:
                here, there = ({i for made in of for i in made} for of in (every[0], theirs))
                odd = sorted(here ^ there)
                what = f"{self._names[odd[0]]} has a gradient on one of them only" if odd else "in another order"
                raise HeadwayError(
                    f"strategy=deepspeed: workers 0 and {rank} use different parameters in a step ({what}), and ZeRO would add "
                    f"up gradients of different ones; use all on every worker, or choose strategy=ddp"
                )
