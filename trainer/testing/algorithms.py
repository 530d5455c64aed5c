"""What an algorithm must keep, as tests of the real command. A plugin runs them on its own:

    from trainer.testing.algorithms import AlgorithmSuite

    class TestMine(AlgorithmSuite):
        overrides = ["algorithm=mine", "data=digits"]

`headway check algorithm=mine` runs the same points. They need a minute at most.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from trainer.errors import ExitCode, HeadwayError, UserError
from trainer.job.directory import Job, State, read_json
from trainer.process.format import plural

PATIENCE = 180.0  # seconds that a command may take
LEAVE_SECONDS = 30.0
PILOT = 20  # steps of the first training, which tells how quick they are
LONG = 1.5  # seconds that a training must take to be interrupted
LEAST, MOST = 30, 5000  # steps of the others
NO_MODEL = ("artifact.json",)  # of a model's files, those that tell of the training

PREDICT = """
import json, sys
import trainer
from trainer.config.instantiate import build
from trainer.data.opening import encode
from trainer.config.code.function import Function
model, source = trainer.load(sys.argv[1], trust_code=True), build(json.loads(sys.argv[2]), "data")
if isinstance(model.algorithm, Function):
    sys.exit(print("null"))
batches = encode(source, model.schema, model.algorithm).sequential(batch_size=4096)
rows = sum(batch.size for batch in batches)
print(json.dumps([rows, {name: values.tolist() for name, values in model.predict(source).items()}]))
"""


class Failed(Exception):
    """A point that the algorithm doesn't keep: why, and where more is."""


class Skipped(Exception):
    """A point that can't be tried: why."""


@dataclass(frozen=True)
class Outcome:
    """How a point went. status: passed, failed or skipped; seen: what was seen, or why."""

    point: str
    status: str
    seconds: float
    seen: str


@dataclass
class Bench:
    """The algorithm that is tried, and a folder for its jobs. steps: of a training, once the pilot has told."""

    overrides: Sequence[str]
    folder: Path
    steps: int = PILOT
    weights: dict[str, str] = field(default_factory=dict)
    _config: dict[str, Any] = field(default_factory=dict)

    def headway(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = self._command(*arguments)
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=_environment()) as process:
            try:
                said, problems = process.communicate(timeout=PATIENCE)
            except BaseException:  # whoever tries it is told to leave, or it takes too long
                _leave(process)
                raise
        return subprocess.CompletedProcess(command, process.returncode, said, problems)

    def train(self, name: str, *more: str) -> Job:
        """A job that runs to its end. Raises Failed."""
        return self._ended(Job(self.folder / name), self.headway("train", *self.arguments(name, *more)))

    def _ended(self, job: Job, done: subprocess.CompletedProcess[str]) -> Job:
        if done.returncode:
            lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            error = (job.result() or {}).get("error") or {}
            said = error.get("message") or (lines[-1] if lines else f"it ended with {done.returncode}")
            log = f"; log: {error.get('log') or job.logs}" if job.exists() else ""
            raise Failed(f"{said.removeprefix('error: ')}{log}")
        return job

    def interrupted(self, name: str, *more: str, after: int) -> int:
        """A job that is told to leave once it has reported step `after`, its state saved. Returns the step it left at.

        Raises Skipped if it ends before, Failed if it leaves in another way.
        """
        job = Job(self.folder / name)
        begun = len(job.events()) if job.exists() else 0
        command = self._command("train", *self.arguments(name, *more))
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment()
        )
        try:
            while process.poll() is None and not self._reached(job, begun, after):
                time.sleep(0.005)
            agent = (read_json(job.logs / "node-0.json") or {}).get("agent")
            if process.poll() is None and agent:
                os.kill(agent, signal.SIGTERM)
            said, _ = process.communicate(timeout=PATIENCE)
        finally:
            if process.poll() is None:
                _leave(process)
        if process.returncode == ExitCode.COMPLETED:
            raise Skipped("it ended before it could be interrupted: give it more to do")
        if process.returncode != ExitCode.INTERRUPTED:
            self._ended(job, subprocess.CompletedProcess(command, process.returncode, said, ""))
        return int(job.last_event().get("step") or 0)

    def _reached(self, job: Job, begun: int, after: int) -> bool:
        running = job.exists() and any(event["state"] == State.RUNNING for event in job.events()[begun:])
        if not running:
            return False
        return any(line["step"] >= after for line in job.metrics())

    def arguments(self, name: str, *more: str) -> list[str]:
        every = max(1, self.steps // 10)
        ours = [f"train.max_steps={self.steps}", f"train.log_every={every}", f"checkpoint.every={every}"]
        return [
            *(one for one in ours if self.uses(one)),
            "tracking=none",
            *self.overrides,
            *more,
            f"job.dir={self.folder / name}",
        ]

    def uses(self, override: str) -> bool:
        """Whether the algorithm uses a setting, which would be refused otherwise."""
        from trainer.config.compose import compose
        from trainer.config.unused import told

        if os.getcwd() not in sys.path:  # where the command looks, too
            sys.path.append(os.getcwd())
        try:
            self._config = self._config or compose(list(self.overrides))
            return told(self._config, override.partition("=")[0]) is None
        except UserError:
            return True  # the first point says what is wrong

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "trainer", *arguments]

    def same(self, job: Job) -> None:
        """Raises Failed unless its model is that of the training which nothing interrupted."""
        found = digests(job.model)
        odd = sorted(name for name in {*found, *self.weights} if found.get(name) != self.weights.get(name))
        if odd:
            raise Failed(f"{odd[0]} differs from that of the first training; both are in {self.folder}")


