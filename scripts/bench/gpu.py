"""The language model of 1 B weights on a GPU, in bf16 with compile: tokens/s, MFU and memory, against a plain loop.

    python scripts/bench/gpu.py [--batch 8] [--blocks 10]
    python scripts/bench/gpu.py --cpu         a tiny model, to see that the script works

Needs nothing from outside: its tokens are drawn by chance, small numbers more often, so that there is something to
learn. The plain loop is what one writes for speed: `torch.compile`, autocast to bf16, fused AdamW, batches copied from
pinned memory beside the work, no number read back. Both sides take turns in blocks of steps, each from a synchronised
GPU to a synchronised GPU, on the same samples from the same weights. Ours is the loop as a job runs it, with a report
after each block; only checkpoints are not written. Memory is each side's highest during its blocks, without what the
other keeps, beside what `headway plan` tells of `single`. Without a GPU it ends with 2.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from pairing import Pairs, spread
from setting import SEED, train
from step import taken
from torch import Tensor, nn

from algorithms.gpt import GPT
from trainer.algorithm import Batch
from trainer.data.encoding.text import Tokens
from trainer.data.schema import Schema
from trainer.data.tables.samples import Samples
from trainer.job.directory import Job
from trainer.worker.capacity.estimate import measure
from trainer.worker.capacity.footprint import single
from trainer.worker.checkpointing.saver import Saver
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.strategy import precision as numbers
from trainer.worker.training.mfu import peak_of

CLOSE = 0.01  # by which part the losses of both sides may differ where sums have no fixed order


@dataclass(kw_only=True)
class Sized(GPT):
    """A GPT of a vocabulary without a tokenizer."""

    vocabulary: int = 32_000

    def _vocabulary(self) -> int:
        return self.vocabulary


def tinyllama() -> Sized:
    """As conf/algorithm/gpt_1b.yaml has it."""
    return Sized(lr=4e-4, layers=22, heads=32, kv_heads=4, width=2048, hidden=5632, context=2048, warmup=2000)


def tiny() -> Sized:
    return Sized(layers=2, heads=4, kv_heads=2, width=64, context=32, vocabulary=500)


@dataclass
class Run:
    """What is trained, in how many steps of what size."""

    algorithm: Sized
    ranks: Ranks
    batch: int
    block: int
    blocks: int
    samples: Tokens = field(init=False)

    def __post_init__(self) -> None:
        length = self.algorithm.context
        chances = np.random.default_rng(SEED).random((self.steps + 1) * self.batch * length + 1, dtype=np.float32)
        self.samples = Tokens((chances**3 * self.algorithm.vocabulary).astype(np.uint16), length)

    @property
    def steps(self) -> int:
        """The first block warms up and compiles, and the last step's end is not seen."""
        return self.block * (self.blocks + 1) + 1

    @property
    def on_gpu(self) -> bool:
        return self.ranks.device.type == "cuda"

    def fresh(self) -> nn.Module:
        torch.manual_seed(SEED)
        with self.ranks.device:
            return self.algorithm.build(Schema())

    def predicted(self) -> int:
        """Bytes that a plan tells."""
        shape = (self.batch, self.algorithm.context + 1)
        batch = Batch(torch.zeros(shape, dtype=torch.int64), None, self.batch, self.batch)
        device = self.ranks.device.type
        return single(measure(self.algorithm, Schema(), batch, device=device, precision="bf16"), 1).total


def plain(run: Run, model: nn.Module) -> Iterator[Tensor]:
    """The loop as one writes it by hand; the loss of a step each time it is asked."""
    device = run.ranks.device
    optimizer = run.algorithm.optimizer(model)
    schedule = run.algorithm.schedule(optimizer, run.steps)
    compiled = torch.compile(model)
    x = run.samples.sequences
    for rows in taken(run.samples, run.steps, run.batch, run.ranks):
        tokens = torch.from_numpy(x[rows.numpy()].astype(np.int64))
        if run.on_gpu:
            tokens = tokens.pin_memory().to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16):
            loss = compiled(tokens[:, :-1], tokens[:, 1:]).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        yield loss.detach()


