"""The configuration of a study beside its jobs' own, and what is checked across its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.algorithm import Algorithm
from trainer.config.conf_files import keys
from trainer.config.schema import Config, one_of, seconds
from trainer.errors import UserError

SEARCHES = ("bayes", "gp", "tpe", "cmaes", "random", "grid", "nsga2")
SCHEDULERS = ("none", "asha", "hyperband", "median", "pbt")
UNITS = ("steps", "epochs", "seconds")
AT_END = ("stop", "finish")
NODES = ("tune", "search", "scheduler", "study", "ray")  # what a study's config has beside a job's


@dataclass(kw_only=True)
class TuneConfig:
    metric: Any = None
    goal: Any = "auto"
    space: dict[str, Any] = field(default_factory=dict)
    constraints: list[str] = field(default_factory=list)
    trials: int | None = None
    parallel: int | None = None
    max_time: Any = None
    max_device_hours: float | None = None
    target: float | None = None
    patience: int | None = None
    at_end: str = "stop"
    start_from: list[Any] = field(default_factory=list)
    warm_start: list[str] = field(default_factory=list)
    retries: int = 0
    max_failures: int = 5


@dataclass(kw_only=True)
class SearchConfig:
    name: str = "bayes"


@dataclass(kw_only=True)
class SchedulerConfig:
    name: str = "none"
    unit: str = "epochs"
    min: float | None = None
    max: float | None = None
    reduction: int = 4
    interval: float | None = None
    startup: int = 5
    quantile: float = 0.25
    resample: float = 0.25


@dataclass(kw_only=True)
class StudyConfig:
    name: str | None = None
    dir: str | None = None
    seed: int = 0
    dry_run: bool = False


@dataclass(kw_only=True)
class RayConfig:
    address: str | None = None
    cpus_per_worker: float = 1
    gpus_per_worker: float | None = None
    driver_labels: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class StudySchema(Config):
    """A job's config, and what joins it in `headway tune`."""

    tune: TuneConfig = field(default_factory=TuneConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    ray: RayConfig = field(default_factory=RayConfig)


def check(options: Mapping[str, Any]) -> None:
    """Raises UserError for what a study's options get wrong in themselves."""
    tune, scheduler, ray = options["tune"], options["scheduler"], options["ray"]
    one_of("search", options["search"]["name"], SEARCHES)
    one_of("scheduler", scheduler["name"], SCHEDULERS)
    one_of("scheduler.unit", scheduler["unit"], UNITS)
    one_of("tune.at_end", tune["at_end"], AT_END)
    seconds(tune["max_time"], "tune.max_time")
    for key in ("trials", "parallel", "max_device_hours", "patience", "max_failures"):
        if tune[key] is not None and tune[key] <= 0:
            raise UserError(f"tune.{key}: {tune[key]} must be more than 0")
    if tune["retries"] < 0:
        raise UserError(f"tune.retries: {tune['retries']} is less than 0")
    for key in ("min", "max", "interval"):
        if scheduler[key] is not None and scheduler[key] <= 0:
            raise UserError(f"scheduler.{key}: {scheduler[key]} must be more than 0")
    known = {key.name for key in keys("scheduler", scheduler["name"])} | {"unit"}  # in which charts count, too
    for key, value in scheduler.items():
        if key not in known and value != getattr(SchedulerConfig(), key):
            having = [name for name in SCHEDULERS if key in {one.name for one in keys("scheduler", name)}]
            raise UserError(
                f"scheduler={scheduler['name']} doesn't use scheduler.{key}; scheduler={', '.join(having)} does"
            )
    if scheduler["reduction"] < 2:
        raise UserError(f"scheduler.reduction: {scheduler['reduction']} is less than 2")
    if not 0 < scheduler["quantile"] <= 0.5:
        raise UserError(f"scheduler.quantile: {scheduler['quantile']} is not above 0 and at most 0.5")
    if not 0 <= scheduler["resample"] <= 1:
        raise UserError(f"scheduler.resample: {scheduler['resample']} is not from 0 to 1")
    for key in ("cpus_per_worker", "gpus_per_worker"):
        if ray[key] is not None and ray[key] < 0:
            raise UserError(f"ray.{key}: {ray[key]} is less than 0")
    gpus = ray["gpus_per_worker"]
    if gpus is not None and gpus > 1:
        raise UserError(f"ray.gpus_per_worker: {gpus:g} is more than 1, and a worker uses one GPU")


def refuse_of_trials(job: Mapping[str, Any]) -> None:
    """Raises UserError for what of a job's own settings a study's trials can't have from it."""
    for key in ("name", "dir", "dry_run"):
        if job[key]:
            raise UserError(f"job.{key}: each trial has its own; set study.{key} instead")
    if job["detach"]:
        raise UserError("job.detach: a study is followed to its end; leave it out")


def metrics_of(tune: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The metrics that a study looks at, and for each `min` or `max`. Raises UserError."""
    from trainer.config.code.signature import class_constant
    from trainer.job.result import more_is_better

    named = tune["metric"] if tune["metric"] is not None else config["train"]["early_stopping"]["metric"]
    metrics = [str(m) for m in named] if isinstance(named, list | tuple) else [str(named)]
    goals = list(tune["goal"]) if isinstance(tune["goal"], list | tuple) else [tune["goal"]] * len(metrics)
    if not metrics or len(set(metrics)) < len(metrics):
        raise UserError(f"tune.metric: {metrics} are not one or several different metrics")
    if len(goals) != len(metrics):
        raise UserError(f"tune.goal: {len(goals)} goals for {len(metrics)} metrics; give one for each")
    for goal in goals:
        one_of("tune.goal", goal, ("auto", "min", "max"))
    maximize = class_constant(str(config["algorithm"]["_target_"]), "maximize")
    names = tuple(maximize if maximize is not None else Algorithm.maximize)
    return metrics, [
        goal if goal != "auto" else "max" if more_is_better(metric, names) else "min"
        for metric, goal in zip(metrics, goals, strict=True)
    ]
