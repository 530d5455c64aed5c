"""Checkpoints are written beside the steps, whole or not at all, whatever the disk and the other workers do."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.worker.threads import together, workers
from trainer.errors import HeadwayError
from trainer.job import checkpoint
from trainer.worker.checkpointing import saver as module
from trainer.worker.checkpointing import shards
from trainer.worker.checkpointing.saver import ESTIMATOR, Saver, Snapshot
from trainer.worker.distributed.ranks import Ranks


def make(root: Path, ranks: Ranks | None = None, told: Callable[[], None] = lambda: None, keep: int = 2) -> Saver:
    return Saver(root, ranks or Ranks(), "0", checkpoint.Retention(keep), told)


def weights(value: float) -> dict[str, Tensor]:
    return {"a": torch.full((8,), value), "b": torch.full((4, 4), value), "step": torch.tensor(value)}


def read(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, verified."""
    reading = shards.Reading()
    for name, line in checkpoint.read_manifest(folder)["files"].items():
        if name.endswith(".safetensors"):
            shards.read(folder / name, line, reading)
    return reading.tensors()


def holds(folder: Path | None, value: float) -> bool:
    assert folder is not None
    found = read(folder)
    return set(found) == {"a", "b", "step"} and all(bool((t == value).all()) for t in found.values())


class Slow:
    """Holds up the writing of shards until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_go_on, self.began, self.at_once, self.most = threading.Event(), threading.Event(), 0, 0
        real = shards.write

        def write(*arguments: Any) -> Any:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            self.began.set()
            assert self.may_go_on.wait(600)
            self.at_once -= 1
            return real(*arguments)

        monkeypatch.setattr(module.shards, "write", write)


def break_the_disk(monkeypatch: pytest.MonkeyPatch, only: Callable[[Path], bool] = lambda path: True) -> None:
    real = shards.write

    def write(path: Path, *arguments: Any) -> Any:
        if only(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *arguments)

    monkeypatch.setattr(module.shards, "write", write)


def test_a_save_holds_the_state_of_its_step_though_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, saver, tensors = Slow(monkeypatch), make(tmp_path), weights(1)
    saver.take(10, tensors, {"training.pt": b"small"}, {"samples": 320})
    assert slow.began.wait(600)
    assert saver.busy  # the step goes on before anything is on the disk
    assert checkpoint.newest(tmp_path).checkpoint is None
    for tensor in tensors.values():
        tensor.fill_(2)
    slow.may_go_on.set()
    saver.finish()
    folder = checkpoint.newest(tmp_path).checkpoint
    assert holds(folder, 1)
    assert folder is not None
    assert (folder / "training.pt").read_bytes() == b"small"
    assert checkpoint.read_manifest(folder)["samples"] == 320
    assert not saver.busy
    assert saver.saved == 10


def test_at_most_one_is_in_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next waits for it, and loses nothing of it."""
    slow, saver = Slow(monkeypatch), make(tmp_path)
    saver.take(10, weights(1), {}, {})
    assert slow.began.wait(600)
    threading.Timer(0.1, slow.may_go_on.set).start()
    saver.take(20, weights(2), {}, {})
    saver.finish()
    assert slow.most == 1
    assert holds(checkpoint.folder(tmp_path, 10), 1)
    assert holds(checkpoint.folder(tmp_path, 20), 2)


def test_memory_prepared_beside_the_steps_is_used(tmp_path: Path) -> None:
    saver, tensors = make(tmp_path), weights(1)
    saver.prepare(tensors)
    saver.wait()
    assert checkpoint.listing(tmp_path) == []
    saver.take(10, tensors, {}, {})
    saver.finish()
    assert holds(checkpoint.newest(tmp_path).checkpoint, 1)


def test_what_is_not_contiguous_is_saved_as_it_looks(tmp_path: Path) -> None:
    saver, turned = make(tmp_path), torch.arange(6.0).reshape(2, 3).t()
    saver.take(10, {"t": turned}, {}, {})
    saver.finish()
    assert torch.equal(read(checkpoint.folder(tmp_path, 10))["t"], turned)


def test_older_ones_are_deleted(tmp_path: Path) -> None:
    saver = make(tmp_path, keep=2)
    for step in (10, 20, 30):
        saver.take(step, weights(step), {}, {})
    saver.finish()
    assert [checkpoint.step_of(c) for c in checkpoint.listing(tmp_path)] == [20, 30]


