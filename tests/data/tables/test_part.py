import numpy as np
import pytest

from trainer.data.tables.order import BLOCK
from trainer.data.tables.part import Part


def members(part):
    """The rows of a part in the whole set."""
    found = []
    for block in range(part.blocks):
        local = part.local(block)
        size = min(BLOCK, part.of - block * BLOCK)
        found += [block * BLOCK + int(i) for i in (range(size) if local is None else local)]
    return found


@pytest.mark.parametrize("rows", [2, 10, 1797, BLOCK, BLOCK + 1, 3 * BLOCK + 500])
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_a_split_is_exact_and_leaves_no_row_out(rows, fraction):
    train, held = Part(rows, 3, fraction), Part(rows, 3, fraction, held_out=True)
    a, b = members(train), members(held)
    assert sorted(a + b) == list(range(rows))
    assert (len(a), len(b)) == (train.rows, held.rows)
    assert min(len(a), len(b)) >= 1
    expected = sum(max(1, round(fraction * min(BLOCK, rows - i))) for i in range(0, rows, BLOCK))
    assert abs(len(b) - expected) <= 1


def test_every_full_block_gives_as_many_rows():
    held = Part(2 * BLOCK, 3, 0.1, held_out=True)
    assert len(held.local(0)) == len(held.local(1)) == held.per_block == round(BLOCK * 0.1)


def test_the_split_depends_on_the_seed_alone():
    assert (Part(500, 1, 0.2).local(0) == Part(500, 1, 0.2).local(0)).all()
    assert not np.array_equal(Part(500, 1, 0.2).local(0), Part(500, 2, 0.2).local(0))


def test_without_a_fraction_all_rows_are_in_it():
    assert members(Part(10)) == list(range(10))
