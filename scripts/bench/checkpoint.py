"""What a checkpoint costs: the wait of the step that takes it, its writing, the steps beside it, and taking it up again.

    python scripts/bench/checkpoint.py [--quick]

The state is that of a language model of 100 M weights with AdamW after a step, 1.2 GB, through the trainer's own
Training, Saver and Loop. Each has its bare twin, in turn with it: copying all tensors once into memory that is there,
writing as many bytes from memory in blocks of 4 MB with one fsync, reading the same files into one buffer of 4 MB, or
whole into memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pairing import Pairs, head, in_turn, row
from setting import SEED, new_beat, new_saver, train
from torch import Tensor

from algorithms.gpt import GPT
from trainer.algorithm import Batch
from trainer.data.encoding.text import Tokens
from trainer.data.schema import Schema
from trainer.data.tables.samples import Samples
from trainer.job import checkpoint
from trainer.job.directory import Job
from trainer.worker.checkpointing import shards
from trainer.worker.checkpointing.state import Training
from trainer.worker.distributed.ranks import Ranks

BLOCK = 4 << 20
EVERY = 4  # steps between checkpoints where the steps beside them are timed


def gpt(quick: bool) -> GPT:
    return GPT(layers=2 if quick else 14, heads=12, width=768, context=64)


def fresh(algorithm: GPT) -> Training:
    torch.manual_seed(SEED)
    model = algorithm.build(Schema())
    optimizer = algorithm.optimizer(model)
    return Training(model, optimizer, algorithm.schedule(optimizer, 1000))


def stepped(algorithm: GPT) -> Training:
    """A training after its first step, so that the optimizer has its state."""
    training = fresh(algorithm)
    tokens = torch.randint(0, 256, (1, algorithm.context + 1))
    algorithm.loss(training.model, Batch(tokens, None, 1, 1)).backward()
    training.optimizer.step()
    training.optimizer.zero_grad()
    return training


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def total(tensors: dict[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())


class Saving:
    """Takes checkpoints as the loop does, and times both halves; and does the same by hand."""

    def __init__(self, training: Training, job: Job) -> None:
        self.training, self.job, self.ranks = training, job, Ranks()
        self.beat = new_beat(job, self.ranks)
        self.saver = new_saver(job, self.ranks, self.beat)
        self.copies = {name: torch.zeros_like(t) for name, t in training.tensors()[0].items()}
        self.writing = Pairs()

    def copy(self) -> float:
        """All tensors once, into memory that is there."""

        def work() -> None:
            for name, tensor in self.training.tensors()[0].items():
                self.copies[name].copy_(tensor)

        with torch.no_grad():
            return seconds(work)

    def copy_fresh(self) -> float:
        """All tensors once, into memory that has to be made."""
        tensors = self.training.tensors()[0]
        with torch.no_grad():
            return seconds(lambda: [t.clone() for t in tensors.values()])

    def save(self) -> float:
        """What a step waits for when a checkpoint is due."""
        training = self.training
        training.position.step += 1

        def work() -> None:
            tensors, outline = training.tensors()
            self.saver.take(training.position.step, tensors, training.small(outline, self.ranks), {})

        return seconds(work)

    def save_and_write(self) -> float:
        """`save`; afterwards its writing is timed, in turn with a plain write of as many bytes."""
        stall = self.save()
        self.written()
        self.writing.ours.append(total(self.copies) / self.saver.writing / 1e9)
        self.writing.bare.append(total(self.copies) / seconds_to_write(self.job.dir / "plain", self.copies) / 1e9)
        return stall

    def save_first(self, prepared: bool) -> float:
        """The first save of a worker, whose memory for copies was made beside the steps, or wasn't."""
        self.saver = new_saver(self.job, self.ranks, self.beat)
        if prepared:
            self.saver.prepare(self.training.tensors()[0])
            self.saver.wait()
        stall = self.save()
        self.written()
        return stall

    def written(self) -> None:
        self.saver.wait()
        if self.saver.failed:
            raise self.saver.failed


def seconds_to_write(path: Path, tensors: dict[str, Tensor]) -> float:
    """A plain sequential write from memory, with one fsync."""
    views = [shards.as_bytes(t) for t in tensors.values()]

    def work() -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for view in views:
            for start in range(0, len(view), BLOCK):
                os.write(fd, view[start : start + BLOCK])
        os.fsync(fd)
        os.close(fd)

    took = seconds(work)
    path.unlink()
    return took


def stalls(training: Training, job: Job, quick: bool) -> Path:
    """The rows about saving. Returns a checkpoint that is left."""
    saving = Saving(training, job)
    rounds, firsts = (2, 1) if quick else (15, 5)
    saving.save_first(prepared=True)
    pairs = in_turn(saving.copy, saving.save_and_write, rounds)
    head("ms")
    row("a step's wait for a checkpoint, against copying its state once", milliseconds(pairs), "at most 1.2", digits=0)
    first = in_turn(saving.copy, lambda: saving.save_first(True), firsts, warm_up=0)
    row("the same, a worker's first", milliseconds(first), "at most 1.2", digits=0)
    first = in_turn(saving.copy_fresh, lambda: saving.save_first(False), firsts, warm_up=0)
    row("the first with memory not prepared, against copying to fresh memory", milliseconds(first), "", digits=0)
    head("GB/s")
    plain = Pairs(saving.writing.bare[1:], saving.writing.ours[1:])
    row("writing it, against plain writing with fsync", plain, "at least 0.8")
    return checkpoint.listing(job.checkpoints)[-1]