def test_a_full_disk_keeps_the_one_before_and_the_next_may_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saver = make(tmp_path)
    saver.take(10, weights(1), {}, {})
    saver.wait()
    with monkeypatch.context() as broken:
        break_the_disk(broken)
        saver.take(20, weights(2), {}, {})
        saver.wait()
    assert saver.failed is not None
    assert saver.failures == 1
    assert "step 20 could not be written" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000010"]  # nothing half
    assert holds(checkpoint.newest(tmp_path).checkpoint, 1)
    saver.take(30, weights(3), {}, {})
    saver.finish()
    assert saver.failed is None
    assert holds(checkpoint.newest(tmp_path).checkpoint, 3)


def test_who_leaves_is_told_that_the_state_was_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = make(tmp_path)
    break_the_disk(monkeypatch)
    saver.take(10, weights(1), {}, {})
    with pytest.raises(OSError, match="No space left"):
        saver.finish()


def test_a_state_of_any_type_is_saved_or_it_is_said_that_it_can_not_be(tmp_path: Path) -> None:
    """A model may hold a buffer of complex numbers: rotary positions often are."""
    saver = make(tmp_path)
    tensors = {"a": torch.ones(3), "rotary": torch.polar(torch.ones(4), torch.arange(4.0))}
    try:
        saver.take(10, tensors, {}, {})
        saver.finish()
    except (OSError, HeadwayError):
        return
    folder = checkpoint.newest(tmp_path).checkpoint
    assert folder is not None, "no checkpoint, and nobody was told"
    assert torch.equal(read(folder)["rotary"], tensors["rotary"])


