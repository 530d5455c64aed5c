"""How good search=bayes is at 50 and 100 trials, against Optuna's TPE (its default), Optuna's GP, and random.

    python scripts/bench/search.py [--quick] [--development] [--seeds N] [--only SAMPLER …] [--kept FILE]

Each task (search_tasks.py) is searched by each sampler with several seeds, one trial at a time, and eight at once: then
a trial takes a simulated time (log-normal, the same for all samplers), and a new one is asked for whenever one ends,
with seven under way.

A run's score after n trials is (R - y) / (R - B): y the best value it has found, B the best value known, and R what
random search is expected to have found after n trials, its median, computed exactly from a pool of random
evaluations. So 0 is random search, 1 the best known, and less than 0 worse than random (no less than -1 is counted, so
that no single task decides). B is the known minimum of a function, and for a model the best value among all
evaluations made for this table: the pool and every run of every sampler. A sampler's figure is the mean over tasks of
the mean over seeds; the interval is of 95 %, by bootstrap over tasks and then seeds.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import statistics
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

# before numpy is imported: two processes share two cores
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from search_tasks import DEVELOPMENT, HELD_OUT, Task

from trainer.tuning.samplers.bayesian.bayes import Bayes

BUDGETS = (50, 100)
AT_ONCE = (1, 8)
SAMPLERS = {
    "bayes": lambda seed: Bayes(seed),
    "tpe": lambda seed: TPESampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}
NAMES = {"bayes": "`search=bayes`", "tpe": "Optuna TPE", "gp": "Optuna GP", "random": "random"}
TASKS = {task.name: task for task in (*DEVELOPMENT, *HELD_OUT)}
PROCESSES = 2
POOL = "pool"  # in the place of a sampler: random evaluations, from which R follows


class Run(NamedTuple):
    """One search. trials at most, at_once of them under way."""

    task: str
    sampler: str
    seed: int
    at_once: int
    trials: int


def study_with(sampler: BaseSampler) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=sampler)


def search(run: Run) -> tuple[list[float], float]:
    """The values in the order in which the trials ended, and the seconds that asking took."""
    task = TASKS[run.task]
    if run.sampler == POOL:
        study = study_with(RandomSampler(seed=zlib.crc32(task.name.encode())))
        return [task.value(study.ask(task.space).params) for _ in range(run.trials)], 0.0
    study = study_with(SAMPLERS[run.sampler](run.seed))
    lengths = np.random.default_rng([run.seed, 1]).lognormal(0, 0.5, run.trials)
    under_way: list[tuple[float, int, optuna.Trial]] = []
    values: list[float] = []
    now = asking = 0.0
    for number in range(run.trials + run.at_once):
        if len(under_way) == run.at_once or number >= run.trials:
            if not under_way:
                break
            now, _, ended = heapq.heappop(under_way)
            values.append(task.value(ended.params))
            study.tell(ended, values[-1])
        if number < run.trials:
            began = time.perf_counter()
            trial = study.ask(task.space)
            asking += time.perf_counter() - began
            heapq.heappush(under_way, (now + lengths[number], number, trial))
    return values, asking


def timed(kind: str, trials: int) -> list[float]:
    """Seconds of each of ten suggestions after so many trials of hartmann6."""
    task = TASKS["hartmann6, 6"]
    study = study_with(SAMPLERS["random"](0))
    for _ in range(trials):
        trial = study.ask(task.space)
        study.tell(trial, task.value(trial.params))
    study.sampler = SAMPLERS[kind](0)
    taken = []
    for _ in range(10):
        began = time.perf_counter()
        trial = study.ask(task.space)
        taken.append(time.perf_counter() - began)
        study.tell(trial, task.value(trial.params))
    return taken


class Results:
    """Values and seconds of each run, kept in a file of JSON lines if one is given, so that a bench can go on."""

    def __init__(self, kept: Path | None) -> None:
        self.kept = kept
        self.found: dict[Run, tuple[list[float], float]] = {}
        if kept is not None and kept.exists():
            for line in kept.read_text().splitlines():
                run, values, seconds = json.loads(line)
                self.found[Run(*run)] = values, seconds

    def add(self, run: Run, values: list[float], seconds: float) -> None:
        self.found[run] = values, seconds
        if self.kept is not None:
            with self.kept.open("a") as file:
                file.write(json.dumps([run, values, seconds]) + "\n")

    def complete(self, runs: list[Run]) -> None:
        left = [run for run in runs if run not in self.found]
        with ProcessPoolExecutor(PROCESSES) as pool:
            done = {pool.submit(search, run): run for run in left}
            for i, future in enumerate(as_completed(done), 1):
                self.add(done[future], *future.result())
                if sys.stderr.isatty():
                    print(f"\r{i} of {len(left)} runs", end="", file=sys.stderr)

    def of(self, task: str, sampler: str) -> Iterator[tuple[Run, list[float]]]:
        return ((run, values) for run, (values, _) in self.found.items() if (run.task, run.sampler) == (task, sampler))


def median_of_best(pool: list[float], trials: int) -> float:
    """The median of the least of so many values drawn from the pool."""
    least = 1 - 0.5 ** (1 / trials)  # the quantile that the least of them is below half of the time
    return float(np.quantile(pool, least))


def scores(results: Results, task: Task, sampler: str, at_once: int, trials: int) -> list[float]:
    """Each seed's score."""
    known = [min(values) for run, (values, _) in results.found.items() if run.task == task.name]
    best = task.best if task.best is not None else min(known)
    usual = median_of_best(next(values for _, values in results.of(task.name, POOL)), trials)
    if sampler == "random":  # the pool's values follow one another as those of many searches do
        pool = next(values for _, values in results.of(task.name, POOL))
        runs = [(i, pool[i : i + trials]) for i in range(0, len(pool) - trials + 1, trials)]
    else:
        runs = sorted((run.seed, values) for run, values in results.of(task.name, sampler) if run.at_once == at_once)
    room = usual - best
    return [
        max(-1.0, min(1.0, (usual - min(values[:trials])) / room))
        if room > 1e-12
        else float(min(values[:trials]) <= best)
        for _, values in runs
    ]


