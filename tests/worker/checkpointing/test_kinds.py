"""A model's tensors of any type and lie in memory: trained alike on two workers, held by checkpoints and models, or refused."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.worker.processes import on_workers
from tests.worker.strategy.test_choice import SEED, STRATEGIES, make, restore, save
from trainer.algorithm import Batch, Module
from trainer.errors import HeadwayError, UserError
from trainer.job import checkpoint
from trainer.job.model.weights import load_tensors, save_tensors
from trainer.worker.checkpointing.state import weights_in
from trainer.worker.distributed.alike import begin_alike, give
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.strategy import initial

TYPES = [
    "complex128",
    "complex64",
    "complex32",
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float64",
    "float16",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
]


class Kinds(nn.Module):
    """A buffer of each type; parameters and buffers that are transposed, in strides, without elements, or but one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 7), nn.Linear(7, 1)
        self.first.weight = nn.Parameter(torch.randn(5, 7).t())
        self.conv = nn.Conv2d(2, 3, 2).to(memory_format=torch.channels_last)
        self.complex = nn.Parameter(torch.randn(3, 2, dtype=torch.complex128).t())
        self.empty, self.scalar = nn.Parameter(torch.empty(0, 3)), nn.Parameter(torch.tensor(2.0))
        self.strided, self.tied = nn.Parameter(torch.randn(10)[::2]), self.last.bias
        for name in TYPES:
            self.register_buffer(f"of_{name}", torch.ones(2, 3).to(getattr(torch, name)))
        self.register_buffer("transposed", torch.arange(6.0).reshape(2, 3).t())
        self.register_buffer("expanded", torch.randn(1).expand(5))
        self.register_buffer("one", torch.tensor(3.0, dtype=torch.complex128))

    def forward(self, x: Tensor) -> Tensor:
        image = self.conv(x[:, :4].reshape(-1, 1, 2, 2).expand(-1, 2, 2, 2)).sum((1, 2, 3))
        more = self.complex.abs().sum() + (self.strided * torch.arange(5.0)).sum() * self.scalar + self.empty.sum()
        return self.last(torch.tanh(self.first(x))).squeeze(1) + image + 0.01 * more + self.transposed[2, 1]


class AnyKind(Module):
    def build(self, schema: Any) -> nn.Module:
        return Kinds()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return (model(batch.x) - batch.y).square().mean()

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def numbers(model: nn.Module) -> dict[str, list[Any]]:
    return {n: t.detach().to(torch.complex128).flatten().tolist() for n, t in model.state_dict().items()}


def fresh(ranks: Ranks, name: str, seed: int) -> Any:
    algorithm = AnyKind()
    model, _ = initial.build(algorithm, None, ranks, partial(torch.manual_seed, seed), split=False)  # type: ignore[arg-type]
    return make(algorithm, ranks, STRATEGIES.get(name, {"name": "single"}), model=model)


