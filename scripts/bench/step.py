"""What a step costs in the trainer's loop, against a hand-written PyTorch loop, one worker and two.

    python scripts/bench/step.py [--quick]

Both sides start from the same weights, see the same samples in the same order and must end with the same weights bit
for bit. They take turns step by step: whenever our loop asks for its next batch, the bare loop does a step of its own
first. Ours is the loop as a job runs it: its data, reports every 50 steps, progress thread, TensorBoard, the beats that
an agent watches, the handler for its notices, checkpoints beside the steps. For the MLP one is due every 1000 steps,
and compared are blocks of as many; for GPT `auto` decides. Each worker computes with one thread: small matrices gain
nothing from more, and wait for one another on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from pairing import Pairs, head, row
from setting import ROOT, SEED, train
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from algorithms.gpt import GPT
from trainer.algorithm import Batch, Module
from trainer.data.encoding.text import Tokens
from trainer.data.schema import Schema
from trainer.data.tables.order import Order
from trainer.data.tables.samples import InMemory, Samples
from trainer.job.directory import Job
from trainer.worker.checkpointing.layout import local
from trainer.worker.distributed.ranks import Ranks

BATCH = 32
TEXT = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"


class MLP(Module):
    """32 → 64 → 1."""

    def build(self, schema: Schema) -> nn.Module:
        return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.mse_loss(model(batch.x).squeeze(1), batch.y)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=1e-3)


@dataclass
class Case:
    """What is trained: an algorithm on samples; the same as tensors for the bare loop; steps compared at once."""

    name: str
    algorithm: Module
    samples: Samples
    x: Tensor
    y: Tensor | None
    block: int
    blocks: int
    every: int | str  # checkpoint.every
    asked: str

    @property
    def steps(self) -> int:
        """The first block warms up, and the last step's end is not seen."""
        return self.block * (self.blocks + 1) + 1


def mlp(quick: bool) -> Case:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64_000, 32, generator=generator)
    y = x @ torch.randn(32, generator=generator) + torch.randn(64_000, generator=generator)
    block, blocks = (200, 3) if quick else (1_000, 12)
    return Case("MLP 32→64→1", MLP(), InMemory(x, y), x, y, block, blocks, 1_000, "at most 1.05")


def gpt(quick: bool) -> Case:
    if TEXT.exists():
        text = TEXT.read_bytes()
    else:
        text = bytes(np.random.default_rng(1).integers(32, 127, 1_000_000, dtype=np.uint8))
    algorithm = GPT()
    samples = Tokens(np.frombuffer(text, np.uint8).astype(np.uint16), algorithm.sequence_length)
    x = torch.from_numpy(samples.sequences.astype(np.int64))
    block, blocks = (5, 3) if quick else (20, 15)
    return Case("GPT, 0.9 M weights", algorithm, samples, x, None, block, blocks, "auto", "at most 1.01")


def fresh(case: Case) -> nn.Module:
    torch.manual_seed(SEED)
    return case.algorithm.build(Schema())


