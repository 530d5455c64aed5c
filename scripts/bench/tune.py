"""What a study itself costs: trials a second against bare Ray Tune, a suggestion late in a study, memory, two at a time.

    python scripts/bench/tune.py [--quick] [--only rate,suggestion,memory,cores]

rate        trials that end at once (no_op.py), ours and bare Ray Tune's in turn on one running Ray: `OptunaSearch` with the
            same sampler, a function trainable that reports once, as many at a time; both from the call of `fit` to its end
suggestion  `Asker.ask` after 500 trials, the storage in place
memory      the driver's resident memory along 2,000 trials
cores       jobs of one worker on two cores: the rate of two at a time against twice that of one at a time
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from no_op import loss_at
from pairing import head, in_turn, row

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(ROOT), os.environ.get("PYTHONPATH", "")])

SPANNED = "algorithm.lr=tag(log,interval(1e-4,1))"
AT_ONCE = 2
PART = ("rate", "suggestion", "memory", "cores")


def facts_of(*overrides: str) -> dict[str, Any]:
    """What `headway tune` would write down for a study with these overrides."""
    from trainer.config.compose import compose, register
    from trainer.tuning.options import StudySchema
    from trainer.tuning.planning import planned
    from trainer.tuning.spaces.grammar import split

    register("headway_tune_schema", StudySchema)
    plain, spanned = split([SPANNED, "algorithm=linear", "data=digits", *overrides])
    return planned(compose(plain, space=True, name="tune"), spanned, plain).facts


@contextlib.contextmanager
def study_of(folder: Path, *overrides: str) -> Iterator[Any]:
    """A study of trials that end at once, and its engine."""
    from trainer.tuning.drive import engine_of
    from trainer.tuning.study import held

    no_op = ["launcher._target_=no_op.NoOp", f"study.dir={folder}", *overrides]
    with held(folder, facts_of(*no_op)) as study:
        yield engine_of(study)


def ours(trials: int, search: str, scratch: Path, look: Any = lambda: None) -> float:
    """Seconds that so many trials take."""
    from trainer.tuning.ray.driver import drive

    folder = Path(tempfile.mkdtemp(dir=scratch))
    with study_of(folder / "study", f"tune.trials={trials}", f"search={search}") as engine:
        settings = {"retries": 0, "folder": os.getcwd(), "path": [], "env": {}}
        began = time.perf_counter()
        drive(engine, lambda workers: {"CPU": 1.0}, AT_ONCE, settings, folder, look=look)
        took = time.perf_counter() - began
        done = sum(trial.state.name == "COMPLETE" for trial in engine.study.trials())
        assert done == trials, f"{done} of {trials} trials"
    return took


def bare(trials: int, search: str, scratch: Path, loggers: bool = False) -> float:
    """Seconds that as many take in Ray Tune alone; `loggers`: with the files that it writes unless it is told not to."""
    import optuna
    from optuna.distributions import FloatDistribution
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    from trainer.tuning.samplers.sampler import choose
    from trainer.tuning.spaces.parameter import Parameter
    from trainer.tuning.spaces.space import Space

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it misses its log files
    space = Space((Parameter("algorithm.lr", "float", 1e-4, 1.0, "log"),))
    make = choose(search, space, None, 1, False).make
    assert make is not None

    def trainable(config: dict[str, Any]) -> None:
        tune.report({"loss": (config["algorithm.lr"] - 0.1) ** 2})

    asked = OptunaSearch(
        {"algorithm.lr": FloatDistribution(1e-4, 1.0, log=True)}, metric="loss", mode="min", sampler=make(0, 0)
    )
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"CPU": 1}),
            tune_config=tune.TuneConfig(
                search_alg=asked, num_samples=trials, max_concurrent_trials=AT_ONCE, reuse_actors=True
            ),
            run_config=tune.RunConfig(name="bare", storage_path=folder, verbose=0),
        )
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "0" if loggers else "1"
        began = time.perf_counter()
        results = tuner.fit()
        took = time.perf_counter() - began
        assert len(results) == trials
        assert results.num_errors == 0
    return took


def rate(quick: bool, scratch: Path) -> None:
    """Trials a second; the ratio asked for is at least 0.9."""
    from trainer.tuning.ray.cluster import connected

    trials, rounds = (8, 1) if quick else (100, 3)
    with connected(None):
        head("trials/s", "ours / bare")
        for search, loggers in (("random", False), ("tpe", False), ("tpe", True)):
            pairs = in_turn(
                lambda s=search, files=loggers: trials / bare(trials, s, scratch, files),
                lambda s=search: trials / ours(trials, s, scratch),
                rounds,
                warm_up=0 if quick else 1,
            )
            how = "as it comes, with its log files" if loggers else "without its log files"
            row(f"{trials} trials that end at once, {search}; Ray Tune {how}", pairs, "≥ 0.9")


def filled(engine: Any, trials: int) -> None:
    """So many finished trials in the storage."""
    from optuna.trial import TrialState

    for _ in range(trials):
        frozen, values = engine.asker.ask()
        engine.study.note(frozen, values={"validation_loss": loss_at(values["algorithm.lr"])}, seconds=1.0)
        engine.study.optuna.tell(frozen.number, loss_at(values["algorithm.lr"]), state=TrialState.COMPLETE)


def suggestion(quick: bool, scratch: Path) -> None:
    """Seconds of a suggestion after many trials; asked: less than 0.3."""
    from trainer.tuning.samplers.sampler import Asker, choose

    trials, searches = (20, ("random", "tpe")) if quick else (500, ("random", "tpe", "gp", "bayes"))
    print(f"\n| a suggestion after {trials} trials | seconds, median of 5 | asked |\n|---|---|---|")
    with study_of(Path(tempfile.mkdtemp(dir=scratch)) / "study", "search=random") as engine:
        filled(engine, trials)
        for search in searches:
            asker = Asker(engine.study, engine.asker.space, choose(search, engine.asker.space, None, 1, False))
            times = []
            for _ in range(5):
                began = time.perf_counter()
                asker.ask()
                times.append(time.perf_counter() - began)
            print(f"| {search} | {statistics.median(times):.3f} | < 0.3 |", flush=True)


def resident() -> float:
    """MB that this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(quick: bool, scratch: Path) -> None:
    """The driver's memory along a study."""
    from trainer.tuning.ray.cluster import connected

    trials = 40 if quick else 2000
    seen: list[float] = []
    with connected(None):
        ours(4, "random", scratch)  # what is imported is there
        took = ours(trials, "random", scratch, look=lambda: seen.append(resident()))
    quarter = [seen[min(len(seen) - 1, len(seen) * k // 4)] for k in range(5)]
    told = [f"{megabytes:.0f}" for megabytes in quarter]
    print(f"\n| driver, {trials:,} trials | start | ¼ | ½ | ¾ | end | trials/s |\n|---|---|---|---|---|---|---|")
    print(f"| MB resident | {' | '.join(told)} | {trials / took:.1f} |", flush=True)


def cores(quick: bool, scratch: Path) -> None:
    """Real jobs on two cores: two at a time against twice one at a time; asked: at least 0.9 of that."""
    import subprocess

    from trainer.tuning.record import read

    trials, epochs = (4, 1) if quick else (10, 60)

    def rate_of(parallel: int) -> float:
        """Trials a second once all that start cold have ended."""
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            command = [sys.executable, "-m", "trainer", "tune", SPANNED, "algorithm=linear", "data=digits"]
            command += [f"tune.trials={trials}", f"tune.parallel={parallel}", "search=random", "tracking=none"]
            command += [f"train.epochs={epochs}", f"study.dir={folder}/study"]
            subprocess.run(command, check=True, capture_output=True, cwd=folder)
            ends = sorted(trial.ended or 0.0 for trial in read(Path(folder) / "study").trials)
            return (len(ends) - parallel) / (ends[-1] - ends[parallel - 1])

    head("trials/s", "two at a time / twice one at a time")
    pairs = in_turn(lambda: 2 * rate_of(1), lambda: rate_of(2), 1 if quick else 3, warm_up=0)
    row(f"{trials} jobs of linear on digits, {epochs} epochs", pairs, "≥ 0.9")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few trials: whether it works, not what it costs")
    parser.add_argument("--only", default=",".join(PART), help=f"of {', '.join(PART)}")
    args = parser.parse_args()
    parts = {"rate": rate, "suggestion": suggestion, "memory": memory, "cores": cores}
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.only.split(","):
            parts[name](args.quick, Path(scratch))


if __name__ == "__main__":
    main()