def steps(ranks: Ranks, training: Any, spread: Any, count: int = 2) -> None:
    for _ in range(count):
        generator = torch.Generator().manual_seed(training.position.step)
        x, y = torch.randn(12, 5, generator=generator), torch.randn(12, generator=generator)
        rows = slice(ranks.rank * 12 // ranks.world_size, (ranks.rank + 1) * 12 // ranks.world_size)
        spread.part(Batch(x[rows], y[rows], 12 // ranks.world_size, 12), True)
        spread.update()
        training.position.step += 1


def held(ranks: Ranks, root: Path, name: str) -> dict[str, Any]:
    """Trains, saves, takes that up in a model that began with other numbers, and goes on."""
    training, spread = fresh(ranks, name, SEED)
    steps(ranks, training, spread)
    for buffer in training.model.buffers() if ranks.rank else ():
        buffer.copy_(torch.zeros_like(buffer))
    spread.agree()
    folder = save(root / name, ranks, training)
    again, spread_again = fresh(ranks, name, 99)
    restore(folder, ranks, again)
    saved = numbers(again.model)
    assert saved == numbers(training.model)
    for one, other in ((training, spread), (again, spread_again)):
        steps(ranks, one, other)
    assert numbers(again.model) == numbers(training.model)
    return saved


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_tensors_of_every_kind_are_trained_alike_and_kept(tmp_path: Path) -> None:
    alone = on_workers(1, held, tmp_path, "single")[0]
    for found in on_workers(2, held, tmp_path, "ddp"):
        for name, values in found.items():
            assert values == pytest.approx(alone[name], abs=1e-5), name
    for writer in ("single", "ddp"):  # as a model that others load
        folder, model = checkpoint.folder(tmp_path / writer, 2), Kinds()
        (tmp_path / f"model-{writer}").mkdir()
        save_tensors(weights_in(folder, checkpoint.read_manifest(folder)), tmp_path / f"model-{writer}")
        load_tensors(model, tmp_path / f"model-{writer}")
        for name, values in numbers(model).items():
            assert values == pytest.approx(alone[name], abs=1e-5), name


class Extra(nn.Module):
    def get_extra_state(self) -> Any:
        return {"words": ["a"]}

    def set_extra_state(self, state: Any) -> None: ...


class Wrapped(Tensor):
    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotImplementedError(func)


UNHELD = {
    "sparse_coo": lambda: torch.eye(3).to_sparse(),
    "sparse_csr": lambda: torch.eye(3).to_sparse_csr(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "on the meta device": lambda: torch.empty(3, device="meta"),
    "a Wrapped": lambda: torch.ones(3).as_subclass(Wrapped),
    "expanded": lambda: nn.Parameter(torch.ones(1).expand(3)),
    "without a shape": lambda: nn.LazyLinear(3),
    "a dict (get_extra_state)": Extra,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", list(UNHELD))
def test_what_can_not_be_kept_is_named_before_the_first_step(kind: str) -> None:
    class Odd(AnyKind):
        def build(self, schema: Any) -> nn.Module:
            model, value = nn.Sequential(nn.Linear(2, 2)), UNHELD[kind]()
            if isinstance(value, nn.Module):
                model.add_module("odd", value)
            elif isinstance(value, nn.Parameter):
                model.register_parameter("odd", value)
            else:
                model.register_buffer("odd", value)
            return model

    with pytest.raises(UserError, match=r"^the model's odd\S* is ") as raised:
        initial.build(Odd(), None, Ranks(), lambda: None, split=False)  # type: ignore[arg-type]
    assert kind in str(raised.value)


def laid_otherwise(ranks: Ranks) -> dict[str, Any]:
    """What becomes of a transposed tensor and a plain one, of NaN and of a model that differs."""
    numbers = torch.arange(6.0).reshape(2, 3) + 10 * ranks.rank
    here = numbers if ranks.rank == 0 else numbers.t().contiguous().t()
    given = here.clone(memory_format=torch.preserve_format)
    give(given)
    model = nn.Linear(3, 2, bias=False)
    model.weight = nn.Parameter(here)
    begin_alike(model, ranks)
    found = {"given": given.tolist(), "model": model.weight.tolist(), "strides": model.weight.stride()}
    found["sum"] = ranks.sum(here.double()).tolist()
    one = torch.tensor([math.nan if ranks.rank == 1 else 1.0], dtype=torch.float64)
    found["nan"] = bool(ranks.sum(one).isnan())
    with pytest.raises(HeadwayError) as raised:
        begin_alike(nn.Linear(3, 2 + ranks.rank), ranks)
    return found | {"said": str(raised.value)}


def test_nothing_depends_on_how_a_tensor_lies_or_where_a_nan_is() -> None:
    for found in on_workers(2, laid_otherwise):
        assert found["given"] == found["model"] == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        assert found["strides"] == (3, 1)
        assert found["sum"] == [[10.0, 12.0, 14.0], [16.0, 18.0, 20.0]]
        assert found["nan"]
        assert found["said"].startswith("worker 1 has built another model than worker 0: bias differs")
