"""Settings that would be taken and do nothing: refused by name, before anything starts.

An algorithm says by `uses` what it goes by of the groups below, a data source by `unused` what it doesn't. Only what is
another value than the default counts as set: so what a config file, an experiment or a study says is looked at too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from trainer.algorithm import Algorithm, Estimator
from trainer.config.code.base_classes import kind
from trainer.config.code.function import Function
from trainer.config.code.signature import UNKNOWN, class_constant, read_signature, short_name
from trainer.config.conf_files import choices
from trainer.config.overrides import dotted
from trainer.config.schema import CheckpointConfig, StrategyConfig, TrainConfig
from trainer.data.formats.roles import USERS
from trainer.errors import UserError

GROUPS: dict[str, TrainConfig | StrategyConfig | CheckpointConfig] = {
    "train": TrainConfig(),
    "strategy": StrategyConfig(),
    "checkpoint": CheckpointConfig(),
}
SPREADING = ("fsdp", "deepspeed")  # which `context.prepare` of a loop of one's own doesn't do
# what algorithms call it themselves, where they have no word for it in `instead`
NAMES = {
    "epochs": ("epochs", "num_epochs", "rounds", "n_estimators", "iterations", "max_iter", "max_steps", "steps"),
    "max_steps": ("max_steps", "steps", "rounds", "n_estimators", "iterations", "max_iter", "epochs"),
}
OF_TABLES = ("categorical", "missing", "decimal", "thousands")  # of whose cells only text is read by who takes text
# settings that count only beside another: that they do, and what is said otherwise
BESIDE = {
    "train.early_stopping.min_delta": ("train.early_stopping.patience", "set train.early_stopping.patience too"),
    "checkpoint.metric": ("checkpoint.keep_best", "set checkpoint.keep_best too"),
}


def refuse(
    configs: Sequence[Mapping[str, Any]],
    begun: Mapping[str, Any] | None = None,
    beside: Sequence[Mapping[str, Any]] = (),
    *,
    side_by_side: bool = False,
) -> None:
    """Raises UserError for a setting that none of these checked configs, one or those of a sweep, makes use of.

    begun: the config of the job that goes on, whose own settings were taken when it began. beside: other jobs of its sweep.
    side_by_side: whether they are of a sweep whose jobs are submitted together.
    """
    for config in configs:
        for key in idle(config):
            if side_by_side and key.startswith("launcher."):
                continue
            value = dotted.value(config, key)
            taken = begun is not None and dotted.value(begun, key) == value
            if not taken and not any(
                dotted.value(c, key) == value and told(c, key) is None for c in (*configs, *beside)
            ):
                raise UserError(str(told(config, key)))


def idle(config: Mapping[str, Any]) -> list[str]:
    """The keys of a config that are set and not used."""
    found = [key for key, default in _defaults(config).items() if dotted.value(config, key, default) != default]
    return [key for key in found if told(config, key) is not None]


def told(config: Mapping[str, Any], key: str) -> str | None:
    """What is to be said of a key that the config's algorithm or data doesn't use, in a line; None for one that is used."""
    group = key.partition(".")[0]
    if group in GROUPS:
        return _of_algorithm(config, key)
    if group == "data":
        return _of_data(config, key)
    if group == "launcher":
        return _of_launcher(config, key)
    if group == "job" and key in ("job.encryption", "job.kms_key"):
        remote = "://" in str(dotted.value(config, "job.dir"))
        return None if remote else f"{key} is for a job on S3; set job.dir=s3://BUCKET/FOLDER too, or leave it out"
    return None


def uses(target: str) -> frozenset[str] | None:
    """What an algorithm goes by, groups and keys; None where its source doesn't tell."""
    by_kind = {"function": Function.uses, "Estimator": Estimator.uses, "Module": Algorithm.uses}
    found = class_constant(target, "uses", unread=UNKNOWN)
    if found == UNKNOWN:
        return None
    return by_kind.get(kind(target) or "") if found is None else frozenset(found)


