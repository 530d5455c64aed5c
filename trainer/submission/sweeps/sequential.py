"""`headway train -m …`: the jobs of a sweep one after the other, as Hydra's own launcher runs them.

Before the first starts all of them are looked at: what one gets wrong, and what none makes use of, is refused. Each has a
directory named by what tells it from the others, in that of job.name or job.dir, or in a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, setup_globals

from trainer.config import schema, unused
from trainer.config.hydra_plugins import register as plug
from trainer.errors import UserError
from trainer.submission.place import fresh
from trainer.submission.sweeps.launcher import directory, names_of
from trainer.submission.sweeps.loader import SweepLoader


def register() -> None:
    """Makes the launcher known to Hydra."""
    plug(InTurn, "InTurn")


class InTurn(BasicLauncher):
    configs: ClassVar[list[dict[str, Any]]] = []  # of the sweep at hand

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs them all. Raises UserError, before the first starts, for what one of them gets wrong."""
        jobs = [list(overrides) for overrides in job_overrides]
        InTurn.configs = []
        setup_globals()
        try:
            configs = [self._config_of(overrides) for overrides in jobs]
        except UserError as error:
            if "HydraConfig" not in str(error):  # ${hydra:job.num} and the like are known when a job runs
                raise
            return super().launch(jobs, initial_job_idx)
        unused.refuse(configs)
        InTurn.configs = configs
        return super().launch(apart(jobs, configs), initial_job_idx)

    def _config_of(self, overrides: list[str]) -> dict[str, Any]:
        from trainer.config.compose import one_line_errors, plain

        assert self.hydra_context is not None
        with one_line_errors():
            composed = SweepLoader(self.hydra_context.config_loader).load_sweep_config(self.config, overrides)
        return schema.check(plain(composed, overrides))


def apart(jobs: list[list[str]], configs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The overrides of a sweep's jobs, with a directory for each where several would have one."""
    places = [(config["job"]["name"], config["job"]["dir"]) for config in configs]
    found = list(jobs)
    for place in dict.fromkeys(places):
        numbers = [number for number, one in enumerate(places) if one == place]
        if len(numbers) < 2:
            continue
        given = [configs[number] for number in numbers]
        if place == (None, None):
            folder = str(fresh(*given))
            given = [{**config, "job": {**config["job"], "dir": folder}} for config in given]
        taken: list[str] = []
        names = names_of([jobs[number] for number in numbers])
        for number, name, config in zip(numbers, names, given, strict=True):
            taken.append(directory(config, name, taken))
            found[number] = [*jobs[number], "job.name=null", f"job.dir={_quoted(taken[-1])}"]
    return found


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{escaped}'"