def test_whatever_keeps_one_worker_from_writing_the_others_learn_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None may wait for ever for a part that never comes."""
    real = shards.write

    def write(path: Path, *arguments: Any) -> Any:
        if path.name.startswith("shard-00001"):
            raise KeyError("torch.complex64")
        return real(path, *arguments)

    monkeypatch.setattr(module.shards, "write", write)

    def work(ranks: Ranks) -> bool:
        saver = make(tmp_path, ranks)
        saver.take(10, weights(1), {}, {})
        assert saver._thread
        saver._thread.join(5)
        return saver.busy

    assert together(workers(2), work) == [False, False]


def test_a_failed_deletion_of_older_ones_does_not_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def retain(*arguments: Any, **more: Any) -> None:
        raise PermissionError("Permission denied")

    monkeypatch.setattr(module.checkpoint, "retain", retain)
    saver = make(tmp_path)
    saver.take(10, weights(1), {}, {})
    saver.finish()
    assert holds(checkpoint.newest(tmp_path).checkpoint, 1)
    assert "could not be deleted" in capsys.readouterr().out


def test_a_long_write_shows_signs_of_life(tmp_path: Path) -> None:
    signs: list[int] = []
    saver = make(tmp_path, told=lambda: signs.append(1))
    saver.take(10, {"a": torch.zeros(3 * checkpoint.BLOCK // 4 + 1)}, {}, {})
    saver.finish()
    assert len(signs) >= 4


def test_an_estimators_files_are_part_of_the_checkpoint(tmp_path: Path) -> None:
    saved = tmp_path / ".estimator"
    (saved / "trees").mkdir(parents=True)
    (saved / "trees/model.json").write_text("{}")
    saver = make(tmp_path)
    saver.write(Snapshot(10, small={"context.pt": b"x"}, folder=saved))
    saver.finish()
    folder = checkpoint.folder(tmp_path, 10)
    assert (folder / ESTIMATOR / "trees/model.json").read_text() == "{}"
    assert set(checkpoint.read_manifest(folder)["files"]) == {"context.pt", "estimator/trees/model.json"}
    assert checkpoint.problem(folder) is None
    assert not saved.exists()


@pytest.mark.parametrize("world", [2, 3, 5])
def test_several_workers_write_one_checkpoint_a_share_each(tmp_path: Path, world: int) -> None:
    def work(ranks: Ranks) -> list[str]:
        saver = make(tmp_path, ranks)
        for step in (10, 20):
            saver.take(step, weights(step), {f"rank-{ranks.rank}.pt": b"own"}, {})
        saver.finish()
        return saver.share(weights(0))

    shares = together(workers(world), work)
    assert sorted(name for share in shares for name in share) == ["a", "b", "step"]
    for step in (10, 20):
        folder = checkpoint.folder(tmp_path, step)
        assert checkpoint.problem(folder) is None
        assert holds(folder, step)
        manifest = checkpoint.read_manifest(folder)
        assert manifest["workers"] == world
        assert sum(name.startswith("rank-") for name in manifest["files"]) == world


def test_nothing_is_committed_before_the_last_worker_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, real = threading.Event(), shards.write

    def write(path: Path, *arguments: Any) -> Any:
        if path.name.startswith("shard-00001"):
            assert slow.wait(600)
        return real(path, *arguments)

    monkeypatch.setattr(module.shards, "write", write)

    def work(ranks: Ranks) -> None:
        saver = make(tmp_path, ranks)
        saver.take(10, weights(1), {}, {})
        if ranks.rank == 0:
            assert saver._thread
            saver._thread.join(0.3)
            assert checkpoint.listing(tmp_path) == []
            slow.set()
        saver.finish()

    together(workers(2), work)
    assert holds(checkpoint.newest(tmp_path).checkpoint, 1)


@pytest.mark.parametrize("broken", [0, 1])
def test_a_worker_that_cannot_write_its_share_keeps_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    """And all are told; the next save may succeed."""
    places = workers(2)
    savers = [make(tmp_path, place) for place in places]

    def save(step: int) -> Callable[[Ranks], None]:
        def work(ranks: Ranks) -> None:
            savers[ranks.rank].take(step, weights(step), {}, {})
            savers[ranks.rank].wait()

        return work

    together(places, save(10))
    with monkeypatch.context() as disk:
        break_the_disk(disk, lambda path: path.name.startswith(f"shard-0000{broken}"))
        together(places, save(20))

        def leave(ranks: Ranks) -> str:
            with pytest.raises((OSError, HeadwayError)) as raised:
                savers[ranks.rank].finish()
            return str(raised.value)

        assert all("No space left" in words for words in together(places, leave))
    found = checkpoint.newest(tmp_path)
    assert found == checkpoint.Found(checkpoint.folder(tmp_path, 10))
    together(places, save(30))
    together(places, lambda ranks: savers[ranks.rank].finish())
    assert holds(checkpoint.newest(tmp_path).checkpoint, 30)


def test_a_checkpoint_just_written_is_not_deleted_for_one_that_was_passed_over(tmp_path: Path) -> None:
    """The newest has a flipped bit, its size is right: the job went on from before it, or from the beginning."""
    saver = make(tmp_path, keep=1)
    saver.take(50, weights(1), {}, {})
    saver.finish()
    shard = next(checkpoint.folder(tmp_path, 50).glob("*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    assert checkpoint.newest(tmp_path).checkpoint is None
    again = Saver(tmp_path, Ranks(), "1", checkpoint.Retention(1), lambda: None)
    again.take(25, weights(2), {}, {})
    again.finish()
    assert holds(checkpoint.newest(tmp_path).checkpoint, 2)


def test_of_a_spread_model_each_writes_its_own_parts_and_the_first_what_is_whole(tmp_path: Path) -> None:
    whole = torch.arange(10.0)

    def work(ranks: Ranks) -> list[str]:
        saver = make(tmp_path, ranks)
        saver.spread = True
        start, stop = (0, 6) if ranks.rank == 0 else (6, 10)
        tensors: dict[str, shards.Held] = {
            "step": torch.tensor(3.0),
            "w": shards.Part((2, 5), start, whole[start:stop]),
        }
        saver.take(10, tensors, {}, {})
        saver.finish()
        return saver.share(tensors)

    assert together(workers(2), work) == [["w", "step"], ["w"]]
    found = read(checkpoint.folder(tmp_path, 10))
    assert found["w"].reshape(-1).tolist() == whole.tolist()
    assert found["step"] == 3


def test_of_running_statistics_the_first_workers_are_kept(tmp_path: Path) -> None:
    """Each has its own; when the job goes on, those of the first are handed on as they would have been."""

    def work(ranks: Ranks) -> None:
        saver = make(tmp_path, ranks)
        saver.first = frozenset({"mean"})
        saver.take(10, {"big": torch.zeros(100), "mean": torch.full((3,), float(ranks.rank))}, {}, {})
        saver.finish()

    together(workers(2), work)
    assert read(checkpoint.folder(tmp_path, 10))["mean"].tolist() == [0, 0, 0]
