"""`headway train -m hydra/launcher=headway …`: the jobs of a sweep side by side, as a launcher of Hydra's.

Each job has a directory named by what tells it from the others, in the sweep's own. The same command again goes on
with the sweep: a directory is a job's by its config, and one of another config gets a number behind its name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher as Base
from hydra.types import HydraContext, TaskFunction

from trainer.config import schema
from trainer.config.code.signature import short_name
from trainer.config.hydra_plugins import register as plug
from trainer.config.secret import looks_secret
from trainer.config.unused import refuse as refuse_unused
from trainer.errors import UserError
from trainer.job import location
from trainer.submission.sweeps.loader import SweepLoader

NAME_LENGTH = 100  # bytes
PLACES = ("job.name", "job.dir")
EMPTY = "the sweep is empty: one of its keys is given no value at all, such as a glob(…) that matches nothing"


def register(codes: list[int]) -> None:
    """Makes the launcher known to Hydra. `codes` gets the exit code of its sweep: Hydra drops what a launcher returns."""
    Launcher.codes = codes
    plug(Launcher, "Launcher")


def refuse_empty(arguments: Sequence[str]) -> None:
    """Raises UserError for a range of a command line that has no value: Hydra would run no job, and say nothing."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import RangeSweep
    from hydra.errors import HydraException

    from trainer.config.overrides.quoting import bounds_of

    parser = OverridesParser.create()
    for text in arguments:
        try:
            value = parser.parse_override(text).value()
        except HydraException:
            continue  # a flag, or what Hydra will say itself
        if isinstance(value, RangeSweep):
            bounds_of(value, text)


def refuse_alone(arguments: Sequence[str]) -> None:
    """Raises UserError for a setting of sweeps in a command that is none: it would be taken and do nothing."""
    if any(argument.startswith("hydra.mode=") for argument in arguments):
        return
    for argument in arguments:
        if re.match(r"\+*hydra[/.](launcher|sweeper)\b", argument):
            raise UserError(f"{argument}: it is of a sweep, and this is one job; add -m, or leave it out")


class Launcher(Base):
    """parallel: jobs at a time; auto is as many as this machine has processors for, where the workers run here, else all."""

    codes: ClassVar[list[int]] = []

    def __init__(self, parallel: int | str = "auto") -> None:
        self._parallel = parallel
        self._context: HydraContext | None = None
        self._config: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: Any) -> None:
        hydra_context.config_loader = SweepLoader(hydra_context.config_loader)  # type: ignore[assignment]  # it asks the other for the rest
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs them all. Raises UserError, before the first starts, for what one of them gets wrong."""
        from trainer.submission.sweeps.parallel import run

        if not job_overrides:
            raise UserError(EMPTY)
        at_a_time = self._parallel
        if at_a_time != "auto" and (not isinstance(at_a_time, int) or at_a_time < 1):
            raise UserError(f"hydra.launcher.parallel: {at_a_time!r} is neither a number of jobs nor auto")
        configs = [self._config_of(list(overrides)) for overrides in job_overrides]
        names = names_of([list(overrides) for overrides in job_overrides])
        checked: list[dict[str, Any]] = []
        for name, config in zip(names, configs, strict=True):
            found = schema.check(config, known=checked[0] if checked else None)
            found["job"].update(dir=str(directory(found, name, [c["job"]["dir"] for c in checked])), name=None)
            checked.append(found)
        refuse_unused(checked, side_by_side=True)
        self.codes.append(run(checked, None if at_a_time == "auto" else int(at_a_time)))
        return [JobReturn(overrides=list(o), status=JobStatus.COMPLETED, _return_value=None) for o in job_overrides]

    def _config_of(self, overrides: list[str]) -> dict[str, Any]:
        from trainer.config.compose import plain

        assert self._context is not None
        return plain(self._context.config_loader.load_sweep_config(self._config, overrides), overrides)


def names_of(jobs: list[list[str]]) -> list[str]:
    """A name for each job, of the overrides in which it differs from others: `lr=0.1,seed=2`."""
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    varying = [[text for text in job if text not in common and not text.startswith(PLACES)] for job in jobs]
    whole = {text.partition("=")[0].lstrip("+") for job in varying for text in job}
    short = {key: key.rpartition(".")[2] for key in whole}
    clear = {key: last if list(short.values()).count(last) == 1 else key for key, last in short.items()}
    numbers: dict[str, str] = {}  # of secrets, in their place

    def value(text: str) -> str:
        key, _, given = text.partition("=")
        return numbers.setdefault(text, f"{len(numbers) + 1}") if looks_secret(key.rpartition(".")[2]) else given

    return [_name([(clear[t.partition("=")[0].lstrip("+")], value(t)) for t in job]) for job in varying]


def _name(pairs: list[tuple[str, str]]) -> str:
    text = ",".join(f"{key}={value}" for key, value in pairs) or "job"
    name = re.sub(r"[^\w.,=+@%-]+", "_", text).strip("_.") or "job"
    if len(name.encode()) <= NAME_LENGTH:
        return name
    shortened = name.encode()[: NAME_LENGTH - 9].decode(errors="ignore")
    return f"{shortened}-{hashlib.sha1(text.encode()).hexdigest()[:8]}"


def directory(config: dict[str, Any], name: str, taken: Sequence[str]) -> str:
    """Where a job of the sweep is, or will be: in the sweep's folder, which job.name or job.dir names."""
    options = config["job"]
    if options["dir"] is not None:
        folder = str(options["dir"]).rstrip("/")
    else:
        nouns = [short_name(config[noun]["_target_"]) for noun in ("algorithm", "data")]
        folder = str(Path("runs", str(options["name"] or "-".join([*nouns, "sweep"]))))
    number = 1
    while True:
        found = f"{folder}/{name}" + (f"-{number}" if number > 1 else "")
        where = location.at(found, options)
        if where.address not in taken and where.is_free_for(config):
            return where.address
        number += 1
