"""Every way of damaging a checkpoint is one that is found."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.job import checkpoint
from trainer.testing.chaos import disks
from trainer.testing.chaos.schedule import KINDS

MIB = 1 << 20


def make(root: Path, step: int = 40) -> Path:
    place = checkpoint.begin(root, step)
    for i in range(3):
        (place / f"shard-{i}").write_bytes(os.urandom(1000))
    return checkpoint.commit(root, step, "", {f"shard-{i}": checkpoint.entry(place / f"shard-{i}") for i in range(3)})


@pytest.mark.parametrize("how", sorted(set(KINDS["corrupt"].options["how"]) - {"flip-manifest"}))
@pytest.mark.parametrize("draw", [0.0, 0.4, 0.999])
def test_a_damaged_checkpoint_is_found_to_be_damaged(how: str, draw: float, tmp_path: Path) -> None:
    folder = make(tmp_path)
    assert checkpoint.problem(folder) is None
    assert disks.damage(folder, how, draw)
    assert checkpoint.problem(folder) is not None


def test_a_bit_of_a_manifest_is_flipped(tmp_path: Path) -> None:
    folder = make(tmp_path)
    before = (folder / checkpoint.MANIFEST).read_bytes()
    disks.damage(folder, "flip-manifest", 0.3)
    after = (folder / checkpoint.MANIFEST).read_bytes()
    assert sum((a ^ b).bit_count() for a, b in zip(before, after, strict=True)) == 1


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MiB."""
    place = tmp_path / "disk"
    try:
        disks.small_disk(place, MIB)
    except OSError as error:
        pytest.skip(str(error))
    yield place
    disks.take_away(place)
    assert not place.exists()


def test_a_full_disk_takes_nothing_more_and_then_again(disk: Path) -> None:
    with disks.full(disk), pytest.raises(OSError, match="No space") as raised:
        (disk / "file").write_bytes(b"x" * 10_000)
    assert raised.value.errno == errno.ENOSPC
    (disk / "file").write_bytes(b"x" * 10_000)


def test_a_folder_becomes_read_only_and_writable_again_with_files_open_in_it(disk: Path) -> None:
    folder = disk / "checkpoints"
    folder.mkdir()
    with open(folder / "open", "wb") as file:
        with disks.read_only(folder):
            with pytest.raises(OSError, match="Read-only") as raised:
                (folder / "new").write_bytes(b"x")
            file.write(b"x")
        assert raised.value.errno == errno.EROFS
        (folder / "new").write_bytes(b"x")
