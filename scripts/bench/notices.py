"""What a step pays for being watched over: steps with the agent at work, and with it frozen, in turn in one job.

    python scripts/bench/notices.py [--quick]

The real command, told by variables that it is on AWS, GCP and Azure at once: its agent asks three metadata services
(trainer/testing/chaos/metadata.py) about notices, looks for hangs and waits for the workers' ends. Every two seconds it is
frozen by SIGSTOP, or goes on; the workers don't notice. Steps are counted in the beats.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pairing import Pairs, head, in_turn, row
from recovery import Running

METADATA = """
import sys, time
from trainer.testing.chaos.metadata import MetadataServer
server = MetadataServer().start()
print(*(f"{k}={v}" for k, v in server.environment().items()), flush=True)
sys.stdin.read()
print(len(server.requests), flush=True)
"""


def steps_in(running: Running, seconds: float) -> float:
    """Milliseconds a step, over about so many seconds."""
    first, started = running.steps()[0], time.perf_counter()
    time.sleep(seconds)
    last, ended = running.steps()[0], time.perf_counter()
    return (ended - started) * 1e3 / (last - first)


def compare(folder: Path, workers: int, arguments: list[str], rounds: int, block: float) -> Pairs:
    running = Running(folder, workers, arguments)
    agent = int(running.started["pid"])

    def frozen() -> float:
        os.kill(agent, signal.SIGSTOP)
        try:
            return steps_in(running, block)
        finally:
            os.kill(agent, signal.SIGCONT)

    try:
        running.first_step(0)
        time.sleep(1.0)
        return in_turn(frozen, lambda: steps_in(running, block), rounds)
    finally:
        running.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it works, not what it costs")
    args = parser.parse_args()
    rounds, block = (2, 1.0) if args.quick else (20, 2.0)
    server = subprocess.Popen(
        [sys.executable, "-c", METADATA], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    os.environ |= dict(pair.split("=", 1) for pair in server.stdout.readline().split())
    head("ms a step", "watched / unwatched")
    for workers in (1, 2):
        arguments = ["algorithm=linear", "data=digits", "train.epochs=1000000", "checkpoint.every=null"]
        with tempfile.TemporaryDirectory() as folder:
            pairs = compare(Path(folder), workers, arguments, rounds, block)
        what = f"linear on digits, {workers} worker{'s' if workers > 1 else ''}: agent frozen, agent watching"
        row(what, pairs, "1 within noise", digits=4)
    asked = server.communicate("")[0].strip()
    print(f"<!-- the metadata services were asked {asked} times -->")


if __name__ == "__main__":
    main()
