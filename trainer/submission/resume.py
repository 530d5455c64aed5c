"""What a job that goes on may be told anew, and whether one that is done has something left to do then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.config import schema
from trainer.config.code.signature import class_constant
from trainer.config.overrides import dotted
from trainer.config.unused import is_used, uses
from trainer.errors import UserError, did_you_mean
from trainer.job import location
from trainer.job.account import running_seconds
from trainer.job.directory import Job
from trainer.process import clock

# settings that make another job, but that one which goes on may be given: how far it trains, how it learns on, what it is
# told of, what it is scored on at its end
RENEWED = (
    "train.epochs",
    "train.max_steps",
    "train.early_stopping",
    "train.gradient_clip",
    "train.log_every",
    "train.validate_every",
    "algorithm",
    "data.test",
)
FIXED = ("algorithm._target_",)
FURTHER = ("train.max_time",)  # of those that make no other job, what gives it something to do


def resumed(job: Job, overrides: Sequence[str]) -> dict[str, Any]:
    """The config of a job that is to go on, with `KEY=VALUE` overrides: of keys that it has, or of a group's choice, such
    as `strategy=fsdp`. Raises UserError."""
    import yaml

    config = schema.load_job(job.config_path)
    for override in overrides:
        key, equals, text = override.partition("=")
        if equals and isinstance(config.get(key), dict):
            from trainer.config.compose import compose

            config[key] = compose([override])[key]
            continue
        *parents, last = key.lstrip("+").split(".")
        node: Any = config
        for name in parents:
            node = node.get(name) if isinstance(node, dict) else None
        if not equals or not isinstance(node, dict) or last not in node:
            known = [f"{noun}.{name}" for noun, value in config.items() if isinstance(value, dict) for name in value]
            raise UserError(f"{override}: the job has no such key; {did_you_mean(key, known)}")
        try:
            node[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"{override}: {text!r} is no value") from None
    config["job"]["dir"] = location.at(str(config["job"]["dir"]), config["job"]).address_of(job)
    return config


def may_change(key: str) -> bool:
    """Whether a job that goes on may be given another value of this."""
    return is_used(key, RENEWED) and not is_used(key, FIXED)


def refuse_other(job: Job, before: Mapping[str, Any], config: Mapping[str, Any], *, resumes: bool) -> None:
    """Raises UserError if a job's directory is another's than this config's; of one that resumes, for what it can't be given.
    before: the config that it began with."""
    differing = schema.differences(before, config)
    kept = [one for one in differing if not (resumes and may_change(one[0]))]
    if not kept:
        return
    told = schema.in_words(kept)
    shown = "; ".join(told[:5]) + (f"; and {len(told) - 5} more" if len(told) > 5 else "")
    if resumes:
        raise UserError(f"{job.name} goes on with what it began with ({shown}); start a new job for another")
    only = all(may_change(key) for key, _, _ in kept)
    further = f", or go on with `headway resume {job.name} {kept[0][0]}=…`" if only else ""
    raise UserError(f"{job.dir} is the directory of another job ({shown}); choose another job.name or job.dir{further}")


def trains_further(job: Job, before: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a job that is done has something to do by a config that differs from what it was done by.

    Raises UserError where it is told how far to train, and is that far already.
    """
    changed = {key for key, _, _ in schema.differences(before, config)}
    changed |= {key for key in FURTHER if dotted.value(before, key) != dotted.value(config, key)}
    if not changed:
        return False
    progress = job.progress() or {}
    bounds = {how_further(config): "step", "train.epochs": "epoch", "train.max_steps": "step"}
    for key, done in bounds.items() if "data.test" not in changed else ():
        bound, reached = dotted.value(config, key) if key else None, progress.get(done)
        if bound is not None and reached is not None and bound <= reached:
            raise UserError(f"{key}={bound:g}: {job.name} has done {reached:g} already; give it more")
    return True


def how_further(config: Mapping[str, Any]) -> str | None:
    """The key that says how far its algorithm trains; None where that is the algorithm's own affair."""
    target = str(config["algorithm"]["_target_"])
    if is_used("train.epochs", uses(target) or ()):
        return "train.epochs"
    own = (class_constant(target, "instead") or {}).get("train.epochs")
    return f"algorithm.{own}" if own else None


def has_time_left(config: Mapping[str, Any], job: Job) -> bool:
    """Whether a job that was stopped at its train.max_time is given more now."""
    limit = schema.seconds(config["train"]["max_time"], "train.max_time")
    return limit is None or running_seconds(job.events(), clock.now()) < limit
