"""`headway tune`: from a command line to a study driven to its end; and what looks at one.

headway tune OVERRIDES …           begins a study, or goes on with it where the same command began it
headway tune resume STUDY [KEY=VALUE …]
headway tune show STUDY [--json]
headway tune report STUDY
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from trainer import codepath, secret
from trainer import config as schema
from trainer.arguments import parser as new_parser
from trainer.build import build as built
from trainer.choosing import portable
from trainer.composing import compose, recommended, register, run_hydra
from trainer.errors import UserError, did_you_mean
from trainer.folder_name import check_folder
from trainer.looking import status_of
from trainer.refusing import check_data, refuse_impossible
from trainer.signature import short_name
from trainer.tuning import options as study_options
from trainer.tuning.record import described
from trainer.tuning.spaces.grammar import from_config, split, unfixed
from trainer.tuning.spaces.parameter import Parameter
from trainer.tuning.spaces.space import Space, build
from trainer.tuning.study import ROOT, Draft, Study, find

Recompose = Any


def tune(arguments: list[str]) -> int:
    """The verb. Returns the exit code: 0, 1 if no trial succeeded or they failed in a row, 2, 130 if stopped."""
    if arguments and arguments[0] in VERBS:
        return VERBS[arguments[0]](arguments[1:])
    plain, spanned, overrides = arranged(arguments)
    return run_hydra(plain, "tune", lambda config: begin(config, spanned, overrides, arguments), space=True)


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
    from trainer.tuning.running import run

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
    from trainer.tuning.ends import ends_of
    from trainer.tuning.sampler import choose
    from trainer.tuning.schedulers.scheduler import scheduler_of
    from trainer.tuning.spaces.expression import partition
    from trainer.tuning.spaces.placing import known_values
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


def recomposer(overrides: Sequence[str], config_dir: str | None = None) -> Recompose:
    """Composes the jobs' config with other choices of groups."""

    def recompose(chosen: Mapping[str, str]) -> dict[str, Any]:
        kept = [o for o in overrides if o.partition("=")[0] not in chosen]
        return compose([*kept, *(f"{group}={choice}" for group, choice in chosen.items())], config_dir=config_dir)

    return recompose


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


def resume(arguments: list[str]) -> int:
    from trainer.tuning.running import run

    parser = new_parser("tune resume", "Goes on with a study: what runs is found again, what was interrupted goes on.")
    parser.add_argument("study", help="its name, or its directory")
    parser.add_argument("overrides", nargs="*", help="other ends, such as tune.trials=100 or tune.max_time=2h")
    args = parser.parse_args(arguments)
    directory = find(args.study)
    codepath.last(directory)
    facts = described(directory, to_drive=True)
    facts["options"] = _overridden(facts["options"], args.overrides)
    return run(directory, facts, recommended=False)


def _overridden(options: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A study's options with `KEY=VALUE` overrides of how it ends and where it runs."""
    import yaml

    known = [f"{noun}.{key}" for noun in ("tune", "ray") for key in options[noun]]
    fixed = ("tune.metric", "tune.goal", "tune.space", "tune.constraints", "tune.warm_start", "tune.start_from")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or key not in known or key in fixed:
            raise UserError(
                f"{override}: a study goes on with no such change; {did_you_mean(key, set(known) - set(fixed))}"
            )
        noun, _, name = key.partition(".")
        options[noun][name] = yaml.safe_load(text)
    study_options.check(options)
    return options


def show(arguments: list[str]) -> int:
    from trainer.tuning.record import read
    from trainer.tuning.reports.show import show as shown

    parser = new_parser("tune show", "Shows a study: its best trials, what mattered, what failed.")
    parser.add_argument("study", help="its name, or its directory")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(arguments)
    shown(read(find(args.study), _state_of), as_json=args.json)
    return 0


def report(arguments: list[str]) -> int:
    from trainer.tuning.record import read
    from trainer.tuning.running import write_out

    parser = new_parser("tune report", "Writes a study's report.html, best.yaml and tables anew.")
    parser.add_argument("study", help="its name, or its directory")
    args = parser.parse_args(arguments)
    for path in write_out(read(find(args.study), _state_of)):
        print(os.path.relpath(path))
    return 0


def _state_of(job: Any) -> Any:
    """A job's state as its launcher knows it."""
    return status_of(job).state


VERBS = {"resume": resume, "show": show, "report": report}
