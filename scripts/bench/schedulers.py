"""How much training early stopping saves, and what it misses: `scheduler=asha`, `hyperband` and `median` on learning curves
of `linear` and `gpt`.

Random points of a space are each trained once to their end by the worker's own code (scripts/bench/curves.py). Then the
study's own scheduler and storage are driven over these curves: 8 trials at a time, an epoch lasting as long for all, over
several orders of the points. Asked of asha: the best value of full training within 1 %, for a quarter of the epochs at most.
The learning rates fall along a cosine to the end of a whole training, so no curve is one of a shorter training.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from curves import METRIC, SEED, Curve, cache_folder, curves_of, tasks
from optuna.trial import TrialState

from trainer.tuning.options import SchedulerConfig
from trainer.tuning.scheduler import scheduler_of
from trainer.tuning.study import held

AT_ONCE = 8
WITHIN = 0.01
SHARE = 0.25
SCHEDULERS: dict[str, dict[str, Any]] = {"asha": {}, "hyperband": {"reduction": 3}, "median": {}}


def simulated(name: str, curves: list[Curve], epochs: int, folder: Path) -> tuple[float, float]:
    """Epochs trained, and the best value of a trial that was trained to its end."""
    facts = {
        "name": "bench", "metrics": [METRIC], "goals": ["min"], "scheduler": name, "unit": "epochs", "seed": SEED,
        "base": {"train": {"epochs": epochs, "validate_every": None, "max_time": None, "max_steps": None}},
        "space": {"parameters": {}}, "options": {},
    }  # fmt: skip
    trained, best = 0.0, math.inf
    with held(folder, facts) as study:
        scheduler = scheduler_of(study, {**vars(SchedulerConfig()), "name": name, **SCHEDULERS.get(name, {})})
        rng, waiting = random.Random(SEED), iter(curves)
        moments: list[tuple[float, int, int]] = []  # when, trial, which of its reports
        running: dict[int, tuple[Any, Curve]] = {}

        def start(now: float) -> None:
            curve = next(waiting, None)
            if curve is None:
                return
            number = len(study.trials())
            study.storage.create_new_trial(study.optuna._study_id)
            running[number] = (study.trials()[number], curve)
            heapq.heappush(moments, (now + curve[0][0] * rng.uniform(0.8, 1.2), number, 0))

        for _ in range(AT_ONCE):
            start(0.0)
        while moments:
            now, number, index = heapq.heappop(moments)
            frozen, curve = running[number]
            epoch, value = curve[index]
            at = {"epochs": epoch, "steps": epoch * 100, "seconds": epoch, "total": epochs * 100}
            stopped = number in scheduler.decide(frozen, at, value)
            if not stopped and index + 1 < len(curve):
                length = curve[index + 1][0] - epoch
                heapq.heappush(moments, (now + length * rng.uniform(0.8, 1.2), number, index + 1))
                continue
            trained += epoch
            if stopped or not math.isfinite(value):
                state = TrialState.PRUNED if math.isfinite(value) else TrialState.FAIL
                study.optuna.tell(number, state=state)
            else:
                best = min(best, value)
                study.optuna.tell(number, value)
            start(now)
    return trained, best


def row(task: str, name: str, curves: list[Curve], epochs: int, orders: int) -> bool:
    """Prints a line of the table. Returns whether the demand is met."""
    whole = sum(curve[-1][0] for curve in curves)
    aim = min(curve[-1][1] for curve in curves)
    shares, gaps = [], []
    for order in range(orders):
        shuffled = list(curves)
        random.Random(order).shuffle(shuffled)
        with tempfile.TemporaryDirectory() as place:
            trained, best = simulated(name, shuffled, epochs, Path(place) / "study")
        shares.append(trained / whole)
        gaps.append(best / aim - 1)
    met = sum(gap <= WITHIN and share <= SHARE for gap, share in zip(gaps, shares, strict=True))
    print(
        f"| {task} | {name} | {statistics.mean(shares):.2f} ({max(shares):.2f}) | {100 * statistics.mean(gaps):.2f} "
        f"({100 * max(gaps):.2f}) | {met} of {orders} |",
        flush=True,
    )
    return met == orders


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=32)
    parser.add_argument("--orders", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="a few points and orders: shows only that it works")
    args = parser.parse_args()
    points, orders = (6, 2) if args.quick else (args.points, args.orders)
    folder = cache_folder()
    print(f"\n{points} points each, {AT_ONCE} at a time, {orders} orders.\n")
    print(
        "| curves | scheduler | epochs, share of full training: mean (most) | best value, % worse: mean (most) | both met |"
    )
    print("|---|---|---|---|---|")
    met = True
    for task in tasks(folder)[: 1 if args.quick else None]:
        curves = curves_of(task, points, folder)
        for name in SCHEDULERS:
            met &= row(task.name, name, curves, task.epochs, orders) or name != "asha"
    return 0 if met or args.quick else 1


if __name__ == "__main__":
    sys.exit(main())
