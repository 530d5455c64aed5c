"""A real SLURM on this machine, as its user and its enemy."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from trainer.job.directory import Job, read_json


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def number_of(job: Job) -> str:
    return str((read_json(job.dir / "slurm.json") or {})["id"])


def nodes_of(job: Job) -> list[str]:
    return run(
        "scontrol", "show", "hostnames", run("squeue", "--noheader", f"--jobs={number_of(job)}", "--format=%N")
    ).split()


def lose(slurm: Path, node: str) -> None:
    """Kills all that SLURM runs on a node, as if the machine were gone."""
    pids = {int((slurm / f"run/slurmd-{node}.pid").read_text())}
    for process in (path for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            told = (process / "environ").read_bytes().split(b"\0")
            if f"SLURMD_NODENAME={node}".encode() in told:
                pids |= {int(process.name), *step_of(process)}
        except OSError:
            continue
    # all are stopped first: a slurmstepd that sees its task die would tell, and a lost machine can't. The youngest are
    # killed first, as those who are stopped and lose their parent hear of it
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in sorted(pids, reverse=True):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def step_of(process: Path) -> list[int]:
    """The slurmstepd that started a process: its own environment doesn't name the node."""
    status = (process / "status").read_text()
    parent = Path("/proc", status.partition("PPid:")[2].split()[0])
    return [int(parent.name)] if (parent / "comm").read_text().strip() == "slurmstepd" else []
