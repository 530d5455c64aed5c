"""How a training's steps are done where every worker holds the whole model: `single` and `ddp`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.algorithm import Batch, Module
from trainer.errors import HeadwayError
from trainer.worker.checkpointing.state import Training
from trainer.worker.distributed.alike import give
from trainer.worker.distributed.averaging import Averaged, depends_on_nothing
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.monitoring.timing import BACKWARD, FORWARD
from trainer.worker.strategy import precision as numbers


def check_scalar(algorithm: Module, loss: Any) -> None:
    """Raises HeadwayError if a loss isn't what training needs."""
    if not isinstance(loss, Tensor) or loss.dim():
        found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise HeadwayError(
            f"{type(algorithm).__name__}.loss returns {found}; it must return the batch's mean loss, a scalar"
        )


class Call(nn.Module):
    """An algorithm's loss and figures as a module, so that a wrapper sees one forward and they see the model itself."""

    def __init__(self, algorithm: Module, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._algorithm = algorithm

    def forward(self, batch: Batch, evaluate: bool = False) -> Any:
        return (self._algorithm.evaluate if evaluate else self._algorithm.loss)(self.model, batch)


class Spread:
    """A training's steps. What a strategy does differently is in its subclass.

    clip: the largest global norm of the gradient, or None. mark: called at the end of each forward and backward.
    meets_in_forward: whether workers wait for each other there too, and not in the backward alone.
    """

    meets_in_forward = False
    tells_waits = False  # whether `waited` knows, once there have been some steps

    def __init__(self, algorithm: Module, training: Training, ranks: Ranks, precision: str, clip: float | None) -> None:
        self.algorithm, self.training, self.ranks, self.precision, self.clip = (
            algorithm, training, ranks, precision, clip,
        )  # fmt: skip
        self.model, self.optimizer = training.model, training.optimizer
        self.parameters = [p for p in training.model.parameters() if p.requires_grad]
        self.scaler = numbers.scaler(precision, ranks.device)
        if self.scaler is not None:
            training.extras["scaler"] = self.scaler
        self.call: Callable[..., Any] = Call(algorithm, training.model)
        self.mark: Callable[[int], None] = lambda part: None
        self._unchecked = True

    def part(self, batch: Batch, last: bool) -> Tensor:
        """Forward and backward of a part of this worker's batch, `last` of the step or not. Returns its mean loss."""
        loss = self.loss(batch)
        self.mark(FORWARD)
        if self._unchecked:
            check_scalar(self.algorithm, loss)
            self._unchecked = False
        weight = batch.size * self.ranks.world_size / batch.total
        self.backward(loss * weight if weight != 1.0 else loss)
        self.mark(BACKWARD)
        return loss

    def backward(self, loss: Tensor) -> None:
        if not loss.requires_grad:
            raise depends_on_nothing(f"{type(self.algorithm).__name__}.loss")
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def loss(self, batch: Batch) -> Tensor:
        if self.precision not in numbers.DTYPES:
            return self.call(batch)
        with numbers.autocast(self.precision, self.ranks.device):
            return self.call(batch)

    def update(self) -> None:
        """The optimizer's step with what the parts have left, clipped if asked for."""
        if self.scaler is not None:
            self._update_scaled(self.scaler)
            return
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _update_scaled(self, scaler: torch.amp.GradScaler) -> None:
        """A step whose gradients have overflowed is left out, and the scale is lowered."""
        if self.clip is not None:
            scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        scaler.step(self.optimizer)
        scaler.update()
        self.optimizer.zero_grad()

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """The algorithm's figures of a validation batch. Every worker calls it as often."""
        with numbers.autocast(self.precision, self.ranks.device):
            return self.algorithm.evaluate(self.model, batch)

    @torch.no_grad()
    def agree(self) -> None:
        """Running statistics, which each worker keeps of the samples that it sees: the first one's count."""
        if self.ranks.world_size > 1:
            for buffer in self.model.buffers():
                give(buffer)

    def refresh(self) -> None:
        """Called after those have been changed by others than the optimizer."""

    def compare(self) -> None:
        """Raises HeadwayError if workers have used different parts of the model, where that is no average any more. Called
        on all at once, before figures are told and a state is saved."""

    def waited(self) -> float | None:
        """The share of a recent backward that only waited for the other workers; None where nobody can tell."""
        return None


class Replicated(Spread):
    """The whole model on every worker. averaged: gradients are, in the backward of a step's last part (DDP)."""

    tells_waits = True

    def __init__(
        self,
        algorithm: Module,
        training: Training,
        ranks: Ranks,
        precision: str,
        clip: float | None,
        *,
        averaged: bool,
    ) -> None:
        super().__init__(algorithm, training, ranks, precision, clip)
        self._wrapped: Averaged | None = None
        self._last = self._counts = True  # of the part that is computed: of its step, and whether it has samples
        if averaged:
            normalised = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.model.modules())
            self._wrapped = Averaged(
                Call(algorithm, self.model),
                ranks,
                device_ids=[ranks.local_rank] if ranks.device.type == "cuda" else None,
                **_sync_buffers(normalised),
                gradient_as_bucket_view=True,
            )
            self.call = self._wrapped
            self.meets_in_forward = normalised
        else:
            model, loss = self.model, algorithm.loss

            def call(batch: Batch) -> Tensor:
                return loss(model, batch)

            self.call = call

    def part(self, batch: Batch, last: bool) -> Tensor:
        if self._wrapped is None:
            return super().part(batch, last)
        self._last, self._counts = last, batch.size > 0
        if last:
            return super().part(batch, last)
        with self._wrapped.no_sync():
            return super().part(batch, last)

    def backward(self, loss: Tensor) -> None:
        if self._wrapped is None:
            super().backward(loss)
            return
        learns = self._counts and loss.requires_grad  # a row that stands in doesn't; nor need every worker's samples
        if learns:
            super().backward(loss)
        if self._last:
            self._wrapped.finish(passed=not learns)

    def waited(self) -> float | None:
        """By DDP's own clock, which it looks at in the first ten steps and every hundredth one."""
        if self._wrapped is None:
            return None
        told = self._wrapped._get_ddp_logging_data()
        names = ("backward_compute_time", "backward_comm_time", "backward_compute_comm_overlap_time")
        compute, sent, both = (int(told.get(name, 0)) for name in names)
        return max(0, sent - both) / (compute + max(0, sent - both)) if compute > 0 else None


def _sync_buffers(wanted: bool) -> dict[str, Any]:
    """Whether buffers are broadcast at every forward: newer torch has another name for it, and warns of the old one."""
    newer = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    return {"forward_sync_buffers" if newer else "broadcast_buffers": wanted}
