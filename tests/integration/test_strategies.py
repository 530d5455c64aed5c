"""A job that is spread over its workers loses nothing either: by the real command, interrupted, and under another strategy."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.integration.command import headway, start
from trainer.job import checkpoint
from trainer.job.directory import Job, State
from trainer.job.model import artifact
from trainer.worker.checkpointing.state import weights_in

pytest.importorskip("deepspeed")

COMMON = [
    "algorithm=gpt",
    "algorithm.layers=2",
    "algorithm.width=32",
    "algorithm.heads=2",
    "algorithm.context=32",
    "algorithm.dropout=0.1",
    "data=text",
    "train.batch_size=8",
    "train.max_steps=200",
    "train.log_every=10",
    "train.validate_every=100",
    "checkpoint.every=20",
    "launcher.workers=2",
    "tracking=none",
]
TEXT = "data.train=" + str(Path(__file__).parents[2] / "LICENSE")
SPREAD = {"fsdp": ["strategy=fsdp"], "zero 3": ["strategy=deepspeed", "strategy.stage=3"]}


def train(name: str, *more: str) -> Job:
    done = headway("train", *COMMON, TEXT, f"job.dir={name}", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    return Job(Path(name))


def interrupted(name: str, number: signal.Signals, *more: str) -> Job:
    """A job that got the signal, a worker or its agent, once it had made some steps."""
    process = start("train", *COMMON, TEXT, f"job.dir={name}", *more)
    job, end = Job(Path(name)), time.monotonic() + 600
    while not (job.state() is State.RUNNING and (job.progress() or {"step": 0})["step"] > 45):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)
    from trainer.job.directory import read_json

    node = read_json(job.logs / "node-0.json")
    assert node is not None
    os.kill(node["workers"][1] if number is signal.SIGKILL else node["agent"], number)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == (0 if number is signal.SIGKILL else 75), output
    return job


def reports(job: Job) -> list[dict[str, float]]:
    return [{k: v for k, v in line["values"].items() if not k.startswith("gpu/")} for line in job.metrics()]


def weights(job: Job) -> bytes:
    return (job.model / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "number"), list(zip(SPREAD, (signal.SIGTERM, signal.SIGKILL), strict=True)))
def test_a_spread_job_goes_on_bit_for_bit(folder: Path, name: str, number: signal.Signals) -> None:
    """After a worker's death without a word, and after a notice, on which all save and leave."""
    whole = train("whole", *SPREAD[name])
    job = interrupted("job", number, *SPREAD[name])
    if number is signal.SIGTERM:
        assert headway("resume", "job").returncode == 0
        [line] = (job.result() or {})["interruptions"]
        assert line["steps_lost"] == 0
    assert reports(job) == reports(whole)
    assert weights(job) == weights(whole)


@pytest.mark.slow
def test_a_job_goes_on_under_other_strategies_on_other_numbers_of_workers(folder: Path) -> None:
    whole = train("whole", "strategy=single", "launcher.workers=1", "algorithm.dropout=0.0")
    job = Job(Path("job"))
    turns = [("strategy=fsdp", 2), ("strategy=deepspeed", 1), ("strategy=ddp", 2), ("strategy=single", 1)]
    for i, (strategy, workers) in enumerate(turns):
        last = i == len(turns) - 1
        more = [strategy, f"launcher.workers={workers}", "algorithm.dropout=0.0"]
        if last:
            done = headway("resume", "job", "strategy=single", "launcher.workers=1")
            assert done.returncode == 0, done.stdout + done.stderr
            break
        process = start("train", *COMMON, TEXT, "job.dir=job", *more)
        end = time.monotonic() + 600
        while not checkpoint.listing(job.checkpoints) or (
            checkpoint.step_of(checkpoint.listing(job.checkpoints)[-1]) < 40 * (i + 1)
        ):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 130, output
    used = [e["strategy"] for e in job.events() if e["state"] == State.RUNNING.value]
    assert used == ["fsdp", "deepspeed, stage 2", "ddp", "single"]
    losses, expected = ([v["train_loss"] for v in reports(j) if "train_loss" in v] for j in (job, whole))
    np.testing.assert_allclose(losses, expected, rtol=1e-3)


@pytest.mark.promise
@pytest.mark.slow
def test_a_model_that_was_spread_predicts_like_any(folder: Path) -> None:
    job = train("job", "strategy=fsdp", "train.max_steps=20", "train.ema=0.9")
    done = headway("predict", f"model={job.model}", "prompt=The", "+generate.tokens=5")
    assert done.returncode == 0, done.stderr
    loaded = artifact.load(job.model)
    assert sum(p.numel() for p in loaded.network.parameters()) > 0


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["strategy=fsdp", "strategy.stage=3"],
            "strategy.stage: fsdp has no such setting; it is one of strategy=deepspeed",
        ),
        (["strategy=deepspeed", "strategy.stage=4"], "strategy.stage: 4 is not a ZeRO stage; choose 0, 1, 2 or 3"),
        (["strategy=deepspeed", "strategy.config_file=none.json"], "strategy.config_file: there is no file"),
        (["strategy=fsdp", "train.elastic=exact"], "train.elastic=exact needs the whole model on every worker"),
        (["train.precision=fp8"], "train.precision: 'fp8' is not a choice; there is auto, bf16, fp16, fp32, tf32"),
        (["train.ema=2"], "train.ema: 2.0 is not between 0 and 1"),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(folder: Path, overrides: list[str], words: str) -> None:
    done = headway("train", *COMMON, TEXT, "job.dir=job", *overrides)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not Path("job").exists()


@pytest.mark.slow
def test_a_spread_model_whose_loss_is_no_number_keeps_its_whole_checkpoints(folder: Path) -> None:
    """The worker that finds it holds a part of the model only, which is no checkpoint."""
    more = ["strategy=fsdp", "algorithm.lr=1e30", "algorithm.warmup=0", "checkpoint.every=1"]
    done = headway("train", *COMMON, TEXT, "job.dir=job", *more)
    assert done.returncode == 1
    assert "the loss became" in done.stdout + done.stderr
    assert "the newest checkpoint is from before it" in done.stdout + done.stderr
    for folder_of in checkpoint.listing(Path("job/checkpoints")):
        assert weights_in(folder_of, checkpoint.read_manifest(folder_of))


@pytest.mark.slow
def test_a_deepspeed_config_that_contradicts_the_job_is_said(folder: Path) -> None:
    done = headway("train", *COMMON, TEXT, "job.dir=job", "strategy=deepspeed", "+strategy.config.train_batch_size=77")
    assert done.returncode == 2
    assert "strategy.config.train_batch_size: 77 contradicts the job's own 8" in done.stdout + done.stderr