def milliseconds(pairs: Pairs) -> Pairs:
    return Pairs([t * 1e3 for t in pairs.bare], [t * 1e3 for t in pairs.ours])


def restores(algorithm: GPT, training: Training, saved: Path, quick: bool) -> None:
    """The rows about taking a checkpoint up, from the disk and from the page cache."""
    other = fresh(algorithm)
    other.restore(saved, checkpoint.read_manifest(saved), Ranks())
    theirs = other.tensors()[0]
    for name, tensor in training.tensors()[0].items():
        if not torch.equal(tensor, theirs[name]):
            raise AssertionError(f"{name} is not what was saved")
    del other, theirs
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as workers:
        for where, cold, keeps, asked in (
            ("the disk, against plain reading", True, False, "at least 0.7"),
            ("the page cache, against plain reading into memory", False, True, "at least 0.7"),
            ("the page cache, against plain reading that keeps nothing", False, False, ""),
        ):
            pairs = Pairs()
            for i in range(2 if quick else 10):
                bare, ours = workers.apply(read_and_restore, (quick, saved, cold, keeps, i % 2 == 1))
                pairs.bare.append(bare)
                pairs.ours.append(ours)
            row(f"verified restore from {where}", pairs, asked)


def read_and_restore(quick: bool, saved: Path, cold: bool, keeps: bool, ours_first: bool) -> tuple[float, float]:
    """GB/s of both in a fresh process, as a worker is one: memory that it had and gave back would flatter."""
    training = fresh(gpt(quick))
    files = [saved / name for name in checkpoint.read_manifest(saved)["files"]]
    size = sum(file.stat().st_size for file in files)
    buffer = bytearray(BLOCK)

    def read() -> None:
        if keeps:
            kept = [path.read_bytes() for path in files]
            del kept
            return
        for path in files:
            with open(path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass

    def restore() -> None:
        training.restore(saved, checkpoint.read_manifest(saved), Ranks())

    def rate(work: Callable[[], Any]) -> float:
        for path in files:  # the page cache holds all of it, or nothing
            fd = os.open(path, os.O_RDONLY)
            if cold:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            while not cold and os.readv(fd, [buffer]):
                pass
            os.close(fd)
        return size / seconds(work) / 1e9

    if ours_first:
        ours = rate(restore)
        return rate(read), ours
    return rate(read), rate(restore)


class Timed(Samples):
    """The samples as they are, whose stream times what passes between two batches: a step of the loop."""

    def __init__(self, samples: Samples) -> None:
        super().__init__(samples.order, samples.columns, samples.row_bytes)
        self.samples = samples
        self.times: list[float] = []

    def stream(self, **place: Any) -> Iterator[Batch]:
        for batch in self.samples.stream(**place):
            started = time.perf_counter()
            yield batch
            self.times.append(time.perf_counter() - started)

    def _take(self, ids: np.ndarray) -> tuple[Any, Tensor | None]:
        return self.samples._take(ids)


def beside(algorithm: GPT, job: Job, quick: bool, threads: int) -> None:
    """The row about steps of the loop while a checkpoint is written, against those while none is.

    With a checkpoint after every fourth step, the step after it runs while it is written, and the third while no
    longer: writing takes about a second, a step half of one.
    """
    torch.set_num_threads(threads)
    rounds = 3 if quick else 15
    text = np.random.default_rng(1).integers(32, 127, 1_000_000, dtype=np.uint8).astype(np.uint16)
    samples = Timed(Tokens(text, algorithm.sequence_length))
    torch.manual_seed(SEED)
    model, steps = algorithm.build(Schema()), EVERY * (rounds + 2)
    train(algorithm, model, samples, Ranks(), job, steps, every=EVERY, options={"batch_size": 1})
    times = [t * 1e3 for t in samples.times[EVERY:]]
    pairs = Pairs(times[EVERY - 2 :: EVERY][:rounds], times[0::EVERY][:rounds])
    what = f"a step beside the writing, {threads} thread{'s' if threads > 1 else ''} computing"
    row(what, pairs, "", digits=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small model and few rounds: whether it works")
    parser.add_argument("--only", choices=["save", "beside"])
    args = parser.parse_args()
    algorithm = gpt(args.quick)
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        if args.only != "beside":
            training, job = stepped(algorithm), Job(Path(folder) / "saves")
            tensors = training.tensors()[0]
            print(f"<!-- {len(tensors)} tensors, {total(tensors) / 1e9:.2f} GB -->")
            restores(algorithm, training, stalls(training, job, args.quick), args.quick)
        if args.only != "save":
            head("ms")
            for threads in (1, 2):
                beside(algorithm, Job(Path(folder) / f"steps-{threads}"), args.quick, threads)


if __name__ == "__main__":
    main()
