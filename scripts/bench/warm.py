"""Jobs that follow one another: from the end of one to the next one's first step, in a warm agent, against a cold start.

    python scripts/bench/warm.py [--quick]

bare: a job alone, from when it is submitted to its first report, its agent and workers started for it. ours: from the
last event of a job to the first report of the next one, submitted by the same process as soon as the first has left.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

from pairing import Pairs, head, in_turn, row

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.config import schema
from trainer.config.compose import compose
from trainer.config.instantiate import build
from trainer.job.directory import Job, State
from trainer.submission.place import place
from trainer.submission.submit import write

CASES = {
    "linear on digits, 1 worker": ["algorithm=linear", "data=digits", "train.max_steps=40"],
    "the same, 2 workers": ["algorithm=linear", "data=digits", "train.max_steps=40", "launcher.workers=2"],
    "xgboost on breast_cancer": ["algorithm=xgboost", "data=breast_cancer", "algorithm.rounds=5"],
}
numbers = count()


def run(folder: Path, overrides: list[str], *, warm: bool) -> tuple[Job, float]:
    """A job from its config to its end, and when it was begun with."""
    config = schema.check(compose([*overrides, "train.log_every=1", f"job.dir={folder}/job-{next(numbers)}"]))
    return submit(config, warm=warm)


def submit(config: dict[str, Any], *, warm: bool) -> tuple[Job, float]:
    began = time.time()
    launcher = build(config["launcher"], "launcher")
    if warm:
        launcher.keep_warm()
    placed = place(config)
    job, plan = placed.job, launcher.plan(placed.job)
    write(job, placed.config, is_new=placed.before is None)
    launcher.submit(job, plan)
    launcher.wait(job, timeout=300)
    assert job.state() is State.COMPLETED, job.events()
    return job, began


def first_step(job: Job) -> float:
    return float(job.metrics()[0]["time"])


def cold(folder: Path, overrides: list[str]) -> float:
    job, began = run(folder, overrides, warm=False)
    return first_step(job) - began


def warm(folder: Path, overrides: list[str], parts: dict[str, list[float]]) -> float:
    settings = [*overrides, "train.log_every=1", f"job.dir={folder}/job-{next(numbers)}"]
    config = schema.check(compose(settings))  # a tuner has the next trial at hand
    before, _ = run(folder, overrides, warm=True)
    job, began = submit(config, warm=True)
    events = {event["state"]: event["time"] for event in job.events()}
    at = {
        "the agent has left the job before": began,
        "written, submitted, taken": events["Starting"],
        "workers forked, met, data opened, model built": events["Running"],
        "first step": first_step(job),
    }
    since = ended = float(before.last_event()["time"])
    for name, when in at.items():
        parts.setdefault(name, []).append(when - since)
        since = when
    return first_step(job) - ended


def case(overrides: list[str], rounds: int) -> tuple[Pairs, dict[str, list[float]]]:
    parts: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return in_turn(lambda: cold(folder, overrides), lambda: warm(folder, overrides, parts), rounds), parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it works, not what it costs")
    args = parser.parse_args()
    head("s")
    found = {}
    for what, overrides in CASES.items():
        pairs, found[what] = case(overrides, 2 if args.quick else 9)
        row(f"from a job's end to the next one's first step: {what}", pairs, "at most 1.3", digits=3)
    print(f"\n| on the way, seconds (median) | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    for name in next(iter(found.values())):
        print(f"| {name} | {' | '.join(f'{statistics.median(parts[name]):.3f}' for parts in found.values())} |")


if __name__ == "__main__":
    main()
