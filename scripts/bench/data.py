"""How fast rows come as shuffled batches: from memory, and from Parquet larger than the shuffle's window.

    python scripts/bench/data.py [--quick]

Memory: 1,000,000 rows × 30 float32, the trainer's stream of an epoch against `x[index], y[index]` by a permutation
that was made before. Parquet: about 1.5 GB in 12,000,000 rows, made in the temporary folder and deleted afterwards;
the trainer's shuffled stream of the opened data against pyarrow reading as many rows in the order of the file into
float32 tensors. The file is in the page cache for both. Opening it parses it once ever; that time is shown too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import warnings
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pairing import head, in_turn, row

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from algorithms.linear import Linear
from trainer.data.opening import open_data
from trainer.data.sources import Parquet
from trainer.data.tables import order
from trainer.data.tables.order import Order
from trainer.data.tables.samples import InMemory, Samples

COLUMNS = 30


def memory(quick: bool) -> None:
    rows, rounds = (100_000, 3) if quick else (1_000_000, 11)
    x, y = torch.randn(rows, COLUMNS), torch.randn(rows)
    samples = InMemory(x, y)
    permutation = torch.from_numpy(Order(rows, 0).epoch(0)(0, rows).copy())
    for batch_size in (32, 256, 4096):

        def bare(batch_size: int = batch_size) -> float:
            started = time.perf_counter()
            for i in range(0, rows, batch_size):
                index = permutation[i : i + batch_size]
                x[index], y[index]
            return rows / (time.perf_counter() - started) / 1e6

        def ours(batch_size: int = batch_size) -> float:
            return rate(samples, 0, batch_size, rows)

        row(f"memory, batches of {batch_size:,}", in_turn(bare, ours, rounds), "at least 0.9")


def rate(samples: Samples, epoch: int, batch_size: int, rows: int) -> float:
    """Millions of rows a second of an epoch's first `rows`."""
    started, seen = time.perf_counter(), 0
    for batch in samples.stream(seed=0, epoch=epoch, batch_size=batch_size):
        seen += batch.size
        if seen >= rows:
            break
    return seen / (time.perf_counter() - started) / 1e6


def parquet(quick: bool, folder: Path) -> None:
    rows, rounds, part = (400_000, 3, 200_000) if quick else (12_000_000, 7, 3_000_000)
    if quick:
        order.WINDOW = 16 << 20
    path = folder / "rows.parquet"
    write(path, rows)
    source = Parquet(train=str(path), validation=None, label="y")
    started = time.perf_counter()
    samples = open_data(source, Linear(), seed=0).train
    opened = time.perf_counter() - started
    started = time.perf_counter()
    samples = open_data(source, Linear(), seed=0).train
    again = time.perf_counter() - started
    read = whole_file(path)
    epochs = count()
    for batch_size in (256, 4096):

        def bare(batch_size: int = batch_size) -> float:
            return in_order(path, batch_size, part)

        def ours(batch_size: int = batch_size) -> float:
            return rate(samples, next(epochs), batch_size, part)

        def alone(batch_size: int = batch_size) -> float:
            return in_order(path, batch_size, part, tensors=False)

        what = f"Parquet, batches of {batch_size:,}"
        row(what, in_turn(bare, ours, rounds), "at least 0.8")
        row(f"{what}, pyarrow making no tensors", in_turn(alone, ours, rounds), "")
    size = path.stat().st_size
    print(
        f"\n{size / 1e9:.2f} GB of Parquet in {rows:,} rows, window {order.WINDOW >> 20} MiB: opened for the first "
        f"time in {opened:.1f} s ({rows / opened / 1e6:.2f} M rows/s, {opened / read:.1f} × reading the file once with "
        f"pyarrow, {read:.1f} s), later in {again:.2f} s",
        flush=True,
    )


def write(path: Path, rows: int) -> None:
    """Random features and a label that isn't whole: what nothing compresses."""
    random = np.random.default_rng(0)
    names = [f"f{j}" for j in range(COLUMNS)] + ["y"]
    schema = pa.schema([(name, pa.float32()) for name in names])
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for start in range(0, rows, 200_000):
            n = min(200_000, rows - start)
            cells = random.standard_normal((len(names), n), np.float32)
            writer.write_table(pa.table([pa.array(c) for c in cells], schema=schema))


def in_order(path: Path, batch_size: int, rows: int, *, tensors: bool = True) -> float:
    """Millions of rows a second that pyarrow reads, and turns into tensors x [n, COLUMNS] and y [n]."""
    started, seen = time.perf_counter(), 0
    for batch in pq.ParquetFile(path).iter_batches(batch_size):
        if tensors:
            columns = [torch.from_numpy(c.to_numpy()) for c in batch.columns]
            torch.stack(columns[:COLUMNS], 1), columns[COLUMNS]
        seen += len(batch)
        if seen >= rows:
            break
    return seen / (time.perf_counter() - started) / 1e6


def whole_file(path: Path) -> float:
    started = time.perf_counter()
    for _ in pq.ParquetFile(path).iter_batches(65_536):
        pass
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little data: whether it works, not what it costs")
    parser.add_argument("--only", choices=["memory", "parquet"])
    args = parser.parse_args()
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nobody writes
    torch.set_num_threads(1)  # as the trainer's threads would be taken by a model
    head("M rows/s")
    if args.only != "parquet":
        memory(args.quick)
    if args.only != "memory":
        folder = Path(tempfile.mkdtemp(prefix="bench-data-"))
        os.environ["HEADWAY_CACHE"] = str(folder / "cache")
        try:
            if not args.quick and shutil.disk_usage(folder).free < 6e9:
                sys.exit(
                    f"error: {folder} needs 6 GB of free space; set TMPDIR to a folder that has it, or use --quick"
                )
            parquet(args.quick, folder)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
