"""Where a worker process begins. Kept light: the agent imports it only to name it."""

from __future__ import annotations

from typing import Any


def work(job_dir: str, attempt: int, node_folder: str) -> dict[str, Any]:
    """Runs one worker of a job. Returns how it ended: state, step, reason. Raises SystemExit after an error."""
    from trainer.worker.main import run

    return run(job_dir, attempt, node_folder)
