"""A DeepSpeed config out of a job's: what the user gave, with `auto` filled in from the rest of the job's config."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import UserError

AUTO = "auto"
ALIGNED = 1024  # elements that a bucket is a multiple of: DeepSpeed asks for an even number


@dataclass(frozen=True)
class Facts:
    """What `auto` is filled in from beside the configs. steps: of the whole training, None if not known."""

    precision: str
    world_size: int
    parameters: int
    steps: int | None
    optimizer: Mapping[str, Any]  # the defaults of the algorithm's own


def complete(strategy: Mapping[str, Any], train: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """The config that DeepSpeed is given.

    What `strategy.config_file` and `strategy.config` say stands, the latter over the former; what they leave out, or
    leave to `auto`, comes from the job. Raises UserError where they contradict it, as batches and precision may.
    """
    config = _file(strategy["config_file"])
    _merge(config, strategy["config"])
    for section, keys in _from_job(strategy, train, facts).items():
        if not isinstance(keys, dict):
            _fill(config, section, keys, section)
            continue
        node = config.setdefault(section, {})
        if not isinstance(node, dict):
            raise UserError(f"strategy.config.{section}: {node!r} is not a group of settings")
        for key, value in keys.items():
            _fill(node, key, value, f"{section}.{key}")
    for section, keys in _parameters(facts).items():
        for key, value in config.get(section, {}).get("params", {}).items():
            if value == AUTO and key in keys:
                config[section]["params"][key] = keys[key]
    _drop_auto(config)
    return config


def _parameters(facts: Facts) -> dict[str, dict[str, Any]]:
    """What an optimizer and a scheduler that DeepSpeed makes itself are told where they are left to `auto`."""
    return {
        "optimizer": dict(facts.optimizer),
        "scheduler": {
            "warmup_min_lr": 0.0,
            "warmup_max_lr": facts.optimizer.get("lr"),
            **({"total_num_steps": facts.steps} if facts.steps else {}),
        },
    }


def _from_job(strategy: Mapping[str, Any], train: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    parts = train["gradient_accumulation"]
    micro = -(-train["batch_size"] // (facts.world_size * parts))
    # DeepSpeed makes its buckets of the size that it is told, however small the model is
    bucket = _Default(min(500_000_000, -(-facts.parameters // ALIGNED) * ALIGNED))
    zero: dict[str, Any] = {
        "stage": strategy["stage"],
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
    }
    if strategy["offload_optimizer"]:
        zero["offload_optimizer"] = {"device": "cpu"}
    if strategy["offload_parameters"]:
        zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": parts,
        "train_batch_size": micro * parts * facts.world_size,
        "gradient_clipping": float(train["gradient_clip"] or 0.0),
        "zero_optimization": zero,
        "bf16": {"enabled": facts.precision == "bf16"},
        "fp16": {"enabled": facts.precision == "fp16"},
        # the algorithm's own optimizer is used whatever it is, on the CPU too
        "zero_allow_untested_optimizer": _Default(True),
        "zero_force_ds_cpu_optimizer": _Default(False),
    }


class _Default:
    """A value that the user may change freely."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _fill(node: dict[str, Any], key: str, value: Any, path: str) -> None:
    given = node.get(key, AUTO)
    if isinstance(value, _Default):
        node[key] = value.value if given == AUTO else given
    elif given == AUTO:
        node[key] = value
    elif isinstance(given, dict) and isinstance(value, dict):
        node[key] = {**value, **given}
    elif given != value:
        raise UserError(
            f"strategy.config.{path}: {given!r} contradicts the job's own {value!r} ({SOURCES.get(path, path)}); "
            f"leave it out or set it to auto"
        )


SOURCES = {
    "train_micro_batch_size_per_gpu": "train.batch_size over workers and train.gradient_accumulation",
    "gradient_accumulation_steps": "train.gradient_accumulation",
    "train_batch_size": "train.batch_size",
    "gradient_clipping": "train.gradient_clip",
    "zero_optimization.stage": "strategy.stage",
    "zero_optimization.offload_optimizer": "strategy.offload_optimizer",
    "zero_optimization.offload_param": "strategy.offload_parameters",
    "bf16.enabled": "train.precision",
    "fp16.enabled": "train.precision",
}


def _file(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"strategy.config_file: {path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"strategy.config_file: {path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"strategy.config_file: {path} holds a {type(found).__name__} instead of settings by name")
    return copy.deepcopy(found)


def _merge(into: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = copy.deepcopy(dict(value)) if isinstance(value, Mapping) else value


def _drop_auto(node: dict[str, Any]) -> None:
    """What is left to `auto` and nothing of the job says is left to DeepSpeed's own defaults."""
    for key in list(node):
        if node[key] == AUTO:
            del node[key]
        elif isinstance(node[key], dict):
            _drop_auto(node[key])
