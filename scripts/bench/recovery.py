"""From the SIGKILL of a worker to the next step, against a cold start of the same job's workers.

    python scripts/bench/recovery.py [--quick]

The real command. A cold start counts from the agent's first act for the workers (its event Starting) to the first step
done by all of them; a recovery from the kill of one of them, at a moment drawn by chance, to the next step done by all.
Steps are seen in the beats that the agent watches. Each round is a job: its cold start, then kills.
"""

from __future__ import annotations

import argparse
import itertools
import mmap
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pairing import Pairs, head, row

from trainer.job.directory import Job, State, read_json
from trainer.job.node_state import UNSTARTED

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
TEXT = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"
PATIENCE = 120.0
LOOK = 0.001
PARTS = (
    "its death seen, the others ended",
    "workers started again",
    "joined, data opened, checkpoint taken up",
    "first step",
)


@dataclass
class Times:
    """Seconds of each round, and where those of each recovery went."""

    pairs: Pairs = field(default_factory=Pairs)
    all: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PARTS})


class Running:
    """A job by the real command, watched from outside."""

    def __init__(self, folder: Path, workers: int, arguments: list[str]) -> None:
        self.job, self.workers = Job(folder / "job"), workers
        command = [str(BIN / "headway"), "train", *arguments, f"launcher.workers={workers}", f"job.dir={self.job.dir}"]
        command += ["launcher.max_restarts=1000"]
        output = open(folder / "output", "w")  # noqa: SIM115 - the process has it
        self.process = subprocess.Popen(command, stdout=output, stderr=output)
        self.started = self.until(lambda: self.events(State.STARTING))[-1]
        self.beats = self.until(self._beats)

    def _beats(self) -> memoryview | None:
        try:
            with open(Path(self.started["folder"]) / "beats", "rb") as file:
                found = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)).cast("q")
        except (FileNotFoundError, ValueError):
            return None
        return found if len(found) == 2 * self.workers else None

    def until(self, said: Callable[[], Any]) -> Any:
        end = time.monotonic() + PATIENCE
        while not (found := said()):
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(f"the job did not go on: {self.job.last_event()}")
            time.sleep(LOOK)
        return found

    def events(self, state: State) -> list[dict[str, Any]]:
        return [event for event in self.job.events() if event["state"] == state]

    def steps(self) -> list[int]:
        return list(self.beats[::2])

    def first_step(self, life: int) -> float:
        """When all workers have done a step in this life of theirs, by the clock; the events tell where it began."""
        running = self.until(lambda: self.events(State.RUNNING)[life:])[0]
        self.until(lambda: min(self.steps()) > running["step"])
        return time.time()

    def kill(self, life: int) -> tuple[float, list[float]]:
        """Kills one of the workers. Seconds to the next step, and its parts."""
        pids = read_json(self.job.logs / "node-0.json")["workers"]
        killed = time.time()
        os.kill(random.choice(pids), signal.SIGKILL)
        self.until(lambda: UNSTARTED in self.steps() or self.events(State.INTERRUPTED)[life - 1 :])
        stepped = self.first_step(life)
        states = (State.INTERRUPTED, State.STARTING, State.RUNNING)
        interrupted, starting, running = (self.events(s)[life if s != State.INTERRUPTED else life - 1] for s in states)
        at = [killed, interrupted["time"], starting["time"], running["time"], stepped]
        return stepped - killed, [b - a for a, b in itertools.pairwise(at)]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)


def rounds(arguments: list[str], workers: int, jobs: int, kills: int) -> Times:
    times = Times()
    for _ in range(jobs):
        with tempfile.TemporaryDirectory() as folder:
            running = Running(Path(folder), workers, arguments)
            try:
                cold = running.first_step(0) - running.started["time"]
                took = []
                for life in range(1, kills + 1):
                    time.sleep(random.uniform(0.2, 3.0))
                    seconds, parts = running.kill(life)
                    took.append(seconds)
                    for name, part in zip(PARTS, parts, strict=True):
                        times.parts[name].append(part)
            finally:
                running.stop()
        times.pairs.bare.append(cold)
        times.pairs.ours.append(statistics.median(took))
        times.all += took
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it works, not what it costs")
    args = parser.parse_args()
    jobs, kills = (1, 2) if args.quick else (7, 3)
    text = TEXT if TEXT.exists() else ROOT / "CHANGELOG.md"
    endless = ["train.epochs=1000000", "checkpoint.every=1s"]
    cases = {
        "linear on digits, 1 worker": (["algorithm=linear", "data=digits", *endless], 1),
        "linear on digits, 2 workers": (["algorithm=linear", "data=digits", *endless], 2),
        "GPT, 0.9 M weights, 2 workers": (["algorithm=gpt", "data=text", f"data.train={text}", *endless], 2),
    }
    head("s")
    found = {}
    for name, (arguments, workers) in cases.items():
        found[name] = times = rounds(arguments, workers, jobs, kills)
        row(f"{name}: kill to the next step, against a cold start", times.pairs, "at most 1.5", digits=2)
        print(f"<!-- shortest {min(times.all):.2f} s, longest {max(times.all):.2f} s of {len(times.all)} -->")
    print(f"\n| on the way, seconds (median) | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    for part in PARTS:
        medians = [f"{statistics.median(times.parts[part]):.3f}" for times in found.values()]
        print(f"| {part} | {' | '.join(medians)} |")


if __name__ == "__main__":
    main()
