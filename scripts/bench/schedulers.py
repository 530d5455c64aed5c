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
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curves import SEED, Curve, Task, cache_folder, curves_of, reports_of, tasks
from optuna.trial import TrialState

from trainer.job import checkpoint
from trainer.job.directory import write_json
from trainer.tuning.options import SchedulerConfig, TuneConfig
from trainer.tuning.schedulers.choice import scheduler_of
from trainer.tuning.schedulers.scheduler import Scheduler
from trainer.tuning.study import Study, held

AT_ONCE = 8
WITHIN = 0.01
SHARE = 0.25
SCHEDULERS: dict[str, dict[str, Any]] = {"asha": {}, "hyperband": {"reduction": 3}, "median": {}}


@dataclass
class Trial:
    """One that trains. index: its next report on the curve; begun: the epoch that it goes on from."""

    frozen: Any
    curve: Curve
    index: int = 0
    begun: float = 0.0


class Trainings:
    """Trials under one scheduler, each as fast as the others but for a fifth."""

    def __init__(self, study: Study, scheduler: Scheduler, curves: list[Curve], epochs: int) -> None:
        self.trained, self.ended = 0.0, list[float]()  # epochs; last values of those that were trained to their ends
        self._study, self._scheduler, self._epochs = study, scheduler, epochs
        self._waiting, self._curves = iter(curves), dict[int, Curve]()
        self._moments: list[tuple[float, int, Trial]] = []
        self._rng = random.Random(SEED)

    def run(self) -> None:
        for _ in range(AT_ONCE):
            self._start(0.0)
        while self._moments:
            now, _, trial = heapq.heappop(self._moments)
            if self._report(trial):
                trial.index += 1
                self._go_on(now, trial)
            else:
                for _ in range(AT_ONCE - len(self._moments)):  # others may have waited for what this one says
                    self._start(now)

    def _start(self, now: float) -> None:
        found = self._scheduler.successor()
        if found is not None:
            parent = self._study.trials()[found[0].user_attrs["parent"]]
            curve, begun = self._curves[parent.number], float(max(parent.intermediate_values))
            trial = Trial(found[0], curve, sum(epoch <= begun for epoch, _ in curve), begun)
        else:
            curve = next(self._waiting, [])
            if not curve:
                return
            storage = self._study.storage
            frozen = storage.get_trial(storage.create_new_trial(self._study.optuna._study_id))
            self._study.note(frozen, config={})
            trial = Trial(frozen, curve)
        self._curves[trial.frozen.number] = trial.curve
        self._study.note(trial.frozen, job=str(trial.frozen.number))
        self._go_on(now, trial)

    def _go_on(self, now: float, trial: Trial) -> None:
        before = trial.curve[trial.index - 1][0] if trial.index else 0.0
        length = (trial.curve[trial.index][0] - before) * self._rng.uniform(0.8, 1.2)
        heapq.heappush(self._moments, (now + length, trial.frozen.number, trial))

    def _report(self, trial: Trial) -> bool:
        """A report of its curve. Whether it goes on."""
        number, (epoch, value) = trial.frozen.number, trial.curve[trial.index]
        at = {"epochs": epoch, "steps": epoch * 100, "seconds": epoch, "total": self._epochs * 100}
        stopped = number in self._scheduler.decide(trial.frozen, at, value)
        if not stopped and trial.index + 1 < len(trial.curve):
            return True
        self.trained += epoch - trial.begun
        job = self._study.job(self._study.trials()[number])
        checkpoint.begin(job.checkpoints, int(epoch * 100))
        checkpoint.commit(job.checkpoints, int(epoch * 100), "", {})  # of it another may go on
        write_json(job.progress_path, {"total": self._epochs * 100})
        if not math.isfinite(value):
            self._study.optuna.tell(number, state=TrialState.FAIL)
        elif stopped:
            self._study.optuna.tell(number, state=TrialState.PRUNED)
        else:
            self._study.optuna.tell(number, value)
            self.ended.append(value)
        return False


def simulated(
    name: str, curves: list[Curve], metric: tuple[str, str], epochs: int, folder: Path
) -> tuple[float, list[float]]:
    """Epochs trained, and the last values of the trials that were trained to their ends."""
    facts = {
        "name": "bench", "metrics": [metric[0]], "goals": [metric[1]], "scheduler": name, "unit": "epochs", "seed": SEED,
        "base": {"train": {"epochs": epochs, "validate_every": None, "max_time": None, "max_steps": None}},
        "space": {"parameters": {}}, "options": {"tune": {**vars(TuneConfig()), "trials": len(curves)}},
    }  # fmt: skip
    with held(folder, facts) as study, study.journal.together():  # made durable at the end: nothing is lost here
        options = {**vars(SchedulerConfig()), "name": name, **SCHEDULERS[name]}
        trainings = Trainings(study, scheduler_of(study, options), curves, epochs)
        trainings.run()
    return trainings.trained, trainings.ended


def row(task: Task, metric: tuple[str, str], name: str, curves: list[Curve], orders: int) -> None:
    """Prints a line of the table."""
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


def main() -> None:
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
    for task in tasks(folder)[: 1 if args.quick else None]:
        reports = reports_of(task, points, folder)
        for metric in task.metrics:
            curves = curves_of(reports, metric[0], task.epochs)
            for name in SCHEDULERS:
                row(task, metric, name, curves, orders)


if __name__ == "__main__":
    main()
