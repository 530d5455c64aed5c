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

from curves import SEED, Curve, Task, cache_folder, curves_of, reports_of, tasks
from optuna.trial import TrialState

from trainer.tuning.options import SchedulerConfig
from trainer.tuning.scheduler import scheduler_of
from trainer.tuning.study import held

AT_ONCE = 8
WITHIN = 0.01
SHARE = 0.25
SCHEDULERS: dict[str, dict[str, Any]] = {"asha": {}, "hyperband": {"reduction": 3}, "median": {}}


def simulated(
    name: str, curves: list[Curve], metric: tuple[str, str], epochs: int, folder: Path
) -> tuple[float, list[float]]:
    """Epochs trained, and the last values of the trials that were trained to their ends."""
    facts = {
        "name": "bench", "metrics": [metric[0]], "goals": [metric[1]], "scheduler": name, "unit": "epochs", "seed": SEED,
        "base": {"train": {"epochs": epochs, "validate_every": None, "max_time": None, "max_steps": None}},
        "space": {"parameters": {}}, "options": {},
    }  # fmt: skip
    trained, values = 0.0, []
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
                values.append(value)
                study.optuna.tell(number, value)
            start(now)
    return trained, values


def row(task: Task, metric: tuple[str, str], name: str, curves: list[Curve], orders: int) -> bool:
    """Prints a line of the table. Returns whether the demand is met in every order."""
    whole = sum(curve[-1][0] for curve in curves)
    best = max if metric[1] == "max" else min
    aim = best(curve[-1][1] for curve in curves if math.isfinite(curve[-1][1]))
    shares, gaps = [], []
    for order in range(orders):
        shuffled = list(curves)
        random.Random(order).shuffle(shuffled)
        with tempfile.TemporaryDirectory() as place:
            trained, values = simulated(name, shuffled, metric, task.epochs, Path(place) / "study")
        shares.append(trained / whole)
        gaps.append(abs(best(values) / aim - 1) if values else math.inf)
    within, cheap = (sum(x <= bound for x in found) for found, bound in ((gaps, WITHIN), (shares, SHARE)))
    print(
        f"| {task.name}, {metric[0]} | {name} | {statistics.mean(shares):.2f} ({min(shares):.2f} to {max(shares):.2f}) "
        f"| {100 * statistics.median(gaps):.2f} ({100 * max(gaps):.2f}) | {within} | {cheap} |",
        flush=True,
    )
    return within == cheap == orders


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=27)
    parser.add_argument("--orders", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="a few points and orders: shows only that it works")
    args = parser.parse_args()
    points, orders = (6, 2) if args.quick else (args.points, args.orders)
    folder = cache_folder()
    print(f"\n{points} points each, {AT_ONCE} at a time, {orders} orders.\n")
    print(
        "| curves | scheduler | epochs, share of full training: mean (range) | best value, % worse: median (most) "
        "| orders within 1 % | within a quarter of the epochs |"
    )
    print("|---|---|---|---|---|---|")
    met = True
    for task in tasks(folder)[: 1 if args.quick else None]:
        reports = reports_of(task, points, folder)
        for metric in task.metrics:
            curves = curves_of(reports, metric[0], task.epochs)
            for name in SCHEDULERS:
                met &= row(task, metric, name, curves, orders) or name != "asha"
    return 0 if met or args.quick else 1


if __name__ == "__main__":
    sys.exit(main())