def is_used(key: str, by: Iterable[str]) -> bool:
    """Whether a key is one of these, or below one of these."""
    return any(key == one or key.startswith(f"{one}.") for one in by)


def _of_algorithm(config: Mapping[str, Any], key: str) -> str | None:
    target = str(config["algorithm"]["_target_"])
    by, name = uses(target), short_name(target)
    name = f"algorithm={name}" if name in choices("algorithm") else target
    said = key if key != "strategy.name" else f"strategy={config['strategy']['name']}"
    if by is None:
        return None
    if not is_used(key, by):
        return f"{name} doesn't use {said}; {_instead(target, key)}"
    if key == "strategy.name" and kind(target) == "function" and config["strategy"]["name"] in SPREADING:
        return f"{said}: context.prepare spreads a model by single or ddp; choose strategy=ddp"
    other, why = BESIDE.get(key, ("", ""))
    return (
        f"{key} does nothing by itself; {why}, or leave it out" if other and not dotted.value(config, other) else None
    )


def _instead(target: str, key: str) -> str:
    """What does it, in a few words."""
    given = class_constant(target, "instead") or {}
    own = next((given[one] for one in (key, key.partition(".")[0]) if one in given), None)
    signature = read_signature(target)
    known = {p.name for p in signature.parameters} if signature else set()
    last = key.rpartition(".")[2]
    own = own or next((name for name in NAMES.get(last, (last,)) if name in known), None)
    if own:
        return f"use algorithm.{own}"
    if kind(target) == "function" and not key.startswith("strategy"):
        return f"leave it out, or give {target.rpartition('.')[2]} an argument {last}, which is algorithm.{last}"
    return "leave it out"


def _of_data(config: Mapping[str, Any], key: str) -> str | None:
    last = key.partition(".")[2]
    if line := _of_source(config["data"], last):
        return line
    algorithm = str(config["algorithm"]["_target_"])
    if last in USERS:
        roles = class_constant(algorithm, "roles", unread=UNKNOWN) or ()
        if roles != UNKNOWN and last not in roles:
            return f"algorithm={short_name(algorithm)} doesn't use {key}; {USERS[last]} does, or leave it out"
    if last in OF_TABLES and "text" in (class_constant(algorithm, "takes") or ()):
        return f"algorithm={short_name(algorithm)} doesn't use {key}: it reads the column of text alone; leave it out"
    return None


def _of_launcher(config: Mapping[str, Any], key: str) -> str | None:
    target = str(config["launcher"]["_target_"])
    if key.partition(".")[2] not in (class_constant(target, "of_sweeps") or ()):
        return None
    return f"{key} is of a sweep whose jobs are submitted together; add -m hydra/launcher=headway, or leave it out"


def refuse_of_source(node: Mapping[str, Any]) -> None:
    """Raises UserError for a setting of `data` that the source makes nothing of, whatever it is read for."""
    for key, default in _defaults_of(node).items():
        if node.get(key, default) != default and (line := _of_source(node, key)):
            raise UserError(line)


def _of_source(node: Mapping[str, Any], key: str) -> str | None:
    target = str(node["_target_"])
    if key not in (class_constant(target, "unused") or ()):
        return None
    named = f"data={class_constant(target, 'name') or short_name(target)}"
    return f"{named} doesn't use data.{key}; {class_constant(target, 'instead')}"


def _defaults_of(node: Mapping[str, Any]) -> dict[str, Any]:
    signature = read_signature(str(node["_target_"]))
    return {p.name: p.default for p in signature.parameters if not p.required} if signature else {}


def _defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that are looked at, each with its default."""
    of_data = {f"data.{key}": default for key, default in _defaults_of(config["data"]).items()}
    of_launcher = {f"launcher.{key}": default for key, default in _defaults_of(config["launcher"]).items()}
    return {**_of_groups(), **of_data, **of_launcher, "job.encryption": None, "job.kms_key": None}


@lru_cache(maxsize=1)
def _of_groups() -> dict[str, Any]:
    return {key: value for group, node in GROUPS.items() for key, value in dotted.leaves(asdict(node), f"{group}.")}
