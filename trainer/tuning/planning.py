"""A study as it is to be: composed, its space and options checked, named and placed; and then driven."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from trainer.config import schema, secret
from trainer.config.choices import portable
from trainer.config.code.signature import short_name
from trainer.config.compose import recommended, register
from trainer.config.folder_name import check_folder
from trainer.config.instantiate import build as built
from trainer.errors import UserError
from trainer.submission.preflight import check_data, refuse_impossible
from trainer.tuning import options as study_options
from trainer.tuning.spaces.checking import build
from trainer.tuning.spaces.grammar import from_config, split, unfixed
from trainer.tuning.spaces.parameter import Parameter
from trainer.tuning.spaces.space import Space
from trainer.tuning.study import ROOT, Draft, Study
from trainer.tuning.trials import recomposer


def arranged(arguments: Sequence[str]) -> tuple[list[str], list[Parameter], list[str]]:
    """What of a study's command line is to be composed, with the first choice of each group that is searched; the parameters
    that it spans; and the overrides that fix something. Raises UserError."""
    plain, spanned = split(portable(arguments))
    register("headway_tune_schema", study_options.StudySchema)
    overrides = [a for a in plain if not a.startswith("-") and "=" in a]
    first = [f"{p.key}={p.choices[0]}" for p in spanned if p.choices and "." not in p.key]
    return [*plain, *first], spanned, overrides


def begin(
    config: Mapping[str, Any], spanned: Sequence[Parameter], overrides: Sequence[str], arguments: Sequence[str] = ()
) -> int:
    """Begins a study, or goes on with the one that has this name. config: composed, a study's own nodes included.
    arguments: as they were typed after `headway tune`; () if it was another command."""
    from trainer.tuning.drive import run

    plan = planned(config, spanned, overrides, _config_dir())
    if arguments:
        told = (secret.masked(one) for one in secret.referring(arguments))
        plan.facts["command"] = shlex.join(["headway", "tune", *told])
    if plan.facts["options"]["study"]["dry_run"]:
        print("\n".join(plan.space.describe()))
        return 0
    return run(plan.directory, plan.facts, recommended=plan.recommended)


@dataclass(frozen=True)
class Plan:
    """A study as it is to be: its directory, and what its study.yaml will say."""

    directory: Path
    facts: dict[str, Any]
    space: Space
    recommended: bool


def _config_dir() -> str | None:
    """The folder of --config-dir, if Hydra was given one: trials may choose from it."""
    from hydra.core.hydra_config import HydraConfig

    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else []
    return next((str(source.path) for source in sources if source.provider == "command-line"), None)


def planned(
    config: Mapping[str, Any],
    spanned: Sequence[Parameter],
    overrides: Sequence[str],
    config_dir: str | None = None,
) -> Plan:
    """Checks all that can be checked before the first trial. Raises UserError."""
    from trainer.tuning.samplers.sampler import choose
    from trainer.tuning.schedulers.choice import scheduler_of
    from trainer.tuning.spaces.expression import partition
    from trainer.tuning.spaces.placing import known_values
    from trainer.tuning.stopping import ends_of
    from trainer.tuning.warm_start import observations

    options = {noun: config[noun] for noun in study_options.NODES}
    study_options.check(options)
    name, directory = place(options["study"], config)
    base = {noun: node for noun, node in config.items() if noun not in study_options.NODES}
    usual = recommended(base)
    base = schema.check(base)
    study_options.refuse_of_trials(base["job"])
    metrics, goals = study_options.metrics_of(options["tune"], base)
    refuse_impossible(base, built(base["launcher"], "launcher"))
    check_data(base)
    parameters = {p.key: p for p in from_config(options["tune"]["space"])} | {p.key: p for p in spanned}
    is_usual = not parameters
    if is_usual:
        if not usual:
            raise UserError(
                f"tune.space: {short_name(base['algorithm']['_target_'])} recommends none; span one on the command line, "
                f"such as 'algorithm.lr=tag(log,interval(1e-4,1))'"
            )
        parameters = {p.key: p for p in unfixed(from_config(usual), overrides)}
        if not parameters:
            raise UserError("tune.space: the command line fixes every key of the recommended space; leave one open")
    known = [*known_values(base), *parameters]
    on_parameters, on_outcomes = partition(options["tune"]["constraints"], known)
    jobs = [o for o in overrides if o.lstrip("+").split("=")[0].split(".")[0] not in study_options.NODES]
    space = build(list(parameters.values()), on_parameters, base, recompose=recomposer(jobs, config_dir))
    for point in options["tune"]["start_from"]:
        space.stored(point)
    choose(options["search"]["name"], space, ends_of(options["tune"], goals[0]).trials, len(metrics), bool(on_outcomes))
    scheduler = options["scheduler"]
    if scheduler["name"] == "pbt" and base["checkpoint"]["every"] == "auto":
        base["checkpoint"]["every"] = "validation"  # what is reported must be there to go on from
    facts = {
        "name": name,
        "created": time.time(),
        "metrics": metrics,
        "goals": goals,
        "space": space.to_yaml(),
        "outcomes": [expression.text for expression in on_outcomes],
        "search": options["search"]["name"],
        "scheduler": scheduler["name"],
        "unit": scheduler["unit"],
        "seed": options["study"]["seed"],
        "base": base,
        "overrides": secret.referring(jobs),
        "config_dir": config_dir,
        "options": options,
    }
    scheduler_of(cast(Study, Draft(facts)), facts["options"]["scheduler"])  # refuses what it can't have
    for earlier in options["tune"]["warm_start"]:
        observations(earlier, space, facts)
    return Plan(directory, facts, space, is_usual)


def place(study: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[str, Path]:
    """The study's name and directory. Raises UserError for what can be none."""
    name, directory = study["name"], study["dir"]
    check_folder("study", name, directory)
    if directory is not None and "://" in str(directory):
        raise UserError(f"study.dir: {directory}: a study is driven from a local or shared folder; give a path")
    if directory is not None:
        folder = Path(directory).expanduser().absolute()
        return name or folder.name, folder
    if name is None:
        nouns = [short_name(base[noun]["_target_"]) for noun in ("algorithm", "data")]
        name = "-".join([*nouns, time.strftime("%m%d-%H%M%S")])
    return name, (ROOT / name).absolute()
