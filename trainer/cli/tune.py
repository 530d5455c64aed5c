"""`headway tune`: studies, begun, gone on with and looked at.

headway tune OVERRIDES …           begins a study, or goes on with it where the same command began it
headway tune resume STUDY [KEY=VALUE …]
headway tune show STUDY [--json]
headway tune report STUDY
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from trainer.cli.arguments import Parser
from trainer.config.compose import run_hydra
from trainer.config.conf_files import added
from trainer.errors import UserError, did_you_mean
from trainer.job import code_path
from trainer.submission.launcher_of import status_of
from trainer.tuning import options as study_options
from trainer.tuning.planning import arranged, begin
from trainer.tuning.record import described
from trainer.tuning.study import find


def tune(arguments: list[str]) -> int:
    """The verb. Returns the exit code: 0, 1 if no trial succeeded or they failed in a row, 2, 130 if stopped."""
    if arguments and arguments[0] in VERBS:
        return VERBS[arguments[0]](arguments[1:])
    code_path.last(*added(arguments))
    plain, spanned, overrides = arranged(arguments)
    return run_hydra(plain, "tune", lambda config: begin(config, spanned, overrides, arguments), space=True)


def resume(arguments: list[str]) -> int:
    from trainer.tuning.drive import run

    parser = Parser(
        "tune resume", "Goes on with a study: what runs is found again, what was interrupted goes on.", of="study"
    )
    parser.add_argument("overrides", nargs="*", help="other ends, such as tune.trials=100 or tune.max_time=2h")
    args = parser.parse_args(arguments)
    directory = find(args.study)
    code_path.last(directory)
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

    parser = Parser("tune show", "Shows a study: its best trials, what mattered, what failed.", of="study")
    parser.add_json()
    args = parser.parse_args(arguments)
    shown(read(find(args.study), _state_of), as_json=args.json)
    return 0


def report(arguments: list[str]) -> int:
    from trainer.tuning.drive import write_out
    from trainer.tuning.record import read

    parser = Parser("tune report", "Writes a study's report.html, best.yaml and tables anew.", of="study")
    args = parser.parse_args(arguments)
    for path in write_out(read(find(args.study), _state_of)):
        print(os.path.relpath(path))
    return 0


def _state_of(job: Any) -> Any:
    """A job's state as its launcher knows it."""
    return status_of(job).state


VERBS = {"resume": resume, "show": show, "report": report}
