"""What a training loop of the user's own sees of its job: `def main(context, …)`."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from trainer.config.code.function import Function
from trainer.errors import UserError
from trainer.job import checkpoint
from trainer.job.model.weights import load_tensors, named_tensors, save_tensors, unfold
from trainer.worker.checkpointing.kinds import refuse_unheld
from trainer.worker.checkpointing.state import as_bytes, plain, restore_rank
from trainer.worker.distributed.averaging import AveragedAlone
from trainer.worker.strategy import choice
from trainer.worker.training.context import JobContext
from trainer.worker.training.loader import Loader, moved
from trainer.worker.training.session import Session

STATE, WEIGHTS, OWN = "state.pt", "weights-{}", "own"


@dataclass(frozen=True)
class Resumed:
    """Where a loop goes on. step: the last one that is done, 0 at a fresh start; epoch: whole passes over the first
    prepared loader; extra: what was given to `checkpoint`; folder: what its `save` wrote, None where there is nothing.
    """

    step: int = 0
    epoch: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None


class FunctionContext:
    """The context of a function. What is given to `prepare` is kept by `checkpoint` and taken up by `resume`."""

    def __init__(self, function: Function, session: Session, base: JobContext) -> None:
        ranks = session.ranks
        self.rank, self.world_size, self.device, self.seed = ranks.rank, ranks.world_size, ranks.device, base.seed
        self.threads, self.step = base.threads, 0
        self._function, self._session, self._base = function, session, base
        self._models: list[nn.Module] = []
        self._loaders: list[Loader] = []
        self._kept: list[Any] = []  # whatever else has a state_dict, in the order it was prepared
        self._checked = False

    @property
    def schema(self) -> Any:
        return self._base.schema

    @property
    def train(self) -> Any:
        """The training samples of `data=…`; opened when it is first asked for, by all workers."""
        return self._base.train

    @property
    def validation(self) -> Any:
        return self._base.validation

    @property
    def test(self) -> Any:
        return self._base.test

    def prepare(self, *objects: Any) -> Any:
        """The same, ready for this job: a model on its device, its gradients averaged over the workers; a `DataLoader`
        shared among them; an optimizer, a scheduler, anything with `state_dict` as it is. None stays None.

        Raises UserError for a strategy that a function's model can't be spread by, and a loader that can't be shared.
        """
        prepared = tuple(self._prepared(one) for one in objects)
        return prepared[0] if len(prepared) == 1 else prepared

    def _prepared(self, one: Any) -> Any:
        if one is None:
            return None
        if isinstance(one, nn.Module):
            return self._spread(one)
        if isinstance(one, DataLoader):
            self._loaders.append(Loader(one, self._session.ranks, self.seed))
            return self._loaders[-1]
        if not (hasattr(one, "state_dict") and hasattr(one, "load_state_dict")):
            raise UserError(
                f"context.prepare: a {type(one).__name__} has no state_dict and load_state_dict to keep it by"
            )
        self._kept.append(one)
        return one

    def _spread(self, model: nn.Module) -> nn.Module:
        name = choice.choose(self._session.config["strategy"]["name"], self.world_size)
        if name not in ("single", "ddp"):
            raise UserError(f"strategy={name}: context.prepare spreads a model by single or ddp; choose strategy=ddp")
        refuse_unheld(model)
        unfold(model)
        model.to(self.device)
        self._models.append(model)
        if self._function.keep is None:
            self._function.keep = lambda folder: save_tensors(named_tensors(self._models[0]), folder)
        if self.world_size == 1 or not any(p.requires_grad for p in model.parameters()):
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return AveragedAlone(model, self._session.ranks, device_ids=ids)

    def to_device(self, batch: Any) -> Any:
        """The tensors of a batch, a dict, a list, a tuple, on this worker's device."""
        return moved(batch, self.device)

    def resume(self) -> Resumed:
        """Takes up the newest checkpoint: all that was prepared, and the random numbers. Call it right before the loop.

        Raises UserError if other things were prepared when it was saved.
        """
        folder = self._base.resume()
        if folder is None:
            return Resumed()
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        there, here = state["prepared"], self._outline()
        if there != here:
            raise UserError(
                f"context.resume: the checkpoint keeps {_words(there)}, and {_words(here)} are prepared now"
            )
        for number, model in enumerate(self._models):
            try:
                load_tensors(model, folder / WEIGHTS.format(number))
            except (ValueError, RuntimeError) as error:
                raise UserError(f"context.resume: {' '.join(str(error).split())}") from error
        for one, saved in zip([*self._loaders, *self._kept], state["states"], strict=True):
            one.load_state_dict(saved)
        self.step = int(state["step"])
        restore_rank(folder.parent, checkpoint.read_manifest(folder.parent), self._session.ranks)
        own = folder / OWN
        epoch = self._loaders[0].epoch if self._loaders else 0
        return Resumed(self.step, epoch, state["extra"], own if own.is_dir() else None)

    def report(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        total: int | None = None,
        epoch: float | None = None,
        samples: int | None = None,
    ) -> None:
        """Figures of one step: kept, shown, given to trackers and to `headway tune`. Rank 0's count."""
        if self._loaders:
            first = self._loaders[0]
            epoch = first.epoch + first.position / max(1, len(first)) if epoch is None else epoch
            samples = first.samples if samples is None else samples
        figures = {name: float(value) for name, value in values.items()}
        self._base.report(step, figures, total=total, epoch=epoch or 0.0, samples=samples or 0)

    def checkpoint(
        self, step: int, extra: Mapping[str, Any] | None = None, save: Callable[[Path], None] | None = None
    ) -> None:
        """Offers a checkpoint after `step`, on every worker: if one is due, all that was prepared is saved.

        extra: plain data (numbers, text, lists, dicts, tensors) to find again in `resume().extra`; rank 0's counts.
        save: writes what else there is into a folder, such as the state of a library that prepares models by itself.
        """
        self.step = step
        self._session.reporter.progress.step = step
        if extra is not None and not self._checked:
            _check_plain(extra)
            self._checked = True

        def write(folder: Path) -> None:
            for number, model in enumerate(self._models):
                place = folder / WEIGHTS.format(number)
                place.mkdir()
                save_tensors(named_tensors(model), place)
            state = {
                "step": step,
                "prepared": self._outline(),
                "states": [plain(one.state_dict()) for one in (*self._loaders, *self._kept)],
                "extra": plain(dict(extra or {})),
            }
            (folder / STATE).write_bytes(as_bytes(state))
            if save is not None:
                (folder / OWN).mkdir()
                save(folder / OWN)

        self._base.checkpoint(step, write)

    def should_stop(self) -> bool:
        """True, on every worker at the same call, once the job was asked to stop or has done `train.max_steps`."""
        stop = self._base.should_stop()
        most = self._session.config["train"]["max_steps"]
        return stop or (most is not None and self.step >= most)

    def save_model(self, save: Callable[[Path], None]) -> None:
        """What becomes the artifact, at the end, instead of the first prepared model's weights: `save(folder)` on rank 0."""
        self._function.keep = save

    def broadcast(self, value: Any) -> Any:
        """Rank 0's `value`, on every worker. Plain data: numbers, strings, lists, dicts."""
        return self._base.broadcast(value)

    def gather(self, value: Any) -> list[Any]:
        """Every worker's `value`, in order of rank, on every worker."""
        return self._base.gather(value)

    def barrier(self) -> None:
        """Waits until all workers are here."""
        self._base.barrier()

    def _outline(self) -> list[str]:
        return [type(one).__name__ for one in (*self._models, *self._loaders, *self._kept)]


def _words(names: list[str]) -> str:
    return ", ".join(names) or "nothing"


def _check_plain(extra: Mapping[str, Any]) -> None:
    try:
        torch.load(io.BytesIO(as_bytes(plain(dict(extra)))), weights_only=True)
    except Exception as error:  # a user's objects may raise anything when they are pickled
        raise UserError(
            "context.checkpoint: extra holds what can't be read again as plain data (numbers, text, lists, dicts, "
            f"tensors): {str(error).splitlines()[0]}"
        ) from error
