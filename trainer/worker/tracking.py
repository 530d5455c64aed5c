"""The job's tracker as its reporter sees it: whatever it is, no step waits for it, and no job ends because of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config.instantiate import build
from trainer.errors import UserError
from trainer.worker.trackers import NoTracker, Tracker


@dataclass
class Beside(Tracker):
    """A class of the user's that has only the three calls of a tracker: a thread makes them."""

    inner: Any

    @property
    def name(self) -> str:
        return type(self.inner).__name__

    def _open(self, job_dir: Path, config: dict[str, Any]) -> None:
        self.inner.start(job_dir, config)

    def _write(self, when: float, step: int, values: dict[str, float]) -> None:
        self.inner.log(step, values)

    def _close(self, result: dict[str, Any]) -> None:
        self.inner.finish(result)


def tracker_of(config: Mapping[str, Any], tell: Callable[[str], None]) -> NoTracker:
    """The tracker of a job's config. tell: hears of what goes wrong with it.

    Raises UserError for a class that is none, settings that it hasn't, and a package that it lacks.
    """
    target = config["tracking"]["_target_"]
    try:
        tracker = build(config["tracking"], "tracking")
    except UserError:
        raise
    except Exception as error:  # its own code, such as a server that doesn't answer
        said = (str(error).strip().splitlines() or [""])[0]
        tell(f"{target} can't be made; the training goes on without it: {type(error).__name__}: {said}")
        return NoTracker()
    if type(tracker) is NoTracker:
        return tracker
    if not isinstance(tracker, Tracker):
        tracker = Beside(tracker)
    elif not hasattr(tracker, "_queue"):  # a constructor of its own has not called this one
        Tracker.__init__(tracker)
    tracker.tell = tell
    return tracker


def number(name: str, value: Any) -> float | None:
    """A reported figure as all are given it: in double precision, infinite beyond its range; None for what there is none of.

    Raises UserError for what is no number.
    """
    if value is None:
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        raise UserError(f"report: {name} is {value!r:.40}, which is no number") from None