class Watch:
    """Seconds and memory of one stretch of work on the device, from its idleness to its idleness."""

    def __init__(self, on_gpu: bool) -> None:
        self.on_gpu = on_gpu
        self.held = 0  # bytes there at the beginning
        self.start()

    def start(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.held = torch.cuda.memory_allocated()
        self._began = time.perf_counter()

    def stop(self) -> tuple[float, int]:
        """Seconds, and the highest bytes on the device, both sides' together."""
        if self.on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - self._began, torch.cuda.max_memory_allocated() if self.on_gpu else 0


class Alternating(Samples):
    """The samples as they are, whose stream does a block of plain steps before it hands over each block of ours."""

    def __init__(self, run: Run, by_hand: Iterator[Tensor]) -> None:
        super().__init__(run.samples.order, run.samples.columns, run.samples.row_bytes)
        self.run, self.by_hand = run, by_hand
        self.seconds, self.peaks = Pairs(), Pairs()
        self.losses: list[float] = []  # mean of each plain block
        self.kept = {"bare": 0, "ours": 0}  # bytes that each side keeps between its steps

    def stream(self, **place: Any) -> Iterator[Batch]:
        watch = Watch(self.run.on_gpu)
        started = False
        for i, batch in enumerate(self.run.samples.stream(**place)):
            if i % self.run.block == 0:
                if started:
                    self._note("ours", *watch.stop())
                watch.start()
                if not started:
                    self.kept["ours"] = watch.held - self.kept["bare"]  # until it has its optimizer's state
                losses = [next(self.by_hand) for _ in range(self.run.block if i < self.run.steps - 1 else 1)]
                self._note("bare", *watch.stop())
                self.losses.append(torch.stack(losses).mean().item())
                del losses
                watch.start()
                started = True
            yield batch

    def _note(self, side: str, seconds: float, peak: int) -> None:
        other = "ours" if side == "bare" else "bare"
        getattr(self.seconds, side).append(seconds)
        getattr(self.peaks, side).append(peak - self.kept[other])
        if self.run.on_gpu:
            self.kept[side] = torch.cuda.memory_allocated() - self.kept[other]

    def _take(self, ids: np.ndarray) -> tuple[Any, Tensor | None]:
        return self.run.samples._take(ids)


class Unsaved(Saver):
    """Takes no checkpoint: 12 GB at the end of a bench are of no use."""

    def take(self, *arguments: Any) -> None:
        pass


def compare(run: Run, folder: Path) -> Alternating:
    """Trains both. Raises AssertionError if they don't train alike."""
    model, other = run.fresh(), run.fresh()
    samples = Alternating(run, plain(run, other))
    samples.kept["bare"] = sum(p.numel() * p.element_size() for p in other.parameters()) if run.on_gpu else 0
    job = Job(folder / "job")
    options = {"batch_size": run.batch, "precision": "bf16", "compile": True, "log_every": run.block}
    train(run.algorithm, model, samples, run.ranks, job, run.steps, every=None, options=options, saves=Unsaved)
    ours = [line["values"]["train_loss"] for line in job.metrics()][: run.blocks + 1]
    for block, (a, b) in enumerate(zip(samples.losses, ours, strict=False)):
        if not math.isclose(a, b, rel_tol=CLOSE):
            raise AssertionError(f"block {block}: the plain loop's loss is {a}, ours {b}")
    if not run.on_gpu:
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            if not torch.equal(a, b):
                raise AssertionError(f"the weights of both loops differ at the end by {(a - b).abs().max()}")
    print(f"<!-- loss of the first block {ours[0]:.3f}, of the last {ours[-1]:.3f} -->")
    return samples


def table(run: Run, samples: Alternating, predicted: int) -> None:
    """Prints what was measured, without the first block."""
    seconds = Pairs(samples.seconds.bare[1 : run.blocks + 1], samples.seconds.ours[1 : run.blocks + 1])
    tokens = run.batch * run.algorithm.context * run.block
    name = torch.cuda.get_device_name() if run.on_gpu else "CPU"
    peak = peak_of(name, "bf16") if run.on_gpu else None
    flops = run.algorithm.flops_per_sample(Schema()) * run.batch * run.block

    def mfu(times: list[float]) -> str:
        return f"{flops / median(times) / peak:.1%}" if peak else ""

    middle, low, high = spread(seconds.ratios())
    ms = [f"{median(times) * 1e3 / run.block:,.1f}" for times in (seconds.bare, seconds.ours)]
    rate = [f"{tokens / median(times):,.0f}" for times in (seconds.bare, seconds.ours)]
    print(f"\n{name}, PyTorch {torch.__version__}; {run.batch} sequences of {run.algorithm.context} tokens a step\n")
    print("| what | plain | ours | ours / plain, median (quartiles) | asked |\n|---|---|---|---|---|")
    print(f"| a step, ms | {ms[0]} | {ms[1]} | {middle:.3f} ({low:.3f} to {high:.3f}) | at most 1.01 |")
    print(f"| tokens/s | {rate[0]} | {rate[1]} | | |")
    print(f"| MFU | {mfu(seconds.bare)} | {mfu(seconds.ours)} | | at least 50 % on an H100 |")
    plan = f"`headway plan`: {predicted / 1e9:.1f}"
    if run.on_gpu:
        bare, ours = max(samples.peaks.bare[1:]) / 1e9, max(samples.peaks.ours[1:]) / 1e9
        print(f"| memory, GB | {bare:.1f} | {ours:.1f} | {ours / bare:.3f} | {plan} |")
    else:
        print(f"| memory, GB | | | | {plan} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", action="store_true", help="a tiny model on the CPU: whether it works")
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it works, not what it costs")
    parser.add_argument("--batch", type=int, default=8, help="sequences a step (8)")
    parser.add_argument("--block", type=int, default=10, help="steps in turn (10)")
    parser.add_argument("--blocks", type=int, default=10, help="blocks of each side that count (10)")
    args = parser.parse_args()
    if not args.cpu and not torch.cuda.is_available():
        print("there is no GPU here: nothing was measured (--cpu tries the script with a tiny model)", file=sys.stderr)
        return 2
    device = torch.device("cpu") if args.cpu else torch.device("cuda", 0)
    blocks = 2 if args.cpu or args.quick else args.blocks
    run = Run(tiny() if args.cpu else tinyllama(), Ranks(device=device), args.batch, args.block, blocks)
    if args.cpu:
        torch.set_num_threads(1)  # with one, sums are of one order
    numbers.settle("bf16")
    predicted = run.predicted()
    with tempfile.TemporaryDirectory() as folder:
        samples = compare(run, Path(folder))
    table(run, samples, predicted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