def _leave(process: subprocess.Popen[str]) -> None:
    """Has a command leave, and its job with it."""
    process.terminate()
    try:
        process.wait(LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _environment() -> dict[str, str]:
    """Modules in the working folder are found by the workers of jobs elsewhere too."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), os.getcwd()]))}


def digests(model: Path) -> dict[str, str]:
    """The sum of each of a model's files that hold what was learned."""
    files = [path for path in sorted(model.rglob("*")) if path.is_file() and path.name not in NO_MODEL]
    return {str(path.relative_to(model)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# the points, in the order in which they are tried


def composes(bench: Bench) -> str:
    """its config composes and is checked"""
    bench._ended(Job(bench.folder / "dry"), bench.headway("train", *bench.arguments("dry"), "job.dry_run=true"))
    return " ".join(bench.overrides)


def trains(bench: Bench) -> str:
    """it trains, and its figures are numbers"""
    job = bench.train("pilot")
    progress, lines = job.progress() or {}, job.metrics()
    losses = [(name, v) for line in lines for name, v in line["values"].items() if "loss" in name]
    if not lines:
        raise Failed(f"it reports no figures; log: {job.logs}")
    if odd := [name for name, value in losses if not math.isfinite(value)]:
        raise Failed(f"{odd[0]} is not a number; log: {job.logs}")
    trained = [value for name, value in losses if name == losses[0][0]] if losses else []
    if len(trained) > 2 and len(set(trained)) == 1:
        raise Failed(f"{losses[0][0]} stays at {trained[0]:.4g}: nothing is learned; log: {job.logs}")
    rate = (progress.get("step") or 1) / max(1e-3, progress.get("session_seconds") or 1.0)
    bench.steps = min(MOST, max(LEAST, int(rate * LONG)))
    bench.weights = digests(bench.train("whole").model)
    return f"{losses[0][0]} {trained[0]:.4g} → {trained[-1]:.4g}" if trained else f"{len(lines)} reports"


def repeats(bench: Bench) -> str:
    """trained again, it is the same to the bit"""
    bench.same(bench.train("again"))
    return plural(len(bench.weights), "file")


def resumes(bench: Bench) -> str:
    """interrupted and resumed, it is the same to the bit"""
    left = bench.interrupted("shaken", after=max(1, bench.steps // 5))
    job = bench.train("shaken")
    begun = [int(event.get("step") or 0) for event in job.events() if event["state"] == State.RUNNING]
    if len(begun) < 2 or not begun[-1]:
        raise Failed(f"it left at step {left} and began again at 0: it keeps no checkpoint; log: {job.logs}")
    bench.same(job)
    return f"interrupted at step {left}"


def changes_workers(bench: Bench) -> str:
    """it goes on with two workers, and with one again"""
    bench.interrupted("moved", after=max(1, bench.steps // 5))
    try:
        left = bench.interrupted("moved", "launcher.workers=2", after=max(2, bench.steps // 2))
        ended = f"two workers to step {left}, then one"
    except Skipped:
        ended = "two workers to the end"
    job = bench.train("moved", "launcher.workers=1")
    worlds = [event["world_size"] for event in job.events() if event["state"] == State.RUNNING]
    if 2 not in worlds:
        raise Failed(f"it never ran with two workers; log: {job.logs}")
    return ended


def loads(bench: Bench) -> str:
    """its artifact loads in a fresh process"""
    model = bench.folder / "whole" / "model"
    _python("import sys, trainer; trainer.load(sys.argv[1], trust_code=True)", str(model))
    return plural(len(digests(model)) + 1, "file")


def predicts(bench: Bench) -> str:
    """it predicts a row for each row, by the command as in Python"""
    from trainer.config.schema import load

    config, model = load(bench.folder / "whole" / "config.yaml"), bench.folder / "whole" / "model"
    source = {**config["data"], "test": config["data"].get("test") or config["data"].get("train")}
    if source["_target_"].endswith(".Text"):
        done = bench.headway("predict", f"model={model}", "model.trust_code=true", "prompt=a", "+generate.tokens=5")
        if done.returncode:
            raise Failed(done.stderr.strip().splitlines()[-1])
        return "continues a prompt"
    told = json.loads(_python(PREDICT, str(model), json.dumps({**source, "train": source["test"]})))
    if told is None:
        raise Skipped("a training loop does not predict")
    rows, columns = told
    for name, values in columns.items():
        if len(values) != rows:
            raise Failed(f"{name}: {len(values)} predictions for {rows} rows")
    output = bench.folder / "predictions.jsonl"
    data = [o for o in bench.overrides if o.lstrip("+").startswith(("data=", "data.")) and not _is_split(o)]
    data = [*([] if any(o.startswith("data=") for o in data) else ["data=digits"]), *data]
    test = [f"data.test={json.dumps(source['test'])}"] if source["test"] and "data.test" not in str(data) else []
    done = bench.headway("predict", f"model={model}", "model.trust_code=true", *data, *test, f"output={output}")
    if done.returncode:
        raise Failed(done.stderr.strip().splitlines()[-1])
    written = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    for name, values in columns.items():
        if [json.dumps(row[name]) for row in written] != [json.dumps(value) for value in values]:
            raise Failed(f"{name}: the command's predictions are others than Python's; see {output}")
    return f"{rows} rows, {', '.join(columns)}"


def _is_split(override: str) -> bool:
    return override.lstrip("+").startswith(("data.train=", "data.validation="))


def tunes(bench: Bench) -> str:
    """two trials of a search complete"""
    from trainer.config.compose import compose, recommended

    space = recommended(compose(["tracking=none", *bench.overrides], space=True))
    usual = next(one for one in ("train.batch_size=choice(16,32)", "job.seed=choice(0,1)") if bench.uses(one))
    own = [] if space else [usual]
    ours = [one for one in (f"train.max_steps={PILOT}", "tracking=none") if bench.uses(one)]
    where = [f"study.dir={bench.folder / 'study'}"]
    done = bench.headway("tune", *ours, *bench.overrides, *own, "tune.trials=2", *where)
    if done.returncode:
        raise Failed(f"{(done.stderr or done.stdout).strip().splitlines()[-1]}; see {bench.folder / 'study'}")
    jobs = [Job(path.parent) for path in sorted((bench.folder / "study" / "trials").glob("*/result.json"))]
    completed = [job for job in jobs if (job.result() or {}).get("status") in (State.COMPLETED, State.STOPPED)]
    if len(completed) < 2:
        raise Failed(f"{len(completed)} of 2 trials completed; see {bench.folder / 'study'}")
    return f"searched {', '.join(space) or usual.partition('=')[0]}"


def _python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=_environment(), check=False)
    if done.returncode:
        raise Failed(done.stderr.strip().splitlines()[-1])
    return done.stdout


POINTS: tuple[Callable[[Bench], str], ...] = (
    composes, trains, repeats, resumes, changes_workers, loads, predicts, tunes,
)  # fmt: skip


def named(point: Callable[[Bench], str]) -> str:
    """What it states."""
    return (point.__doc__ or "").strip()


def run_points(bench: Bench) -> Iterator[Outcome]:
    """Each point's outcome, as it is known. What doesn't compose or train is tried no further."""
    stopped = ""
    for point in POINTS:
        name, began = named(point), time.monotonic()
        if stopped:
            yield Outcome(name, "skipped", 0.0, stopped)
            continue
        status, seen = "passed", ""
        try:
            seen = point(bench)
        except Skipped as why:
            status, seen = "skipped", str(why)
        except (Failed, HeadwayError) as why:
            status, seen = "failed", str(why)
        except subprocess.TimeoutExpired:
            status, seen = "failed", f"it takes longer than {PATIENCE:.0f} s"
        if status == "failed" and point in (composes, trains):
            stopped = "it does not train" if point is trains else "its config is refused"
        yield Outcome(name, status, time.monotonic() - began, seen)


class AlgorithmSuite:
    """overrides: that choose the algorithm, data for it, and as little to do as tells something."""

    overrides: ClassVar[list[str]] = []

    def test_it_keeps_what_an_algorithm_must(self, tmp_path: Path) -> None:
        outcomes = list(run_points(Bench(self.overrides, tmp_path)))
        failed: list[Any] = [f"{one.point}: {one.seen}" for one in outcomes if one.status == "failed"]
        assert not failed, "\n".join(failed)
