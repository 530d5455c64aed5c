"""A checkpoint is whole or it does not exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer import checkpoint


def write(root: Path, step: int, text: str = "weights") -> Path:
    place = checkpoint.begin(root, step)
    (place / "model.safetensors").write_text(text)
    (place / "rank-0.pt").write_text("random numbers")
    return checkpoint.commit(root, step)


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
    (checkpoint.begin(tmp_path, 20) / "model.safetensors").write_text("half")
    assert checkpoint.newest(tmp_path).checkpoint == older
    assert checkpoint.newest(tmp_path).passed_over == []
    assert checkpoint.newest(tmp_path).checkpoint == older
    assert write(tmp_path, 20) == checkpoint.newest(tmp_path).checkpoint


def test_retention_keeps_the_newest(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        write(tmp_path, step)
    checkpoint.retain(tmp_path, 2)
    assert [checkpoint.step_of(c) for c in checkpoint.listing(tmp_path)] == [2, 10]


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "none").checkpoint is None
