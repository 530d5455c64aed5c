import numpy as np
import pytest
import torch

from trainer.data.tables.order import Order
from trainer.data.tables.samples import InMemory

ROWS, COLUMNS = 103, 3


@pytest.fixture
def samples():
    x = torch.arange(ROWS, dtype=torch.float32)[:, None].repeat(1, COLUMNS)
    return InMemory(x, torch.arange(ROWS))


def test_batches_are_the_bits_of_a_tensor_sliced_by_a_shuffled_index(samples):
    order = torch.from_numpy(Order(ROWS, 5).epoch(2)(0, ROWS))
    for i, batch in enumerate(samples.stream(seed=5, epoch=2, batch_size=16)):
        index = order[i * 16 : (i + 1) * 16]
        assert torch.equal(batch.x, samples.x[index])
        assert torch.equal(batch.y, samples.y[index])
        assert batch.size == batch.total == len(index)
    assert i + 1 == samples.steps(16) == 7


def test_the_uneven_last_batch_is_neither_dropped_nor_padded(samples):
    last = list(samples.stream(seed=5, epoch=0, batch_size=16))[-1]
    assert last.x.shape == (ROWS % 16, COLUMNS)
    assert (last.size, last.total) == (7, 7)


@pytest.mark.parametrize("world", [2, 3, 8])
def test_workers_share_each_step_of_one_worker(samples, world):
    alone = list(samples.stream(seed=5, epoch=0, batch_size=16))
    together = [list(samples.stream(seed=5, epoch=0, batch_size=16, rank=r, world=world)) for r in range(world)]
    for step, batch in enumerate(alone):
        rows = torch.cat([mine[step].y[: mine[step].size] for mine in together])
        assert torch.equal(rows, batch.y)
        assert sum(mine[step].size for mine in together) == batch.total
        assert {mine[step].total for mine in together} == {batch.total}


def test_a_worker_without_a_sample_gets_a_row_and_size_0(samples):
    last = [list(samples.stream(seed=5, epoch=0, batch_size=16, rank=r, world=8))[-1] for r in range(8)]
    assert [b.size for b in last] == [1, 1, 1, 1, 1, 1, 1, 0]
    assert all(len(b.x) == 1 and b.total == 7 for b in last)


def test_accumulated_parts_make_up_the_step(samples):
    alone = list(samples.stream(seed=5, epoch=0, batch_size=16))
    parts = list(samples.stream(seed=5, epoch=0, batch_size=16, accumulate=3))
    assert len(parts) == 3 * len(alone)
    for step, batch in enumerate(alone):
        mine = parts[3 * step : 3 * step + 3]
        assert torch.equal(torch.cat([p.y for p in mine]), batch.y)
        assert all(p.total == batch.total for p in mine)


def test_a_resumed_stream_is_the_tail(samples):
    whole = list(samples.stream(seed=5, epoch=1, batch_size=16))
    tail = list(samples.stream(seed=5, epoch=1, batch_size=16, start=4))
    assert [b.y.tolist() for b in tail] == [b.y.tolist() for b in whole[4:]]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_sequential_gives_every_row_once_in_order_and_as_many_batches_to_all(samples, world):
    found = [list(samples.sequential(batch_size=10, rank=r, world=world)) for r in range(world)]
    assert len({len(mine) for mine in found}) == 1
    rows = [i for step in zip(*found, strict=True) for b in step for i in b.y[: b.size].tolist()]
    assert rows == list(range(ROWS))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_chunks_are_each_workers_share_as_numpy(samples, world):
    found = [chunk for r in range(world) for chunk in samples.chunks(rank=r, world=world, rows=20)]
    assert np.concatenate([y for _, y in found]).tolist() == list(range(ROWS))
    assert all(x.dtype == np.float32 and len(x) <= 20 for x, _ in found)


def test_samples_without_a_label_have_no_y():
    samples = InMemory(torch.zeros(5, 2), None)
    assert [b.y for b in samples.stream(seed=0, epoch=0, batch_size=2)] == [None] * 3
    assert [y for _, y in samples.chunks()] == [None]
