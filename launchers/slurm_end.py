"""What follows when the agents of a SLURM job have left: `python -m launchers.slurm_end JOB --exit-code N --number ID`.

Called at the end of the batch script. An interrupted job is queued again, by itself and once: where SLURM has
preempted it and queues it again too, the second request finds nothing to do. A job whose agents were killed is
queued again as long as that leads anywhere. Exits as the job ended: 0 completed, 1 failed, 130 stopped.

With --survivor it is called by each node after its agent, for a job that may go on without some of its nodes: SLURM lets the
batch job run on when the node with the batch script is lost, and without it nobody would end it, or queue it again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from launchers.agent import attempts
from launchers.rendezvous.no_shared_folder import opened
from launchers.rendezvous.store import board_of
from launchers.slurm.queue import requeue, scancel
from trainer.config.schema import load_job
from trainer.errors import ExitCode, HeadwayError
from trainer.job import checkpoint
from trainer.job.directory import Job, State
from trainer.storage.objects import S3

CODES = {State.COMPLETED: ExitCode.COMPLETED, State.FAILED: ExitCode.FAILED, State.STOPPED: ExitCode.STOPPED}


def end(job: Job, srun: int, number: str) -> int:
    """The batch script's exit code, if SLURM doesn't end it by queueing the job again."""
    state = job.state()
    if state.is_final:
        return CODES[state]
    if state is State.PENDING:
        print(f"no agent has started: srun ended with {srun}")
        return srun or ExitCode.FAILED
    if state is not State.INTERRUPTED and not leads_anywhere(job):
        print("the agents were killed again and again without a newer checkpoint: not queued again")
        return srun or ExitCode.FAILED
    print(f"{state.value}: queued again", flush=True)
    try:
        requeue(number)
    except HeadwayError as error:
        print(f"it can't be queued again: {error}; `sbatch {job.dir}/job.sbatch` goes on with it")
        return srun or ExitCode.FAILED
    return 0


def survive(job: Job, code: int, number: str) -> int:
    """What `end` does, if all agents are gone and the first node with the batch script was lost. Otherwise the agent's code."""
    board = board_of(job)

    def beats() -> dict[int, int]:
        """The nodes whose agents live or were lost, each with a count that moves while it lives."""
        return {int(record["node"]): int(record["beat"]) for record in board.read_all("node-")}

    left = beats()
    if 0 not in left:  # its agent left in order, and the batch script goes on
        return code
    time.sleep(board.lost)
    if beats() != left:
        return code
    print("the node with the batch script was lost", flush=True)
    ended = end(job, code, number)
    if job.state().is_final:
        scancel(number)
    return ended


def leads_anywhere(job: Job) -> bool:
    """Whether killed agents have left a newer checkpoint within as many lives as the workers have restarts."""
    limit = int(load_job(job.config_path)["launcher"].get("max_restarts", 3))
    begun = [event for event in job.events() if event["state"] == State.STARTING]
    return len(begun) <= limit or _newest(job) > int(begun[-limit - 1].get("saved", 0))


def _newest(job: Job) -> int:
    """The step of its newest checkpoint."""
    if not job.url:
        return attempts.newest(job)
    names = [Path(name) for name in S3(job.url).stamps("checkpoints/")]
    return max((checkpoint.step_of(name.parent) for name in names if name.name == checkpoint.MANIFEST), default=0)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m launchers.slurm_end", description=__doc__.splitlines()[0])
    parser.add_argument("job", help="its directory, or where that lies on S3")
    parser.add_argument("--exit-code", type=int, required=True, help="srun's, or the agent's")
    parser.add_argument("--number", required=True, help="the batch job's")
    parser.add_argument("--survivor", action="store_true", help="called on a node, not by the batch script")
    args: Any = parser.parse_args(arguments)
    return (survive if args.survivor else end)(opened(args.job), args.exit_code, args.number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
