"""Ray Tune, driving a study: it asks for trials, holds what they need, and runs what follows them.

Whatever Tune knows is forgotten with it; `trainer.tuning.engine` decides and writes down.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from trainer.tuning.engine import Engine
from trainer.tuning.ray.trial import Trial


class Forgotten:
    """Tune writes its parts to a disk, to restore them from there: what matters of these lies in the study's directory."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class Points(Forgotten, Searcher):
    """Where Tune's trials come from."""

    def __init__(self, engine: Engine, settings: Mapping[str, Any], parallel: int) -> None:
        super().__init__()
        self._engine, self._settings, self._parallel = engine, dict(settings), parallel
        self.numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Any:
        if len(self._engine.live) >= self._parallel:
            return None
        live = self._engine.next()
        if live is None:
            return self.FINISHED if self._engine.is_over else None
        self.numbers[trial_id] = live.frozen.number
        return {
            **self._settings,
            "number": live.frozen.number,
            "workers": live.workers,
            "dir": str(live.job.dir),
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self.numbers.pop(trial_id)
        report = json.loads(result["report"]) if result and "report" in result else None
        if report is not None and report["ended"] is not None:
            self._engine.heard(number, report)
        else:
            self._engine.lost(number)

    def save(self, checkpoint_path: str) -> None:
        """Nothing of it has to survive."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing of it has survived."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing of it has to survive."""


class Reports(Forgotten, FIFOScheduler):
    """What trials report goes to the engine, which gives its orders in their jobs' directories.

    An actor that has become free takes the newest trial. Tune's own choice is the oldest: where that still waits for an
    actor to start, this one is then given up, for each trial anew, and short trials never run several at a time.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._open: dict[str, Any] = {}  # trials that have not ended, by Tune's name for them

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._open[trial.trial_id] = trial

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._open.pop(trial.trial_id, None)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._open.pop(trial.trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._open.pop(trial.trial_id, None)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        return next((trial for trial in reversed(self._open.values()) if trial.status == trial.PENDING), None)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        self._engine.heard(result["number"], json.loads(result["report"]))
        return self.CONTINUE


class Looks(Forgotten, tune.Callback):
    """Called several times a second while trials run: time ends a study also where no trial reports."""

    def __init__(self, engine: Engine, look: Callable[[], None]) -> None:
        self._engine, self._look = engine, look

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._engine.look()
        self._look()


def drive(
    engine: Engine,
    room: Callable[[int], Mapping[str, float]],
    parallel: int,
    settings: Mapping[str, Any],
    folder: Path,
    **more: Any,
) -> None:
    """Runs trials until the engine has no more. room: what a trial of so many workers takes of the cluster. settings: what
    every trial is told. more: of the placement groups."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it looks for files that nobody needs
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(parallel)
    look: Callable[[], None] = more.pop("look")
    tune.Tuner(
        tune.with_resources(Trial, lambda config: PlacementGroupFactory([dict(room(config["workers"]))], **more)),
        tune_config=tune.TuneConfig(
            search_alg=Points(engine, settings, parallel),
            scheduler=Reports(engine),
            num_samples=1_000_000_000,  # the engine says when
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="study",
            storage_path=str(folder / "tune"),
            failure_config=tune.FailureConfig(max_failures=-1),  # of the actors: a lost node is no failure
            callbacks=[Looks(engine, look)],
            verbose=0,
        ),
    ).fit()
