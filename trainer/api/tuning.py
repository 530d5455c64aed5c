"""Studies from Python, as `headway tune` drives them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.api.driving import run
from trainer.api.given import taken
from trainer.api.overrides import Overrides, settings, written
from trainer.api.study import StudyResult, best_of
from trainer.config.compose import compose
from trainer.config.conf_files import added
from trainer.errors import ExitCode, HeadwayError, UserError
from trainer.job import code_path
from trainer.tuning.planning import arranged, place, planned
from trainer.tuning.record import DESCRIPTION, read


def tune(
    overrides: Overrides = (),
    *,
    space: Mapping[str, Any] | None = None,
    config_dir: str | Path | None = None,
    verbose: bool = False,
    **keywords: Any,
) -> StudyResult:
    """Searches hyperparameters as `headway tune OVERRIDES` does, and returns what the study came to.

        tune(algorithm="xgboost", data=(X, y), tune={"trials": 30})                  in the algorithm's recommended space
        tune(["algorithm=linear"], space={"algorithm.lr": "tag(log, interval(1e-4, 1))", "train.batch_size": [16, 32, 64]})

    space: a range in the grammar of the command line, {"low": 1, "high": 8}, or a list of choices, by config key. overrides,
    keywords, data, config_dir and verbose are as in `train`, the keys of a study (tune, search, scheduler, study, ray) among them.
    With a `study.name` the same call goes on with the same study. Raises UserError for what the config gets wrong, and
    HeadwayError if no trial succeeds, or too many fail.
    """
    found = settings(overrides, keywords)
    if space is not None:
        found["tune.space"] = _space(space)
    folder = None if config_dir is None else str(Path(config_dir).absolute())
    given = taken(found)
    code_path.last(*added([*written(found), "--config-dir", folder or ""]))
    if given is None:
        return _driven(found, folder, verbose)
    config = compose(arranged(written(found))[0], config_dir=folder, space=True, name="tune")
    name, directory = place(config["study"], config)
    found |= {"study.name": name, "study.dir": str(directory)}
    found |= {f"data.{role}": path for role, path in given.paths(directory).items()}
    with given.kept(directory, config, DESCRIPTION, is_done=True):
        return _driven(found, folder, verbose)


def _space(space: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(space, Mapping):
        raise UserError("space: it is a dict, such as {'algorithm.lr': 'interval(0.01, 1)'}")
    for key, value in space.items():
        if isinstance(value, tuple):
            raise UserError(
                f"{key}: {value} may be choices or bounds; write a list of choices, or {{'low': …, 'high': …}}"
            )
    return space


def _driven(found: Mapping[str, Any], config_dir: str | None, verbose: bool) -> StudyResult:
    arguments, spanned, fixed = arranged(written(found))
    config = compose(arguments, config_dir=config_dir, space=True, name="tune")
    if config["study"]["dry_run"]:
        raise UserError("study.dry_run: there would be no study to return; use `headway tune` for it")
    plan = planned(config, spanned, fixed, config_dir)
    code = run(plan.directory, plan.facts, recommended=plan.recommended, verbose=verbose)
    record = read(plan.directory)
    if code == ExitCode.FAILED:
        why = record.ends if record.best() else next((t.reason for t in record.trials if t.reason), record.ends)
        raise HeadwayError(f"{record.name}: {why or 'no trial was completed'}; see `headway tune show {record.name}`")
    status = "Stopped" if code in (ExitCode.STOPPED, ExitCode.INTERRUPTED) else "Completed"
    return StudyResult(record.name, str(record.dir), status, record.ends, best_of(record), record)