def taken(samples: Samples, steps: int, batch: int, ranks: Ranks) -> Iterator[Tensor]:
    """This worker's rows of each step, in the order of the trainer, drawn before."""
    rows, share = samples.rows, batch // ranks.world_size
    order = Order(rows, SEED, samples.order.per_block, samples.order.window)
    epochs = -(-steps // (rows // batch))
    permutations = [torch.from_numpy(order.epoch(e)(0, rows).copy()) for e in range(epochs)]
    for permutation in permutations:
        for i in range(ranks.rank * share, rows - batch + 1 + ranks.rank * share, batch):
            yield permutation[i : i + share]


Bare = Callable[["Case", nn.Module, Ranks], Iterator[None]]


def bare(case: Case, model: nn.Module, ranks: Ranks) -> Iterator[None]:
    """The loop as one writes it by hand, a step each time it is asked."""
    optimizer = case.algorithm.optimizer(model)
    schedule = case.algorithm.schedule(optimizer, case.steps)
    wrapped = DistributedDataParallel(model) if ranks.world_size > 1 else model
    x, y = case.x, case.y
    for rows in taken(case.samples, case.steps, BATCH, ranks):
        if y is None:
            tokens = x[rows]
            loss = wrapped(tokens[:, :-1], tokens[:, 1:]).mean()
        else:
            loss = F.mse_loss(wrapped(x[rows]).squeeze(1), y[rows])
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        optimizer.zero_grad()
        yield


@dataclass
class Times:
    """Seconds of each step on both sides: on the wall, and of this process's threads on processors."""

    wall: Pairs = field(default_factory=Pairs)
    cpu: Pairs = field(default_factory=Pairs)

    def blocks(self, pairs: Pairs, steps: int) -> Pairs:
        """Milliseconds a step in each block of `steps`, without the first."""

        def of(times: list[float]) -> list[float]:
            return [sum(times[i : i + steps]) * 1e3 / steps for i in range(steps, len(times) - steps + 1, steps)]

        return Pairs(of(pairs.bare), of(pairs.ours))


class Alternating(Samples):
    """The samples as they are, whose stream does a bare step before it hands over each batch, and times both."""

    def __init__(self, samples: Samples, bare: Iterator[None]) -> None:
        super().__init__(samples.order, samples.columns, samples.row_bytes)
        self.samples, self.bare, self.times = samples, bare, Times()

    def stream(self, **place: Any) -> Iterator[Batch]:
        wall, cpu = self.times.wall, self.times.cpu
        clock, work = time.perf_counter, time.process_time
        started, began = clock(), work()
        stream = self.samples.stream(**place)
        for batch in stream:
            handed, gave = clock(), work()
            next(self.bare)
            ended, done = clock(), work()
            wall.bare.append(ended - handed)
            cpu.bare.append(done - gave)
            yield batch
            now, worked = clock(), work()
            wall.ours.append(handed - started + now - ended)
            cpu.ours.append(gave - began + worked - done)
            started, began = now, worked

    def _take(self, ids: np.ndarray) -> tuple[Any, Tensor | None]:
        return self.samples._take(ids)


def here(parameter: nn.Parameter) -> Tensor:
    """What this worker has of a parameter: of one that ZeRO or FSDP split, its part."""
    return local(getattr(parameter, "ds_tensor", parameter)).detach()


def compare(
    case: Case, ranks: Ranks, by_hand: Bare = bare, spread: dict[str, Any] | None = None, name: str = ""
) -> None:
    """Trains both in turn and prints two rows on rank 0: by the wall clock, and by what the processors worked."""
    model, other = fresh(case), fresh(case)
    samples = Alternating(case.samples, by_hand(case, other, ranks))
    with tempfile.TemporaryDirectory() as own:
        job = Job(Path(ranks.broadcast(own)) / "job")
        train(case.algorithm, model, samples, ranks, job, case.steps, every=case.every, spread=spread)
        ranks.barrier()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        if not torch.equal(here(a), here(b)):
            raise AssertionError(f"{case.name} {name}: the weights of both loops differ at the end")
    if ranks.rank == 0:
        times = samples.times
        what = f"{case.name}, {name}{ranks.world_size} worker{'s' if ranks.world_size > 1 else ''}"
        row(what, times.blocks(times.wall, case.block), case.asked, digits=3)
        row(f"{what}, processor time", times.blocks(times.cpu, case.block), "", digits=3)


def worker(rank: int, world: int, port: int, work: Callable[[Ranks], None]) -> None:
    """One of `world` workers on this machine."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "TORCHELASTIC_RESTART_COUNT": "0"}
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    ranks = Ranks.join()
    work(ranks)
    ranks.leave()


def on_workers(world: int, work: Callable[[Ranks], None]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(worker, (world, port, work), nprocs=world)


def work(make: Callable[[bool], Case], quick: bool, ranks: Ranks) -> None:
    compare(make(quick), ranks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it works, not what it costs")
    parser.add_argument("--only", choices=["mlp", "gpt"])
    parser.add_argument("--workers", type=int, choices=[1, 2])
    args = parser.parse_args()
    head("ms a step")
    for name, make in {"mlp": mlp, "gpt": gpt}.items():
        for world in (1, 2):
            if args.only not in (None, name) or args.workers not in (None, world):
                continue
            if world == 1:
                torch.set_num_threads(1)
                compare(make(args.quick), Ranks())
            else:
                on_workers(world, partial(work, make, args.quick))


if __name__ == "__main__":
    main()