def interval(by_task: list[list[float]]) -> tuple[float, float]:
    """The mean's, of 95 %: tasks are drawn anew, then seeds of each."""
    rng = np.random.default_rng(0)
    means = []
    for _ in range(2000):
        drawn = [by_task[i] for i in rng.integers(len(by_task), size=len(by_task))]
        means.append(np.mean([np.mean(rng.choice(seeds, len(seeds))) for seeds in drawn]))
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def table(results: Results, tasks: list[Task], samplers: list[str], budgets: tuple[int, ...]) -> None:
    """Each sampler's mean score, and how much greater the first one's is than each other's, task by task."""
    columns = [(at_once, trials) for at_once in AT_ONCE for trials in budgets]
    heads = [
        f"{trials} trials, {'one at a time' if at_once == 1 else f'{at_once} at once'}" for at_once, trials in columns
    ]
    print(f"\n| mean score of {len(tasks)} tasks (95 %) | {' | '.join(heads)} |\n|---|{'---|' * len(columns)}")
    found = {
        sampler: [[scores(results, task, sampler, at_once, trials) for task in tasks] for at_once, trials in columns]
        for sampler in samplers
    }

    def line(name: str, cells: list[list[list[float]]], sign: str = "") -> None:
        shown = [(statistics.mean(map(statistics.mean, cell)), *interval(cell)) for cell in cells]
        print(
            f"| {name} | {' | '.join(f'{m:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})' for m, low, high in shown)} |"
        )

    for sampler in samplers:
        line(NAMES[sampler], found[sampler])
    first, *others = samplers
    for other in others:
        pairs = [zip(a, b, strict=True) for a, b in zip(found[first], found[other], strict=True)]
        line(
            f"{NAMES[first]} less {NAMES[other]}",
            [[[statistics.mean(a) - statistics.mean(b)] for a, b in pair] for pair in pairs],
            "+",
        )


def by_task(results: Results, tasks: list[Task], samplers: list[str], trials: int) -> None:
    print(f"\n| score at {trials} trials, one at a time / eight at once | {' | '.join(NAMES[s] for s in samplers)} |")
    print(f"|---|{'---|' * len(samplers)}")
    for task in tasks:
        means = [[statistics.mean(scores(results, task, s, at_once, trials)) for at_once in AT_ONCE] for s in samplers]
        print(f"| {task.name} | {' | '.join(' / '.join(f'{m:.2f}' for m in pair) for pair in means)} |")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="two tasks, one seed: whether it works, not how good it is"
    )
    parser.add_argument("--development", action="store_true", help="the tasks that bayes was built on")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each")
    parser.add_argument("--only", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--kept", type=Path, help="JSON lines of the runs done; what is there is not done again")
    return parser.parse_args()


def main() -> None:
    args = parsed()
    tasks = list(DEVELOPMENT if args.development else HELD_OUT)
    budgets, pool, seeds = BUDGETS, 500, args.seeds
    if args.quick:
        tasks, budgets, pool, seeds = [tasks[0], tasks[-1]], (15,), 50, 1
    first = 0 if args.development else 100  # nor do the two groups share seeds
    results = Results(args.kept)
    runs: list[Any] = [Run(task.name, POOL, 0, 1, pool) for task in tasks]
    for seed in range(first, first + seeds):
        searched = [s for s in args.only if s != "random"]
        runs += [Run(t.name, s, seed, at_once, max(budgets)) for t in tasks for s in searched for at_once in AT_ONCE]
    results.complete(runs)
    table(results, tasks, args.only, budgets)
    by_task(results, tasks, args.only, max(budgets))
    print("\n| a suggestion after 500 trials, 6 numbers | median (most), s |\n|---|---|")
    for sampler in args.only:
        taken = timed(sampler, 50 if args.quick else 500)
        print(f"| {NAMES[sampler]} | {statistics.median(taken):.3f} ({max(taken):.3f}) |", flush=True)


if __name__ == "__main__":
    main()
