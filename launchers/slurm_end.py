"""What follows when the agents of a SLURM job have left: `python -m launchers.slurm_end JOB --exit-code N --number ID`.

Called at the end of the batch script. An interrupted job is queued again, by itself and once: where SLURM has
preempted it and queues it again too, the second request finds nothing to do. A job whose agents were killed is
queued again as long as that leads anywhere. Exits as the job ended: 0 completed, 1 failed, 130 stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from launchers.slurm_queue import requeue
from trainer import checkpoint
from trainer.config import load
from trainer.errors import HeadwayError
from trainer.job import Job, State

CODES = {State.COMPLETED: 0, State.FAILED: 1, State.STOPPED: 130}


def end(job: Job, srun: int, number: str) -> int:
    """The batch script's exit code, if SLURM doesn't end it by queueing the job again."""
    state = job.state()
    if state.is_final:
        return CODES[state]
    if state is State.PENDING:
        print(f"no agent has started: srun ended with {srun}")
        return srun or 1
    if state is not State.INTERRUPTED and not leads_anywhere(job):
        print("the agents were killed again and again without a newer checkpoint: not queued again")
        return srun or 1
    print(f"{state.value}: queued again", flush=True)
    try:
        requeue(number)
    except HeadwayError as error:
        print(f"it can't be queued again: {error}; `sbatch {job.dir}/job.sbatch` goes on with it")
        return srun or 1
    return 0


def leads_anywhere(job: Job) -> bool:
    """Whether killed agents have left a newer checkpoint within as many lives as the workers have restarts."""
    limit = int(load(job.config_path)["launcher"].get("max_restarts", 3))
    lives = [event for event in job.events() if event["state"] == State.STARTING]
    newest = max(map(_written, checkpoint.listing(job.checkpoints)), default=0.0)
    return sum(float(life["time"]) > newest for life in lives) <= limit


def _written(place: Path) -> float:
    manifest = place / checkpoint.MANIFEST
    return manifest.stat().st_mtime if manifest.exists() else 0.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m launchers.slurm_end", description=__doc__.splitlines()[0])
    parser.add_argument("job", type=Path)
    parser.add_argument("--exit-code", type=int, required=True, help="srun's")
    parser.add_argument("--number", required=True, help="the batch job's")
    args: Any = parser.parse_args(arguments)
    return end(Job(args.job), args.exit_code, args.number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
