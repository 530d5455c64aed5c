"""A checkpoint is whole or it does not exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.job import checkpoint


def write(root: Path, step: int, text: str = "weights", tag: str = "0", **metrics: float) -> Path:
    place = checkpoint.begin(root, step, tag)
    (place / "model.safetensors").write_text(text)
    (place / "rank-0.pt").write_text("random numbers")
    files = {path.name: checkpoint.entry(path) for path in place.iterdir()}
    return checkpoint.commit(root, step, tag, files, {"metrics": metrics})


def test_a_committed_checkpoint_is_whole(tmp_path: Path) -> None:
    target = write(tmp_path, 1200)
    assert target.name == "step-00001200"
    assert checkpoint.problem(target) is None
    assert checkpoint.newest(tmp_path).checkpoint == target
    assert [p.name for p in tmp_path.iterdir()] == ["step-00001200"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda c: (c / "model.safetensors").write_text("weightz"), "another checksum"),
        (lambda c: (c / "model.safetensors").write_text("weigh"), "5 bytes instead of 7"),
        (lambda c: (c / "rank-0.pt").unlink(), "rank-0.pt is missing"),
        (lambda c: (c / "manifest.json").unlink(), "no manifest"),
        (lambda c: (c / "manifest.json").write_text('{"step"'), "manifest is damaged"),
        (lambda c: (c / "manifest.json").write_text("[]"), "manifest is damaged"),
    ],
)
def test_a_damaged_one_is_passed_over_for_the_one_before(tmp_path: Path, damage, reason: str) -> None:  # type: ignore[no-untyped-def]
    older, newer = write(tmp_path, 10), write(tmp_path, 20)
    damage(newer)
    found = checkpoint.newest(tmp_path)
    assert found.checkpoint == older
    [(passed_over, why)] = found.passed_over
    assert passed_over == newer
    assert reason in why


def test_one_being_written_does_not_exist_yet(tmp_path: Path) -> None:
    place = checkpoint.begin(tmp_path, 10)
    (place / "model.safetensors").write_text("half")
    assert checkpoint.newest(tmp_path).checkpoint is None
    assert checkpoint.listing(tmp_path) == []


def test_a_crash_while_writing_leaves_the_one_before_and_can_be_tried_again(tmp_path: Path) -> None:
    older = write(tmp_path, 10)
    (checkpoint.begin(tmp_path, 20, "0") / "model.safetensors").write_text("half")
    assert checkpoint.newest(tmp_path) == checkpoint.Found(older)
    assert write(tmp_path, 20, tag="1") == checkpoint.newest(tmp_path).checkpoint
    checkpoint.clear_partial(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000020"]


def test_a_damaged_one_is_replaced_by_the_same_step_written_again(tmp_path: Path) -> None:
    damaged = write(tmp_path, 10)
    (damaged / "model.safetensors").write_text("weightz")
    write(tmp_path, 10, tag="1")
    assert checkpoint.newest(tmp_path) == checkpoint.Found(damaged)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000010"]


def test_a_file_that_lost_bytes_before_the_commit_is_no_checkpoint(tmp_path: Path) -> None:
    place = checkpoint.begin(tmp_path, 10)
    (place / "model.safetensors").write_text("weights")
    files = {"model.safetensors": checkpoint.entry(place / "model.safetensors")}
    (place / "model.safetensors").write_text("w")
    with pytest.raises(OSError, match="1 bytes on the disk instead of 7"):
        checkpoint.commit(tmp_path, 10, "", files)
    assert checkpoint.newest(tmp_path).checkpoint is None


def steps(root: Path) -> list[int]:
    return [checkpoint.step_of(c) for c in checkpoint.listing(root)]


def test_retention_keeps_the_newest(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        write(tmp_path, step)
    checkpoint.retain(tmp_path, checkpoint.Retention(2))
    assert steps(tmp_path) == [2, 10]


def test_retention_keeps_the_best_beside_the_newest(tmp_path: Path) -> None:
    for step, loss in ((1, 0.5), (2, 0.1), (3, 0.9), (4, float("nan")), (5, 0.7)):
        write(tmp_path, step, validation_loss=loss)
    write(tmp_path, 6)
    checkpoint.retain(tmp_path, checkpoint.Retention(1, best=2))
    assert steps(tmp_path) == [1, 2, 6]
    checkpoint.retain(tmp_path, checkpoint.Retention(1, best=1, maximize=True))
    assert steps(tmp_path) == [1, 6]


def test_retention_never_deletes_the_last_whole_one(tmp_path: Path) -> None:
    """One that lost a shard replaces nothing."""
    write(tmp_path, 1)
    for step in (2, 3):
        (write(tmp_path, step) / "rank-0.pt").unlink()
    checkpoint.retain(tmp_path, checkpoint.Retention(1))
    assert checkpoint.step_of(checkpoint.newest(tmp_path).checkpoint or tmp_path) == 1


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "none").checkpoint is None


def test_another_jobs_checkpoint_becomes_ones_own_and_says_so(tmp_path: Path) -> None:
    source = write(tmp_path / "a", 20, loss=0.5)
    target = checkpoint.clone(source, tmp_path / "b", "trial 3")
    assert checkpoint.problem(target) is None
    assert checkpoint.read_manifest(target) == checkpoint.read_manifest(source) | {"origin": "trial 3"}
    assert "origin" not in checkpoint.read_manifest(source)
    assert (target / "model.safetensors").stat().st_ino == (source / "model.safetensors").stat().st_ino
    checkpoint.retain(tmp_path / "a", checkpoint.Retention(newest=1), write(tmp_path / "a", 30))
    assert not source.exists()  # the other job goes on, and deletes it
    assert checkpoint.problem(target) is None


def test_a_damaged_checkpoint_of_another_job_is_not_taken_over(tmp_path: Path) -> None:
    source = write(tmp_path / "a", 20)
    (source / "model.safetensors").write_text("weightz")
    with pytest.raises(ValueError, match=r"model\.safetensors is not what its manifest says"):
        checkpoint.clone(source, tmp_path / "b", "trial 3")
    assert list((tmp_path / "b").iterdir()) == []
