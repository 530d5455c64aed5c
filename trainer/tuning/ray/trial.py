"""A trial as Ray Tune sees it: an actor that follows one job after the other. It is reused, so that its agents stay warm."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from ray import tune

from trainer.errors import HeadwayError
from trainer.job.directory import Job
from trainer.tuning.trial_run import Run


class Trial(tune.Trainable):
    """config: dir (the job's), number, retries, folder (where the command was called), path (its PYTHONPATH), env."""

    _run: Run | None = None

    def setup(self, config: dict[str, Any]) -> None:
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._number, self._error = int(config["number"]), ""
        folder = config["folder"]
        if os.path.isdir(folder):
            os.chdir(folder)
        known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*config["path"], *known]))  # for agents
        sys.path += [path for path in (*config["path"], folder) if path not in sys.path]
        try:
            self._run = Run(Job(Path(config["dir"])), int(config["retries"]), config["env"])
            self._run.begin()
        except Exception as error:  # raised here, Tune would start the actor again, and again
            self._error = _words(error)

    def step(self) -> dict[str, Any]:
        """One report of the job, as `Run.wait` gives it; in JSON, as Tune takes nested results apart."""
        if self._error or self._run is None:
            report: dict[str, Any] = {"points": [], "ended": "failed", "reason": self._error, "kind": "refused"}
        else:
            try:
                report = self._run.wait()
            except Exception as error:  # as above
                report = {"points": [], "ended": "failed", "reason": _words(error), "kind": "launcher"}
        return {"number": self._number, "report": json.dumps(report), "done": report["ended"] is not None}

    def cleanup(self) -> None:
        if self._run is not None:
            self._run.leave()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The job's directory has its checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """The job goes on from its own."""


def _words(error: Exception) -> str:
    """What went wrong where a trial is followed, in a line; the trace of what nobody foresaw goes to Ray's log."""
    if isinstance(error, HeadwayError):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no more is known'])[0]}"
