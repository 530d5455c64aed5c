"""A DeepSpeed config as users know it: what they give stands, `auto` is filled in, contradictions are said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from trainer.config.schema import StrategyConfig, TrainConfig
from trainer.errors import UserError
from trainer.worker.strategy.deepspeed_config import Facts, complete

FACTS = Facts("fp32", 4, 1_000_000, 500, {"lr": 0.003, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1})


def config_of(
    config: dict[str, Any] | None = None, facts: Facts = FACTS, train: dict[str, Any] | None = None, **strategy: Any
) -> dict[str, Any]:
    options = dataclasses.asdict(StrategyConfig(name="deepspeed", config=config or {}, **strategy))
    return complete(options, {**dataclasses.asdict(TrainConfig(batch_size=64)), **(train or {})}, facts)


def test_without_a_config_all_comes_from_the_job() -> None:
    found = config_of(stage=3, train={"gradient_accumulation": 2, "gradient_clip": 0.5})
    assert found["zero_optimization"]["stage"] == 3
    assert found["train_micro_batch_size_per_gpu"] == 8
    assert found["gradient_accumulation_steps"] == 2
    assert found["train_batch_size"] == 64
    assert found["gradient_clipping"] == 0.5
    assert not found["bf16"]["enabled"]
    assert not found["fp16"]["enabled"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_precision_is_the_jobs(precision: str) -> None:
    found = config_of(facts=dataclasses.replace(FACTS, precision=precision))
    assert found[precision]["enabled"]


def test_keys_of_deepspeed_are_passed_on_beside_the_jobs() -> None:
    found = config_of(
        {"zero_optimization": {"overlap_comm": False, "reduce_bucket_size": 1000}, "wall_clock_breakdown": True}
    )
    assert found["zero_optimization"] == {
        "overlap_comm": False,
        "reduce_bucket_size": 1000,
        "allgather_bucket_size": 1_000_448,
        "stage": 2,
    }
    assert found["wall_clock_breakdown"] is True


def test_offloading_is_a_setting_whose_details_may_be_given() -> None:
    found = config_of({"zero_optimization": {"offload_optimizer": {"pin_memory": True}}}, offload_optimizer=True)
    assert found["zero_optimization"]["offload_optimizer"] == {"device": "cpu", "pin_memory": True}


def test_auto_in_a_file_is_filled_in_and_overrides_change_the_file(tmp_path: Path) -> None:
    file = tmp_path / "zero.json"
    content = {
        "train_batch_size": "auto",
        "gradient_accumulation_steps": "auto",
        "bf16": {"enabled": "auto"},
        "zero_optimization": {"stage": "auto", "reduce_bucket_size": "auto", "stage3_max_live_parameters": "auto"},
        "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": 1e-6}},
        "scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto", "warmup_max_lr": "auto"}},
        "steps_per_print": 10,
    }
    file.write_text(json.dumps(content))
    found = config_of({"steps_per_print": 100}, config_file=str(file), stage=1)
    assert found["train_batch_size"] == 64
    assert found["zero_optimization"]["stage"] == 1
    assert found["zero_optimization"]["reduce_bucket_size"] == 1_000_448
    assert "stage3_max_live_parameters" not in found["zero_optimization"]  # DeepSpeed has its own default
    assert found["optimizer"]["params"] == {"lr": 0.003, "betas": (0.9, 0.95), "eps": 1e-6}
    assert found["scheduler"]["params"] == {"total_num_steps": 500, "warmup_max_lr": 0.003}
    assert found["steps_per_print"] == 100


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"train_batch_size": 128}, r"strategy\.config\.train_batch_size: 128 contradicts .* 64 \(train\.batch_size\)"),
        ({"zero_optimization": {"stage": 3}}, r"zero_optimization\.stage: 3 contradicts .* 2 \(strategy\.stage\)"),
        ({"bf16": {"enabled": True}}, r"bf16\.enabled: True contradicts .* False \(train\.precision\)"),
        ({"gradient_clipping": 1.0}, r"gradient_clipping: 1\.0 contradicts .* 0\.0 \(train\.gradient_clip\)"),
        ({"fp16": True}, r"fp16: True is not a group of settings"),
    ],
)
def test_what_contradicts_the_job_is_said_with_where_to_set_it(config: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        config_of(config)


@pytest.mark.parametrize(("text", "words"), [("{", "is not JSON"), ("[1]", "holds a list instead of settings by name")])
def test_a_file_that_is_no_config_is_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "zero.json").write_text(text)
    with pytest.raises(UserError, match=words):
        config_of(config_file=str(tmp_path / "zero.json"))
