import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from tests.data.conftest import Numbers
from trainer.data.opening import open_data
from trainer.data.sources import Npy, Parquet
from trainer.data.tables import order, streaming
from trainer.data.tables.samples import InMemory
from trainer.data.tables.streaming import Streaming, ahead

ROWS = 30_000


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "rows.parquet"
    rng = np.random.default_rng(0)
    columns = {"id": np.arange(ROWS), "a": rng.normal(size=ROWS), "y": rng.normal(size=ROWS)}
    parquet.write_table(pa.table(columns), path)
    return str(path)


@pytest.fixture
def both(table, monkeypatch):
    """The same data in memory and streamed in windows of two blocks."""
    source = Parquet(train=table, label="y", validation=0.1)
    memory = open_data(source, Numbers(), seed=1)
    monkeypatch.setattr(order, "WINDOW", 2 * order.BLOCK * 16)
    monkeypatch.setattr(streaming, "PIECE", 1000 * 16)
    streamed = open_data(source, Numbers(), seed=1)
    assert isinstance(memory.train, InMemory)
    assert isinstance(streamed.train, Streaming)
    return memory, streamed


def ids(batches):
    return [b.x[: b.size, 0].long().tolist() for b in batches]


def test_a_set_larger_than_a_window_has_the_rows_it_has_in_memory(both):
    memory, streamed = both
    assert streamed.schema == memory.schema
    for one, other in ((memory.train, streamed.train), (memory.validation, streamed.validation)):
        a = {
            r: y for b in one.sequential(batch_size=999) for r, y in zip(b.x[:, 0].tolist(), b.y.tolist(), strict=True)
        }
        b = {
            r: y
            for b in other.stream(seed=3, epoch=0, batch_size=128)
            for r, y in zip(b.x[:, 0].tolist(), b.y.tolist(), strict=True)
        }
        assert a == b
        assert sum(len(i) for i in ids(other.stream(seed=3, epoch=0, batch_size=128))) == one.rows


def test_streamed_rows_are_shuffled_and_differ_by_epoch(both):
    _, streamed = both
    first, second = (ids(streamed.train.stream(seed=3, epoch=e, batch_size=128)) for e in (0, 1))
    assert first != second
    assert first[0] != sorted(first[0])


@pytest.mark.parametrize("world", [2, 3])
def test_streamed_steps_are_the_same_with_any_number_of_workers(both, world):
    _, streamed = both
    alone = ids(streamed.train.stream(seed=3, epoch=0, batch_size=128))
    each = [ids(streamed.train.stream(seed=3, epoch=0, batch_size=128, rank=r, world=world)) for r in range(world)]
    assert [[i for part in parts for i in part] for parts in zip(*each, strict=True)] == alone
    tail = ids(streamed.train.stream(seed=3, epoch=0, batch_size=128, rank=1, world=world, start=100))
    assert tail == each[1][100:]


def test_chunks_of_streamed_rows_come_in_order(both):
    memory, streamed = both
    x = np.concatenate([x for x, _ in streamed.train.chunks(rows=5000)])
    assert np.array_equal(x, memory.train.x.numpy())


def test_missing_cells_are_replaced_by_the_training_mean_while_streaming(tmp_path, monkeypatch):
    values = np.arange(10_000, dtype=float)
    values[::7] = np.nan
    parquet.write_table(pa.table({"a": values, "y": np.arange(10_000.0)}), tmp_path / "a.parquet")
    monkeypatch.setattr(order, "WINDOW", order.BLOCK * 12)
    source = Parquet(train=str(tmp_path / "a.parquet"), label="y", validation=None, missing="mean")
    opened = open_data(source, Numbers(), seed=1)
    x = torch.cat([b.x for b in opened.train.sequential(batch_size=1000)])[:, 0]
    assert x[0].item() == pytest.approx(opened.schema.features[0].mean)
    assert opened.schema.features[0].mean == pytest.approx(np.nanmean(values))
    assert not torch.isnan(x).any()


def test_an_error_ahead_is_raised_where_the_items_are_used():
    def items():
        yield 1
        raise RuntimeError("disk gone")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(RuntimeError, match="disk gone"):
        next(found)


def test_leaving_a_stream_early_ends_its_thread():
    def endless():
        while True:
            yield 1

    found = ahead(endless())
    assert next(found) == 1
    found.close()
    assert "headway-data" not in [t.name for t in threading.enumerate()]


@pytest.mark.slow
def test_a_set_much_larger_than_a_window_trains_in_bounded_memory(tmp_path, monkeypatch):
    rows, columns = 1_000_000, 100  # 400 MB
    array = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.float32, (rows, columns))
    for start in range(0, rows, 50_000):
        array[start : start + 50_000] = np.random.default_rng(start).normal(size=(50_000, columns))
    array.flush()
    del array
    monkeypatch.setattr(order, "WINDOW", 32 << 20)
    before = anonymous()
    opened = open_data(Npy(train=str(tmp_path / "big.npy")), Numbers(), seed=1)
    peak = anonymous()
    for i, _ in enumerate(opened.train.stream(seed=1, epoch=0, batch_size=1024)):
        if i % 50 == 0:
            peak = max(peak, anonymous())
    assert isinstance(opened.train, Streaming)
    assert peak - before < 250 << 20


def anonymous():
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc")
    return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("RssAnon"))
