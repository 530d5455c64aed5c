"""What a step costs in the trainer's loop, against a hand-written PyTorch loop, one worker and two.

    python scripts/bench/step.py [--quick]

Both sides start from the same weights and see the same samples in the same order, and must end with the same weights
bit for bit. Ours is the loop as a job runs it: its reports every 50 steps, its progress thread, TensorBoard, a
checkpoint every 1000 steps. Only the checkpoint at a job's end, which belongs to no step, is not in its time.
Each worker computes with one thread: small matrices gain nothing from more, and wait for one another when a machine
has other work.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
import yaml
from pairing import Pairs, head, in_turn, row
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from algorithms.gpt import GPT  # noqa: E402
from trainer.algorithm import Batch, Module  # noqa: E402
from trainer.data.order import Order  # noqa: E402
from trainer.data.samples import InMemory, Samples  # noqa: E402
from trainer.data.schema import Schema  # noqa: E402
from trainer.data.text import Tokens  # noqa: E402
from trainer.job import Job  # noqa: E402
from trainer.worker.interruption import Interruption  # noqa: E402
from trainer.worker.loop import Loop  # noqa: E402
from trainer.worker.metrics import Reporter  # noqa: E402
from trainer.worker.ranks import Ranks  # noqa: E402
from trainer.worker.state import Training  # noqa: E402
from trainer.worker.strategy import spread  # noqa: E402
from trainer.worker.trackers import TensorBoard  # noqa: E402

BATCH, SEED = 32, 0
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
    """What is trained: an algorithm on samples; the same as tensors for the bare loop; how long a round is."""

    name: str
    algorithm: Module
    samples: Samples
    x: Tensor
    y: Tensor | None
    steps: int
    rounds: int
    asked: str


def mlp(quick: bool) -> Case:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64_000, 32, generator=generator)
    y = x @ torch.randn(32, generator=generator) + torch.randn(64_000, generator=generator)
    steps, rounds = (1_100, 3) if quick else (3_300, 15)
    return Case("MLP 32→64→1", MLP(), InMemory(x, y), x, y, steps, rounds, "at most 1.05")


def gpt(quick: bool) -> Case:
    if TEXT.exists():
        text = TEXT.read_bytes()
    else:
        text = bytes(np.random.default_rng(1).integers(32, 127, 1_000_000, dtype=np.uint8))
    algorithm = GPT()
    samples = Tokens(np.frombuffer(text, np.uint8).astype(np.uint16), algorithm.sequence_length)
    x = torch.from_numpy(samples.sequences.astype(np.int64))
    steps, rounds = (10, 2) if quick else (50, 7)
    return Case("GPT, 0.9 M weights", algorithm, samples, x, None, steps, rounds, "at most 1.01")


def bare_model(case: Case) -> nn.Module:
    torch.manual_seed(SEED)
    return case.algorithm.build(Schema())


@dataclass
class Clock:
    """Seconds since it was made: on the wall, and of this process's threads on processors."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def bare(case: Case, ranks: Ranks) -> tuple[tuple[float, float], nn.Module]:
    """The loop as one writes it by hand. Returns its wall and processor seconds, and the model."""
    model = bare_model(case)
    optimizer = case.algorithm.optimizer(model)
    schedule = case.algorithm.schedule(optimizer, case.steps)
    wrapped = DistributedDataParallel(model) if ranks.world_size > 1 else model
    rows, share = len(case.x), BATCH // ranks.world_size
    order = Order(case.samples.rows, SEED, case.samples.order.per_block, case.samples.order.window)
    epochs = -(-case.steps // (rows // BATCH))
    permutations = [torch.from_numpy(order.epoch(e)(0, rows).copy()) for e in range(epochs)]
    x, y, step = case.x, case.y, 0
    is_gpt = y is None
    ranks.barrier()
    clock = Clock()
    for permutation in permutations:
        for i in range(ranks.rank * share, rows - BATCH + 1 + ranks.rank * share, BATCH):
            taken = permutation[i : i + share]
            if is_gpt:
                tokens = x[taken]
                loss = wrapped(tokens[:, :-1], tokens[:, 1:]).mean()
            else:
                loss = F.mse_loss(wrapped(x[taken]).squeeze(1), y[taken])
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            optimizer.zero_grad()
            step += 1
            if step == case.steps:
                return clock.read(), model
    raise AssertionError("the epochs are too short")


class TimedTraining(Training):
    """Notes what the newest checkpoint took: wall and processor seconds."""

    last_save = (0.0, 0.0)

    def save(self, job: Job, ranks: Ranks, keep: int) -> Path | None:
        clock = Clock()
        saved = super().save(job, ranks, keep)
        self.last_save = clock.read()
        return saved


def ours(case: Case, ranks: Ranks, folder: Path) -> tuple[tuple[float, float], nn.Module, float]:
    """The trainer's loop, set up as a worker does it. Returns the same, and the wall seconds of the last checkpoint."""
    job = Job(folder / "job")
    config = {
        "train": {**_conf("train"), "max_steps": case.steps},
        "checkpoint": _conf("checkpoint"),
        "job": {"seed": SEED},
    }
    if ranks.rank == 0:
        job.dir.mkdir(parents=True)
        job.logs.mkdir()
    model = bare_model(case)
    optimizer = case.algorithm.optimizer(model)
    training = TimedTraining(model, optimizer, case.algorithm.schedule(optimizer, case.steps))
    loss = spread(case.algorithm, model, "ddp" if ranks.world_size > 1 else "single", "fp32", ranks)
    tracker = TensorBoard() if ranks.rank == 0 else None
    reporter = Reporter(job, tracker, writes=ranks.rank == 0, maximize=())
    reporter.start(config)
    loop = Loop(
        case.algorithm,
        training,
        loss,
        case.samples,
        None,
        job,
        ranks,
        reporter,
        Interruption(ranks),
        config,
        case.steps,
        "fp32",
    )
    ranks.barrier()
    clock = Clock()
    loop.run()
    wall, cpu = clock.read()
    reporter.finish({})
    return (wall - training.last_save[0], cpu - training.last_save[1]), model, training.last_save[0]


def _conf(group: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "conf" / group / "default.yaml").read_text()))


