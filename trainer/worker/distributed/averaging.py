"""Gradients averaged over the workers, of a model whose losses need not use all of its parameters.

DDP waits for the gradient of every parameter; where one has none, the others wait for ever, or it fails at the next forward.
It can look for them itself (`find_unused_parameters`), but then walks through the graph of every forward. Here nothing is
looked for: a worker whose backward is over and has left some of them without a gradient gives zeros in their place, so that
the average is that of all workers. What no worker has used then has no gradient, as with one worker, and an optimizer passes
it over: no weight decay, no momentum. From the first step that leaves something out the workers count that together; a
worker that only later does so tells the others by the store, where nobody has to look who misses nothing himself.
"""

from __future__ import annotations

import json
import re
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Variable
from torch.nn.parallel import DistributedDataParallel

from trainer.errors import HeadwayError
from trainer.worker.distributed.alike import SENT, begin_alike
from trainer.worker.distributed.ranks import Ranks

NO_GRADIENT = re.compile(r"did not receive grad for rank \d+:((?: \d+)+)")


def depends_on_nothing(of: str) -> HeadwayError:
    """The error of a loss that no parameter can be learned from."""
    return HeadwayError(f"{of} depends on no parameter that learns (requires_grad), so that there is nothing to train")


class Averaged(DistributedDataParallel):
    """DDP that takes a backward for what it was. Call `finish` after each that averages, on every worker."""

    def __init__(self, module: nn.Module, ranks: Ranks, **options: Any) -> None:
        begin_alike(module, ranks)
        odd = [name for name, buffer in module.named_buffers() if buffer.dtype not in SENT]
        self._set_params_and_buffers_to_ignore_for_model(module, odd)  # they are no running statistics
        super().__init__(module, init_sync=False, **options)
        self._ranks = ranks
        self._learned = [p for p in module.parameters() if p.requires_grad]  # by the reducer's numbers
        self._frozen = [p for p in module.parameters() if not p.requires_grad]
        self._turn = 0
        self._counted: bool | None = None  # whether all workers count what each left out; None before the first step
        self._told: str | None = None  # this worker's last note at the store

    def finish(self, *, passed: bool = False) -> None:
        """Brings the average to its end, and takes the gradients away that nobody has made. passed: there was no backward.

        Raises HeadwayError if no worker has used any parameter.
        """
        self._turn += 1
        missing = list(range(len(self._learned))) if passed else self._missing()
        unused = [i for i in missing if self._learned[i].grad is None]  # the others have one of an earlier part
        note = f"unused/{self._turn}/{self._ranks.rank}"
        if unused and self._counted is False:  # before the others can go on
            self._ranks.tell(note, json.dumps(unused))
        if missing:
            self._give_zeros(missing)
        if self._frozen:
            self._average_thawed()
        if self._counted is not False:
            idle = self._count(unused)
        elif unused:
            idle = self._hear(set(unused))
            if self._told:  # all have read it: they have met since
                self._ranks.store.delete_key(self._told)
            self._told = note
        else:
            return
        for i in idle:
            self._learned[i].grad = None
        if len(idle) == len(self._learned):
            raise depends_on_nothing("the loss")

    def _missing(self) -> list[int]:
        """The parameters whose gradients the reducer still waits for."""
        try:
            self.reducer._check_reducer_finalized()
        except RuntimeError as error:
            found = NO_GRADIENT.search(str(error))
            if found is None:
                raise
            return [int(number) for number in found[1].split()]
        return []

    def _give_zeros(self, missing: list[int]) -> None:
        parameters = [self._learned[i] for i in missing]
        frozen = [p for p in parameters if not p.requires_grad]  # since the training began
        for p in frozen:
            p.requires_grad_(True)
        torch.autograd.backward(parameters, [torch.zeros_like(p) for p in parameters])
        for p in frozen:
            p.requires_grad_(False)

    def _count(self, unused: list[int]) -> list[int]:
        """What all workers have left out: they tell each other."""
        counts = torch.zeros(len(self._learned), dtype=torch.int32)
        counts[unused] = 1
        dist.all_reduce(counts)
        self._counted = self._counted or bool(counts.any())
        return torch.nonzero(counts == self._ranks.world_size).flatten().tolist()

    def _hear(self, unused: set[int]) -> list[int]:
        """What all workers have left out, by their notes: a worker without one has left out nothing."""
        ranks = self._ranks
        keys = [f"unused/{self._turn}/{rank}" for rank in range(ranks.world_size)]
        if not ranks.store.check(keys):
            return []
        for said in ranks.store.multi_get(keys):
            unused &= set(json.loads(said))
        return sorted(unused)

    @torch.no_grad()
    def _average_thawed(self) -> None:
        """Those that were frozen when the training began, and learn now: the reducer doesn't know them."""
        for p in self._frozen:
            if p.requires_grad:
                made = torch.tensor([p.grad is not None], dtype=torch.int32)
                dist.all_reduce(made)
                grad = torch.zeros_like(p, memory_format=torch.contiguous_format)
                if p.grad is not None:
                    grad.copy_(p.grad)
                dist.all_reduce(grad)
                p.grad = grad.div_(self._ranks.world_size).view(p.shape) if made.item() else None


class AveragedAlone(Averaged):
    """The same for a loop that calls `backward` itself: it finishes with each backward of what the model gave."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        output = super().forward(*inputs, **named)
        if torch.is_grad_enabled() and self.require_backward_grad_sync:
            for tensor in _tensors(output):
                if tensor.requires_grad:
                    tensor.register_hook(self._finish_later)
        return output

    def _finish_later(self, gradient: Tensor) -> None:
        """At the backward's end, after what the reducer puts there only once it has its last gradient."""
        turn = self._turn
        queue = Variable._execution_engine.queue_callback
        queue(lambda: queue(lambda: self.finish() if self._turn == turn else None))


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [tensor for part in tree for tensor in _tensors(part)] if isinstance(tree, (list, tuple)) else []
