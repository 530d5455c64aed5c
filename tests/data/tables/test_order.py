import numpy as np
import pytest

from trainer.data.tables.order import Order, plan, share


def batches(rows, batch_size, *, world=1, accumulate=1, parts=None, start=0, group=3, ids=None):
    """Each worker's batches: [rank][step·part] → (ids that count, total)."""
    ids = ids or Order(rows, seed=7).epoch(0)
    result = []
    for rank in range(world):
        mine = []
        for steps in plan(
            ids,
            rows,
            batch_size,
            rank=rank,
            world=world,
            accumulate=accumulate,
            parts=parts,
            start=start,
            group=group,
        ):
            at = 0
            for length, size in zip(steps.lengths, steps.sizes, strict=True):
                assert length == max(1, size)
                mine.append((steps.ids[at : at + size].tolist(), steps.total))
                at += length
            assert at == len(steps.ids)
        result.append(mine)
    return result


@pytest.mark.parametrize(("rows", "window"), [(100, 1 << 40), (1000, 120), (997, 64)])
def test_an_epoch_visits_every_row_exactly_once(rows, window):
    ids = Order(rows, seed=1, per_block=30, window=window).epoch(3)
    assert sorted(ids(0, rows).tolist()) == list(range(rows))


def test_the_order_depends_on_seed_and_epoch_and_not_on_how_it_is_asked_for():
    order = Order(1000, seed=1, per_block=30, window=120)
    whole = order.epoch(0)(0, 1000)
    ids = order.epoch(0)
    pieces = np.concatenate([ids(i, min(i + 77, 1000)) for i in range(0, 1000, 77)])
    assert (pieces == whole).all()
    assert (order.epoch(0)(500, 600) == whole[500:600]).all()
    assert (order.epoch(1)(0, 1000) != whole).any()
    assert (Order(1000, seed=2, per_block=30, window=120).epoch(0)(0, 1000) != whole).any()


def test_rows_of_a_window_are_mixed_and_windows_hold_whole_blocks():
    ids = Order(1000, seed=1, per_block=10, window=100).epoch(0)(0, 1000)
    first = ids[:100]
    assert len(set((first // 10).tolist())) == 10
    assert (np.sort(first) != first).any()


def test_shares_are_contiguous_and_near_equal():
    assert [share(10, r, 3) for r in range(3)] == [(0, 4), (4, 7), (7, 10)]


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_each_step_is_the_same_set_of_samples_with_any_number_of_workers(world, accumulate):
    rows, size = 103, 16
    order = Order(rows, seed=7).epoch(0)(0, rows)
    found = batches(rows, size, world=world, accumulate=accumulate)
    for step in range(7):
        parts = slice(step * accumulate, (step + 1) * accumulate)
        together = [i for mine in found for ids, _ in mine[parts] for i in ids]
        assert together == order[step * size : (step + 1) * size].tolist()
        assert {total for mine in found for _, total in mine[parts]} == {min(size, rows - step * size)}


def test_a_worker_without_a_row_gets_one_that_does_not_count():
    rows = 9  # the last step has one row for three workers
    found = batches(rows, 8, world=3)
    assert [len(mine[-1][0]) for mine in found] == [1, 0, 0]
    assert all(len(mine) == 2 for mine in found)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_resumed_epoch_equals_the_tail_of_a_whole_one(world):
    for start in (0, 2, 6, 7):
        whole = batches(103, 16, world=world)
        tail = batches(103, 16, world=world, start=start)
        assert tail == [mine[start:] for mine in whole]


def test_a_batch_larger_than_the_set_is_one_step_of_all_rows():
    [[(ids, total)]] = batches(5, 64)
    assert sorted(ids) == [0, 1, 2, 3, 4]
    assert total == 5


@pytest.mark.parametrize("parts", [5, 8, 16, 24])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_a_fixed_cut_has_the_same_parts_whoever_takes_them(world, parts):
    rows, size = 103, 16  # the last step has 7 rows, fewer than most cuts have parts
    order = Order(rows, seed=7).epoch(0)(0, rows).tolist()
    found = batches(rows, size, world=world, parts=parts)
    for step in range(7):
        mine = [share(parts, rank, world) for rank in range(world)]
        taken = [
            found[rank][step * (stop - start) + i][0]
            for rank, (start, stop) in enumerate(mine)
            for i in range(stop - start)
        ]
        whole = order[step * size : (step + 1) * size]
        assert taken == [whole[slice(*share(len(whole), part, parts))] for part in range(parts)]
    assert found[0][0][1] == size


@pytest.mark.parametrize("start", [0, 2, 6, 7])
def test_a_fixed_cut_goes_on_at_a_step(start):
    for whole, tail in zip(
        batches(103, 16, world=3, parts=8), batches(103, 16, world=3, parts=8, start=start), strict=True
    ):
        each = len(whole) // 7
        assert tail == whole[start * each :]