def compare(case: Case, ranks: Ranks) -> None:
    """Times both in turn and prints two rows on rank 0: by the wall clock, and by what the processors worked."""
    saves: list[float] = []
    models: list[nn.Module] = []
    cpu = Pairs()

    def run_bare() -> float:
        (wall, worked), model = bare(case, ranks)
        models[:] = [model]
        cpu.bare.append(worked * 1e3 / case.steps)
        return wall * 1e3 / case.steps

    def run_ours() -> float:
        with tempfile.TemporaryDirectory() as own:
            (wall, worked), model, save = ours(case, ranks, Path(ranks.broadcast(own)))
            ranks.barrier()
        for a, b in zip(models[0].parameters(), model.parameters(), strict=True):
            if not torch.equal(a, b):
                raise AssertionError(f"{case.name}: the weights of both loops differ at the end")
        saves.append(save)
        cpu.ours.append(worked * 1e3 / case.steps)
        return wall * 1e3 / case.steps

    pairs = in_turn(run_bare, run_ours, case.rounds, warm_up=1)
    if ranks.rank == 0:
        workers = "1 worker" if ranks.world_size == 1 else f"{ranks.world_size} workers"
        row(f"{case.name}, {workers}", pairs, case.asked, digits=3)
        row(f"{case.name}, {workers}, processor time", Pairs(cpu.bare[1:], cpu.ours[1:]), "", digits=3)
        save = sorted(saves)[len(saves) // 2] * 1e3
        print(f"<!-- same weights bit for bit in all rounds; a checkpoint takes {save:.0f} ms -->", flush=True)


def worker(rank: int, world: int, port: int, make: Callable[[bool], Case], quick: bool) -> None:
    """One of `world` DDP workers on this machine."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "TORCHELASTIC_RESTART_COUNT": "0"}
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    ranks = Ranks.join()
    compare(make(quick), ranks)
    ranks.leave()


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
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    port = free.getsockname()[1]
                mp.spawn(worker, (world, port, make, args.quick), nprocs=world)


if __name__ == "__main__":
    main()
