"""From SLURM's states to a job's."""

from __future__ import annotations

from launchers.slurm.queue import Record
from trainer.job.directory import State, Status

WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")
AT_WORK = ("RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT")
# what an ended batch job means for a job whose agents have left no word of their own
ENDED = {
    "CANCELLED": (State.STOPPED, "cancelled in SLURM"),
    "OUT_OF_MEMORY": (State.FAILED, "SLURM ended it as it took more memory than was asked for; raise launcher.mem"),
    "TIMEOUT": (
        State.INTERRUPTED,
        "SLURM's time limit ended it before it could be queued again; raise launcher.warning",
    ),
    "DEADLINE": (State.INTERRUPTED, "SLURM's deadline ended it"),
    "PREEMPTED": (State.INTERRUPTED, "preempted, and the cluster doesn't queue such jobs again"),
    "NODE_FAIL": (State.INTERRUPTED, "a node failed"),
    "BOOT_FAIL": (State.INTERRUPTED, "a node could not be started"),
    "REVOKED": (State.INTERRUPTED, "another cluster took it over"),
}


def status_of(record: Record | None, told: State, *, again: bool = False) -> Status:
    """told: the job's state by its directory, not a final one; again: its batch job has begun anew since, and no agent yet."""
    if record is None:
        return Status(State.INTERRUPTED, False, "SLURM knows nothing of it any more")
    if record.state in WAITING:
        return Status(State.PENDING, True, waits_for(record))
    if record.state in AT_WORK:
        if told is State.PENDING or again:
            on = f" on {record.nodes}" if record.nodes else ""
            return Status(State.STARTING, True, "" if record.state == "RUNNING" else f"{record.state.lower()}{on}")
        return Status(told, True, "suspended in SLURM" if record.state in ("SUSPENDED", "STOPPED") else "")
    if record.state in ENDED:
        state, reason = ENDED[record.state]
        return Status(state, False, reason)
    if told is State.PENDING:
        return Status(State.FAILED, False, "its agents did not start; `headway logs` tells why")
    return Status(State.INTERRUPTED, False, "" if told is State.INTERRUPTED else "its agents died")


def waits_for(record: Record) -> str:
    """Why it waits: SLURM's reason, and what that means where it isn't plain."""
    meant = {
        "Priority": "others come first",
        "Resources": "for nodes to get free",
        "BeginTime": "a moment, as it was queued again",
        "Dependency": "for another batch job",
        "PartitionNodeLimit": "the partition has fewer nodes",
        "PartitionTimeLimit": "the partition allows less time",
        "ReqNodeNotAvail": "nodes that are down or reserved",
        "JobHeldAdmin": "held by an administrator",
        "JobHeldUser": "held by hand; `scontrol release` lets it go",
    }
    reason = record.reason.strip("()").partition(",")[0]  # after it come nodes
    if reason in ("", "None"):
        return ""  # it has just come
    return f"in SLURM's queue: {reason}" + (f", {meant[reason]}" if reason in meant else "")
