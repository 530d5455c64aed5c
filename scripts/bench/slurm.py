"""What launcher=slurm adds to SLURM: submitting, following, starting, sweeping.

    eval "$(scripts/slurm-cluster env)"; python scripts/bench/slurm.py [submit follow start sweep]

submit   seconds of a submission over sbatch of the same script, within a process; and of the whole command
follow   calls of squeue a second while 500 jobs are followed by 4 processes at once
start    seconds from the scheduler's start of a job to its first step, over those of the local launcher
sweep    a sweep of 100 short jobs, 4 at a time, over the ideal: the jobs' own lengths, from SLURM's start of each, by 4
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from launchers.slurm.launcher import Slurm
from trainer.job.directory import Job, State, read_json, write_json

QUICK = ["algorithm=linear", "data=digits", "train.max_steps=20", "tracking=none"]
TIMES, FOLLOWED, FOLLOWERS, SECONDS, JOBS, SLOTS = 7, 500, 4, 20.0, 100, 4


def headway(*arguments: str) -> float:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "trainer", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.perf_counter() - began


def sbatch(script: Path) -> float:
    began = time.perf_counter()
    subprocess.run(["sbatch", "--hold", str(script)], capture_output=True, check=True)
    return time.perf_counter() - began


def submit() -> None:
    bare, ours, whole = [], [], []
    launcher = Slurm(extra={"hold": True})
    for i in range(TIMES):
        job = Job(Path(f"submit-{i}").absolute())
        job.logs.mkdir(parents=True)
        began = time.perf_counter()
        launcher.submit(job, launcher.plan(job))
        ours.append(time.perf_counter() - began)
        bare.append(sbatch(job.dir / "job.sbatch"))
        whole.append(
            headway("train", *QUICK, "launcher=slurm", "+launcher.extra.hold=true", "job.detach=true", f"job.name=s{i}")
        )
    subprocess.run(["scancel", "--me"], check=True)
    a, b, c = map(statistics.median, (bare, ours, whole))
    print(
        f"submit  sbatch {a:.3f} s; ours {b:.3f} s, {b - a:+.3f} s over it; the whole command {c:.3f} s, {c - a:+.3f} s"
    )


FOLLOW = """
import sys, time
from pathlib import Path
from launchers.slurm import Slurm
from trainer.job.directory import Job
jobs, launcher = [Job(path) for path in sorted(Path(sys.argv[1]).iterdir())], Slurm()
end, looks = time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < end:
    assert all(launcher.status(job).alive for job in jobs)
    looks += 1
    time.sleep(0.1)
print(looks)
"""


def follow() -> None:
    folder, tools = Path("followed").absolute(), Path("tools").absolute()
    tools.mkdir()
    real = subprocess.run(["which", "squeue"], capture_output=True, text=True, check=True).stdout.strip()
    (tools / "squeue").write_text(f'#!/bin/sh\necho >>"{tools}/calls"\nexec {real} "$@"\n')
    (tools / "squeue").chmod(0o755)
    many = ["sbatch", "--parsable", "--hold", f"--array=0-{FOLLOWED - 1}", "--wrap=true"]
    number = subprocess.run(many, capture_output=True, text=True, check=True).stdout.strip()
    for i in range(FOLLOWED):
        job = Job(folder / f"{i:03d}")
        job.dir.mkdir(parents=True)
        job.add_event(State.PENDING)
        write_json(job.dir / "slurm.json", {"id": f"{number}_{i}", "time": time.time()})
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    command = [sys.executable, "-c", FOLLOW, str(folder), str(SECONDS)]
    processes = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(FOLLOWERS)]
    looks = sum(int(process.communicate()[0]) for process in processes)
    subprocess.run(["scancel", "--me"], check=True)
    calls = (tools / "calls").read_text().count("\n")
    print(
        f"follow  {FOLLOWED} jobs, {FOLLOWERS} processes, {looks * FOLLOWED} questions: a call of squeue every {SECONDS / calls:.1f} s"
    )


def first_step(job: Job, since: float) -> float:
    return next(float(e["time"]) for e in job.events() if e["state"] == State.RUNNING) - since


def start() -> None:
    ratios = []
    for i in range(TIMES):
        headway("train", *QUICK, f"job.name=here-{i}")
        headway("train", *QUICK, "launcher=slurm", f"job.name=there-{i}")
        here, there = (Job(Path(f"runs/{name}-{i}").absolute()) for name in ("here", "there"))
        local = first_step(here, here.events()[0]["time"])
        began = float((read_json(there.dir / "slurm.json") or {})["time"])  # written by the batch script as it starts
        ratios.append((first_step(there, began), local))
    a, b = (statistics.median(values) for values in zip(*ratios, strict=True))
    ratio = statistics.median(x / y for x, y in ratios)
    print(f"start   to the first step: SLURM {a:.2f} s, here {b:.2f} s; ratio {ratio:.2f}")


def sweep() -> None:
    seeds = ",".join(map(str, range(JOBS)))
    own = ["hydra/launcher=headway", f"hydra.launcher.parallel={SLOTS}", "job.name=sweep"]
    took = headway("train", "-m", *QUICK, "launcher=slurm", f"seed={seeds}", *own)
    jobs = [Job(path.absolute()) for path in Path("runs/sweep").iterdir()]
    lengths = [job.events()[-1]["time"] - float((read_json(job.dir / "slurm.json") or {})["time"]) for job in jobs]
    ideal = sum(lengths) / SLOTS
    print(f"sweep   {JOBS} jobs, {SLOTS} at a time: {took:.1f} s; ideal {ideal:.1f} s; ratio {took / ideal:.2f}")


def main() -> None:
    if "SLURM_CONF" not in os.environ:
        sys.exit('start a cluster first: scripts/slurm-cluster up; eval "$(scripts/slurm-cluster env)"')
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in sys.argv[1:] or ["submit", "follow", "start", "sweep"]:
            {"submit": submit, "follow": follow, "start": start, "sweep": sweep}[name]()
        os.chdir("/")


if __name__ == "__main__":
    main()
