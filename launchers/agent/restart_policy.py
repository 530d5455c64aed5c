"""Whether workers that died are started again: decided from what happened so far, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SAME_STEP = 2  # a crash at the same step so often in a row is no accident
SAME_STEP_KILLED = 3  # from outside a worker may be killed twice at the same step by chance
OUTSIDE = frozenset({"SIGKILL", "lost node"})


@dataclass(frozen=True)
class Attempt:
    """One life of the workers that ended in an error.

    began: the step they went on from, None if they never came so far; reached: the last step they did;
    saved: the newest complete checkpoint that it wrote, if any; error: as the agent found it.
    """

    began: int | None
    reached: int | None
    saved: int | None
    error: dict[str, Any]

    @property
    def cause(self) -> tuple[Any, ...]:
        """What makes two errors the same one."""
        kind = self.error.get("kind", self.error.get("type"))
        return (kind, self.error.get("where"), self.reached)


def why_not(attempts: Sequence[Attempt], max_restarts: int) -> str | None:
    """The reason to give up after the last of these attempts, or None to start the workers again."""
    last = attempts[-1]
    if last.error.get("final"):
        return "starting again would not help"
    if last.error.get("kind") is None and last.began is None:
        return "it failed before the first step"
    if (last.saved or 0) > (last.began or 0):
        return None
    allowed = SAME_STEP_KILLED if last.error.get("kind") in OUTSIDE else SAME_STEP
    same = [attempt.cause == last.cause for attempt in attempts[-allowed:]]
    if len(same) == allowed and all(same) and last.reached is not None:
        times = {2: "twice", 3: "three times"}[allowed]
        return f"it happened {times} in a row after step {last.reached:,}"
    restarts = _without_progress(attempts)
    if restarts > max_restarts:
        return f"after {max_restarts} restarts without a newer checkpoint (launcher.max_restarts)"
    return None


def _without_progress(attempts: Sequence[Attempt]) -> int:
    """How many attempts in a row, the last one included, ended without a newer checkpoint than they went on from."""
    count = 0
    for i in range(len(attempts) - 1, -1, -1):
        if (attempts[i].saved or 0) > (attempts[i].began or 0):
            break
        count += 1
    return count
