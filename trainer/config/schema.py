"""The configuration's schema, and what is checked across its fields before any worker starts.

`algorithm`, `data`, `launcher` and `tracking` name a class by `_target_`; their schema is its constructor. The rest is
the dataclasses here. Both are checked in the submitter, which imports nothing heavy for it.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.config import secret
from trainer.config.dump import dump as dump
from trainer.errors import DamagedFile, UserError, did_you_mean
from trainer.process import plain_file

PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16")
ELASTIC = ("fast", "exact")
ENCRYPTIONS = ("sse-s3", "sse-kms")
STRATEGIES = ("auto", "single", "ddp", "fsdp", "deepspeed")
# settings that only some strategies have
OF_STRATEGY = {
    "reshard_after_forward": ("fsdp",),
    "offload_parameters": ("fsdp", "deepspeed"),
    "offload_optimizer": ("deepspeed",),
    "stage": ("deepspeed",),
    "config": ("deepspeed",),
    "config_file": ("deepspeed",),
}
TARGETS = ("algorithm", "data", "launcher", "tracking")
PATHS = ("train", "validation", "test")


@dataclass(kw_only=True)
class EarlyStoppingConfig:
    metric: str = "validation_loss"
    patience: int | None = None
    min_delta: float = 0.0


@dataclass(kw_only=True)
class TrainConfig:
    epochs: float | None = None
    max_steps: int | None = None
    max_time: Any = None
    batch_size: Any = 32  # or "auto"
    gradient_accumulation: int = 1
    gradient_clip: float | None = None
    precision: str = "auto"
    compile: bool = False
    activation_checkpointing: bool = False
    ema: float | None = None
    validate_every: int | None = None
    log_every: int = 50
    elastic: str = "fast"
    profile: bool = False
    hang_timeout: Any = "10m"
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)


@dataclass(kw_only=True)
class StrategyConfig:
    name: str = "auto"
    reshard_after_forward: bool = True
    offload_parameters: bool = False
    offload_optimizer: bool = False
    stage: int = 2
    config: dict[str, Any] = field(default_factory=dict)
    config_file: str | None = None


@dataclass(kw_only=True)
class CheckpointConfig:
    every: Any = "auto"
    keep: int = 2
    keep_best: int = 0
    metric: str | None = None


@dataclass(kw_only=True)
class JobConfig:
    name: str | None = None
    dir: str | None = None
    encryption: str | None = None
    kms_key: str | None = None
    seed: int = 0
    private: bool = False
    detach: bool = False
    dry_run: bool = False


@dataclass(kw_only=True)
class Config:
    """The whole of a job's configuration, as `headway train --cfg job` shows it."""

    algorithm: Any = None
    data: Any = None
    train: TrainConfig = field(default_factory=TrainConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    launcher: Any = None
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: Any = None
    job: JobConfig = field(default_factory=JobConfig)


DEFAULT_EPOCHS = 40
DEEPEST = 100  # nodes in nodes, of a config's file


def seconds(value: Any, key: str) -> float | None:
    """A duration in seconds: a number, or text such as 90s, 30m, 2h, 1h30m, 1d. Raises UserError."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return float(value)
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    text = str(value).replace(" ", "")
    if re.fullmatch(r"(\d+(\.\d+)?[dhms])+", text):
        total = sum(float(n) * units[u] for n, u in re.findall(r"(\d+(?:\.\d+)?)([dhms])", text))
        if total > 0:
            return total
    raise UserError(f"{key}: {value!r} is not a duration; write seconds, or text such as 90s, 30m, 2h or 1h30m")


def checkpoint_interval(every: Any) -> dict[str, Any]:
    """What `checkpoint.every` says: {"steps": n}, {"seconds": s}, {"seconds": "auto"} or {}. Raises UserError."""
    if every is None or every == "validation":  # after a validation, which the loop itself knows best
        return {}
    if every == "auto":
        return {"seconds": "auto"}
    if isinstance(every, int) and not isinstance(every, bool):
        if every < 1:
            raise UserError(f"checkpoint.every: {every} is less than 1")
        return {"steps": every}
    if isinstance(every, str) and re.search(r"[dhms]$", every):
        return {"seconds": seconds(every, "checkpoint.every")}
    raise UserError(
        f"checkpoint.every: {every!r} is no interval; write a number of steps, a time such as 30s or 10m, auto, validation, or null"
    )


def check(config: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The config with values converted and paths made absolute. Raises UserError for what can be known here.

    known: one that was checked before; where this one is the same, no class is looked at again.
    """
    from trainer.config.code.signature import check as check_target
    from trainer.config.code.signature import class_constant
    from trainer.config.code.static_check import refuse, refuse_other
    from trainer.config.instantiate import refuse_inner

    checked: dict[str, Any] = secret.taken(copy.deepcopy(dict(config)))
    for noun in TARGETS:
        node = checked.get(noun)
        if known is not None and node == known.get(noun):
            checked[noun] = copy.deepcopy(known[noun])
            continue
        if not isinstance(node, Mapping) or not node.get("_target_"):
            raise UserError(f"{noun}: no `_target_` names its class; choose one, such as {noun}=NAME (see --help)")
        try:
            refuse_other(str(node["_target_"]), noun)
        except UserError as error:
            raise UserError(f"{noun}._target_: {error}") from None
        refuse_inner(node, noun)
        checked[noun] = check_target(node, str(node["_target_"]), noun)
        try:
            refuse(str(node["_target_"]), noun)
        except UserError as error:
            raise UserError(f"{noun}._target_: {error}") from None
    _check_train(checked["train"])
    _check_strategy(checked["strategy"], checked["train"])
    checkpoint_interval(checked["checkpoint"]["every"])
    for key, least in (("keep", 1), ("keep_best", 0)):
        if checked["checkpoint"][key] < least:
            raise UserError(f"checkpoint.{key}: {checked['checkpoint'][key]} is less than {least}")
    if checked["job"]["encryption"] is not None:
        one_of("job.encryption", checked["job"]["encryption"], ENCRYPTIONS)
    _absolute_paths(checked["data"])
    if (key := class_constant(str(checked["algorithm"]["_target_"]), "travels")) and checked["algorithm"].get(key):
        checked["algorithm"][key] = _absolute(checked["algorithm"][key])
    return checked


def _check_train(train: dict[str, Any]) -> None:
    train["batch_size"] = _batch_size(train["batch_size"])
    for key in (
        "epochs",
        "max_steps",
        "gradient_accumulation",
        "gradient_clip",
        "validate_every",
        "log_every",
    ):
        value = train[key]
        if value is not None and value <= 0:
            raise UserError(f"train.{key}: {value} must be more than 0")
    seconds(train["max_time"], "train.max_time")
    seconds(train["hang_timeout"], "train.hang_timeout")
    one_of("train.elastic", train["elastic"], ELASTIC)
    one_of("train.precision", train["precision"], PRECISIONS)
    if train["batch_size"] != "auto" and train["gradient_accumulation"] > train["batch_size"]:
        raise UserError(
            f"train.gradient_accumulation: {train['gradient_accumulation']} parts of a batch of "
            f"{train['batch_size']} leave some without a sample; raise train.batch_size or lower it"
        )
    if train["ema"] is not None and not 0 < train["ema"] < 1:
        raise UserError(f"train.ema: {train['ema']} is not between 0 and 1; it is the average's decay, such as 0.999")
    if train["elastic"] == "exact" and train["precision"] == "fp16":
        raise UserError("train.elastic=exact: fp16's scaling of the loss is not summed exactly; choose bf16 or fp32")
    patience = train["early_stopping"]["patience"]
    if patience is not None and patience < 1:
        raise UserError(f"train.early_stopping.patience: {patience} is less than 1; null turns it off")


def _batch_size(value: Any) -> int | str:
    if value == "auto":
        return "auto"
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[+-]?\d+", text):
        raise UserError(f"train.batch_size: {value!r} is not a whole number, nor auto")
    if int(text) <= 0:
        raise UserError(f"train.batch_size: {value} must be more than 0")
    return int(text)


def _check_strategy(strategy: dict[str, Any], train: Mapping[str, Any]) -> None:
    name = strategy["name"]
    one_of("strategy.name", name, STRATEGIES)
    defaults = StrategyConfig()
    for key, names in OF_STRATEGY.items():
        if name not in names and strategy[key] != getattr(defaults, key):
            raise UserError(f"strategy.{key}: {name} has no such setting; it is one of strategy={' and '.join(names)}")
    if strategy["stage"] not in (0, 1, 2, 3):
        raise UserError(f"strategy.stage: {strategy['stage']} is not a ZeRO stage; choose 0, 1, 2 or 3")
    if name in ("fsdp", "deepspeed") and train["elastic"] == "exact":
        raise UserError(
            f"train.elastic=exact needs the whole model on every worker, and strategy={name} spreads it; "
            f"choose strategy=ddp or train.elastic=fast"
        )
    if strategy["config_file"] is not None:
        path = Path(strategy["config_file"]).expanduser().absolute()
        if not path.is_file():
            raise UserError(f"strategy.config_file: there is no file {path}")
        strategy["config_file"] = str(path)


def one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises UserError for a value that is no choice."""
    if value not in choices:
        raise UserError(f"{key}: {value!r} is not a choice; {did_you_mean(value, choices)}")


def _absolute_paths(data: dict[str, Any]) -> None:
    """A job is found again from any folder, so its paths don't depend on where it was submitted."""

    for key in PATHS:
        value = data.get(key)
        if isinstance(value, list):
            data[key] = [_absolute(p) for p in value]
        elif isinstance(value, str):
            data[key] = _absolute(value)
    if isinstance(data.get("channels"), dict):
        data["channels"] = {
            name: {k: _absolute(v) if k == "s3_data" else v for k, v in given.items()}
            if isinstance(given, dict)
            else _absolute(given)
            for name, given in data["channels"].items()
        }


def _absolute(path: Any) -> Any:
    if isinstance(path, str) and path.startswith("file://"):
        path = path.removeprefix("file://")
    if not isinstance(path, str) or "://" in path:
        return path
    return os.path.abspath(os.path.expanduser(path))


# what makes two configs the same job: where, how widely, how spread and in how much memory it runs, and how it is
# watched, does not
IDENTITY = ("algorithm", "data", "train")
NOT_IDENTITY = (
    "hang_timeout",
    "max_time",
    "compile",
    "activation_checkpointing",
    "gradient_accumulation",
    "profile",
    "changed",
)


def differing_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The dotted keys in which two configs are different jobs, in words."""
    return in_words(differences(old, new))


def in_words(found: Iterable[tuple[str, Any, Any]]) -> list[str]:
    """Differences as a person reads them."""
    return [f"{key}: {there!r} there, {here!r} here" for key, there, here in found]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The dotted keys, with both values, in which two configs are different jobs."""
    found: list[tuple[str, Any, Any]] = []

    def compare(prefix: str, a: Any, b: Any) -> None:
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            for key in sorted(set(a) | set(b)):
                compare(f"{prefix}.{key}", a.get(key), b.get(key))
        elif a != b:
            found.append((prefix, a, b))

    for noun in IDENTITY:
        here, there = (_filled(c.get(noun) or {}) for c in (new, old))
        compare(noun, there, here)
    compare("job.seed", old.get("job", {}).get("seed"), new.get("job", {}).get("seed"))
    return found


def _filled(node: Mapping[str, Any]) -> dict[str, Any]:
    """A noun's settings that make a job what it is, with the defaults of those that it was written without."""
    from trainer.config.code.signature import read_signature

    try:
        signature = read_signature(str(node["_target_"])) if "_target_" in node else None
    except UserError:
        signature = None  # it is not here any more
    defaults = {p.name: p.default for p in signature.parameters if not p.required} if signature else {}
    return {k: v for k, v in {**defaults, **node}.items() if k not in NOT_IDENTITY}


def load(path: Path) -> dict[str, Any]:
    """The plain dicts of a config.yaml, or a study.yaml. Raises UserError if there are none to be read."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is
    try:
        content = plain_file.content(path)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no job here (no config.yaml)") from None
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from None
    try:
        if _depth(content, loader) > DEEPEST:  # the loader would take the process with it
            raise UserError(f"{path} can't be read: it is nested too deeply")
        config = yaml.load(content, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        zeros = b"\0" in content
        why = "it holds NUL bytes, as a power cut leaves them" if zeros else str(error).splitlines()[0]
        raise UserError(f"{path} can't be read: {why}") from None
    if not content.strip():
        raise UserError(f"{path} can't be read: it is empty")
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise UserError(f"{path} can't be read: it is no mapping of settings")
    if not content.endswith(b"\n"):
        raise UserError(f"{path} can't be read: it ends in the middle of a line, as if it were cut off there")
    return config


def _depth(content: bytes, loader: Any) -> int:
    """How deeply a text of YAML is nested, as far as that matters."""
    import yaml

    depth = deepest = 0
    for event in yaml.parse(content, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            deepest = max(deepest, depth)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return deepest


def load_job(path: Path) -> dict[str, Any]:
    """A job's config.yaml, in which all nodes are what they should be: mappings, those of `TARGETS` with a class. Raises
    UserError."""
    config = load(path)
    for noun in (*TARGETS, "train", "strategy", "job"):
        node = config.get(noun)
        if not isinstance(node, dict):
            raise DamagedFile(path, f"its `{noun}` is {str(node)[:40]!r}" if noun in config else f"it has no `{noun}`")
        if noun in TARGETS and not isinstance(node.get("_target_"), str):
            raise DamagedFile(path, f"its `{noun}` names no class")
    for key in ("name", "dir", "seed"):
        value = config["job"].get(key, "")
        if key not in config["job"] or not isinstance(value, int if key == "seed" else str | None):
            raise DamagedFile(path, f"its `job` has no {key}")
    return config
