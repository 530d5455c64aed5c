"""`strategy=deepspeed`: ZeRO (arXiv:1910.02054) by DeepSpeed's engine, under the same agent and loop as any strategy."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainer.algorithm import Batch, Module
from trainer.errors import UserError, pip_install
from trainer.job.model.weights import references
from trainer.worker.checkpointing.layout import Plain
from trainer.worker.checkpointing.state import Training
from trainer.worker.distributed.extensions import compile_apart
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.distributed.used import SameUse, Use
from trainer.worker.strategy import precision as numbers
from trainer.worker.strategy.deepspeed_config import Facts, complete
from trainer.worker.strategy.fragments import Fragments
from trainer.worker.strategy.initial import Values, hollow
from trainer.worker.strategy.replicated import Call, Spread


def initialize(
    algorithm: Module,
    model: nn.Module,
    training_of: Callable[[nn.Module], Training],
    ranks: Ranks,
    precision: str,
    strategy: Mapping[str, Any],
    train: Mapping[str, Any],
    total: int | None,
    values: Values | None = None,
) -> tuple[Training, Zero]:
    """Puts a fresh model under DeepSpeed's engine. Raises UserError for a config that doesn't go with the job's.

    values: those of its parameters, if they are on the meta device, as they may be for stage 3.
    """
    if ranks.device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    compile_apart()
    try:
        import deepspeed
    except ImportError:
        raise UserError(f"strategy: deepspeed is not installed; {pip_install('deepspeed')}") from None
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module="torch.distributed"
    )  # of names that DeepSpeed uses
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    ranks.form_group()
    if values is not None:
        hollow(model, ranks.device)
    shapes = {name: tuple(tensor.shape) for name, tensor in references(model).items()}
    names = {id(p): name for name, p in model.named_parameters()}
    training = training_of(model)
    parameters = sum(p.numel() for p in model.parameters())
    facts = Facts(precision, ranks.world_size, parameters, total, training.optimizer.defaults)
    config = complete(strategy, train, facts)
    own = None if "optimizer" in config else training.optimizer
    learned = [p for p in model.parameters() if p.requires_grad]
    groups = (
        [[names[id(p)] for p in g["params"]] for g in own.param_groups] if own else [[names[id(p)] for p in learned]]
    )
    forward = Forward(algorithm, model, precision, ranks.device)
    try:
        if values is not None:
            deepspeed.init_distributed(verbose=False)
            deepspeed.zero.Init(module=Filling(model, values, precision), config_dict_or_path=config)
        engine, *_ = deepspeed.initialize(
            model=forward, optimizer=own, model_parameters=None if own else learned, config=config
        )
    except (AssertionError, ValueError, NotImplementedError) as error:
        raise UserError(f"strategy.config: DeepSpeed refuses it: {str(error).strip().splitlines()[0]}") from error
    basic = engine.basic_optimizer
    if own is None:
        training.optimizer = basic
        training.schedule = algorithm.schedule(basic, total)
    if engine.lr_scheduler is not None:
        training.schedule = None
        training.extras["schedule"] = engine.lr_scheduler
    if engine.optimizer is basic:
        training.layout = Plain(model, basic)
    else:
        training.layout = Fragments(model, engine, shapes, groups, ranks)
        scales = getattr(engine.optimizer, "loss_scaler", None) or getattr(engine.optimizer, "loss_scale_config", None)
        if precision == "fp16":
            training.extras["scaler"] = Numbers(scales)
    return training, Zero(algorithm, training, ranks, precision, engine)


class Filling(nn.Module):
    """A model that gives its parameters one at a time their room and values: DeepSpeed, which converts a module by
    them, has the whole of one, sends it from the first worker to all, and keeps each one's part of it."""

    def __init__(self, model: nn.Module, values: Values, precision: str) -> None:
        super().__init__()
        self._filled = partial(_filled, model, values, numbers.DTYPES.get(precision))

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return self._filled()


def _filled(model: nn.Module, values: Values, dtype: torch.dtype | None) -> Iterator[nn.Parameter]:
    for name, parameter in model.named_parameters():
        low = dtype if parameter.is_floating_point() else None  # in 16 bits the weights are so themselves
        parameter.data = values.room(name, parameter, low or parameter.dtype)
        yield parameter


class Forward(Call):
    """The engine's module. In 16 bits the weights are so themselves, and what needs fp32 is computed in it."""

    def __init__(self, algorithm: Module, model: nn.Module, precision: str, device: torch.device) -> None:
        super().__init__(algorithm, model)
        self._precision, self._device = precision, device

    def forward(self, batch: Batch, evaluate: bool = False) -> Any:
        with numbers.autocast(self._precision, self._device):
            return super().forward(batch, evaluate)


class Zero(Spread):
    """The steps of a model under DeepSpeed's engine, which clips, scales and averages by its own config."""

    def __init__(self, algorithm: Module, training: Training, ranks: Ranks, precision: str, engine: Any) -> None:
        super().__init__(algorithm, training, ranks, "fp32", None)
        self.engine = self.call = engine
        self.meets_in_forward = engine.zero_optimization_stage() == 3
        learned = {name: p for name, p in training.model.named_parameters() if p.requires_grad}
        self._use = (SameUse if engine.zero_optimization_stage() else Use)(learned, ranks)
        for name, p in learned.items():
            p.register_post_accumulate_grad_hook(self._use.hook(name))

    def part(self, batch: Batch, last: bool) -> Tensor:
        self.engine.set_gradient_accumulation_boundary(last)
        return super().part(batch, last)

    def backward(self, loss: Tensor) -> None:
        self.engine.backward(loss, scale_wrt_gas=False)

    def update(self) -> None:
        unused = self._use.unused()
        if not unused:
            self.engine.step()
            return
        layout = self.training.layout
        if isinstance(layout, Fragments):
            with layout.unchanged(unused):
                self.engine.step()
            return
        for name, parameter in self.model.named_parameters():
            if name in unused:
                parameter.grad = None
        self.engine.step()

    def compare(self) -> None:
        self._use.compare()

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.engine(batch, True)
        return found

    def refresh(self) -> None:
        if isinstance(self.training.layout, Fragments):
            self.training.layout.refresh()


class Numbers:
    """The numbers of an object as its state: a loss scaler's scale and counts."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def state_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self._of).items() if isinstance(value, (int, float))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for key, value in state.items():
            setattr(self._of, key, value)
