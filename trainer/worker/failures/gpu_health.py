"""Whether a worker's GPU is fit to train on: asked before the worker begins, so that a bad one is named at once."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from trainer.errors import HeadwayError
from trainer.job import node_state
from trainer.job.directory import Job
from trainer.worker.monitoring import devices, gpu_share
from trainer.worker.monitoring.devices import Device, Unreadable

FREEING_SECONDS = 10.0  # a worker that was killed may take this long to give its memory back
UNSEEN_SHARE = 0.25  # of the memory, held by nobody that can be seen: more than drivers and desktops take
ELSEWHERE = "choose another by CUDA_VISIBLE_DEVICES"
RESET = f"reset it (nvidia-smi --gpu-reset) or {ELSEWHERE}"


def refuse_unhealthy(local_rank: int, job: Job) -> None:
    """Raises HeadwayError if this worker's GPU can't be trusted, or somebody else holds its memory.

    Other workers of Headway's may, as whoever started them knows of them; and anybody, where the job was given a share.
    Call it before the worker has anything on the GPU itself. Where NVML can't be read, nothing is refused.
    """
    shared = gpu_share.granted() is not None
    try:
        device = devices.open_device(local_rank)
    except Unreadable as error:
        if not error.lost:
            return
        raise HeadwayError(f"GPU {local_rank} on {socket.gethostname()} is lost; {RESET}") from None
    reason = damage(device)
    if reason is None:
        reason = _held_for_long(device, job, shared)
        reason = None if shared else reason
    if reason:
        raise HeadwayError(f"{device} on {socket.gethostname()} is refused: {reason}")


def damage(device: Device) -> str | None:
    """What is broken about it and what to do, or None."""
    errors = device.ask("nvmlDeviceGetTotalEccErrors", 1, 0)
    if errors:
        return f"uncorrectable memory errors since its driver was loaded: {errors}; {RESET}"
    _, _, pending, failed = device.ask("nvmlDeviceGetRemappedRows") or (0, 0, 0, 0)
    if failed:
        return f"a broken row of its memory could not be remapped; have it replaced, and {ELSEWHERE}"
    if pending or device.ask("nvmlDeviceGetRetiredPagesPendingStatus"):
        return f"broken memory waits to be taken out of use; {RESET}"
    return None


def holder(device: Device, job: Job, shared: bool) -> str | None:
    """Who holds its memory and shouldn't, and what to do, or None. Desktops, which hold a little, are let be.

    shared: all may, but for those of this job that are about to leave.
    """
    processes = [p for p in device.ask("nvmlDeviceGetComputeRunningProcesses") or [] if p.pid != os.getpid()]
    others = [p for p in processes if not _may(p.pid, job, shared)]
    if others:
        first = max(others, key=_bytes)
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        held = sum(map(_bytes, others))
        amount = f"{held / 2**30:.1f} GiB" if held else "some"
        return f"process {first.pid}{_command(first.pid)}{more} holds {amount} of its memory; end it, or {ELSEWHERE}"
    memory = device.memory()
    if memory is None or shared or any(not _bytes(p) for p in processes):
        return None
    known = sum(map(_bytes, [*processes, *(device.ask("nvmlDeviceGetGraphicsRunningProcesses") or [])]))
    unseen = memory.used - known
    if unseen > UNSEEN_SHARE * memory.total:
        what = f"{unseen / 2**30:.1f} GiB of its memory are held by a process that can't be seen from here"
        return f"{what}, as in another container; end it, or {ELSEWHERE}"
    return None


def _may(pid: int, job: Job, shared: bool) -> bool:
    """Whether a process may hold memory of this worker's GPU: workers of other jobs, and those of this one that train
    now. What an attempt before has left is waited for. Of a warm agent's workers the environment names its first job;
    they have one parent."""
    found = node_state.job_of(pid)
    if found == job.dir.resolve() or node_state.parent_of(pid) == os.getppid():
        return pid in job.workers()
    return shared or found is not None


def _held_for_long(device: Device, job: Job, shared: bool) -> str | None:
    until = time.monotonic() + FREEING_SECONDS
    while (reason := holder(device, job, shared)) and time.monotonic() < until:
        time.sleep(0.2)
    return reason


def _bytes(process: Any) -> int:
    return int(process.usedGpuMemory or 0)


def _command(pid: int) -> str:
    try:
        return f" ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    except OSError:
        return ""
