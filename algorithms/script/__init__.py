"""A training script as SageMaker's script mode runs it, unmodified: `headway train algorithm=script`."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from algorithms.script import figures, keeping, mpi, outputs, starting
from algorithms.script.contract import Container
from algorithms.script.dialect import choose, is_package
from algorithms.script.distribution import MPI, TORCHRUN, Distribution
from algorithms.script.process import Process, failure_text, last_words, leave
from trainer.algorithm import Context, Estimator
from trainer.errors import HeadwayError, UserError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from trainer.algorithm import Batch

LOOK_SECONDS = 0.1
GRACE_SECONDS = 110.0  # between SIGTERM and SIGKILL; the agent kills the worker itself after 120
SPARE_SECONDS = 3.0  # of a deadline, for what comes after the script
FAILURE_CHARACTERS = 1024  # of the failure file, as many as are told
LEFT = ("model", "output/data", "output/failure")  # of a container, what comes out
LOST = re.compile(
    r"Connection (?:closed|reset|refused)|Broken pipe|NCCL|TCPStore"
)  # of who only lost the one that failed


class ExecuteUserScriptError(HeadwayError):
    """The script failed. So the toolkit calls it too."""


@dataclass(kw_only=True)
class Script(Estimator):
    """Runs `entry` once on every node, or with `distribution` once for every worker, as SageMaker would.

    What it writes to its checkpoint folder is there again after an interruption; whether it goes on from it is its own
    affair. Figures that its log carries become metrics.
    """

    source_dir: str = "."
    entry: str = "train.py"
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    metric_definitions: list[dict[str, str]] = field(default_factory=list)
    distribution: Any = None
    environment: dict[str, Any] = field(default_factory=dict)
    checkpoint_s3_uri: str | None = None
    checkpoint_local_path: str = keeping.USUAL
    dialect: Literal["auto", "framework", "plain", "sdk3"] = "auto"
    container_arguments: list[Any] | None = None

    takes: ClassVar[frozenset[str]] = frozenset({"channels"})
    supervised: ClassVar[bool] = False
    ends_in_time: ClassVar[bool] = False
    uses: ClassVar[frozenset[str]] = frozenset({"train.max_time", "train.hang_timeout", "train.early_stopping"})
    instead: ClassVar[dict[str, str]] = {
        "train": "hyperparameters",
        "strategy": "distribution",
        "checkpoint": "checkpoint_local_path",
    }
    travels: ClassVar[str] = "source_dir"

    def __post_init__(self) -> None:
        self.spread = Distribution.of(self.distribution)
        self.distributed = self.spread.kind == TORCHRUN
        self._metrics = figures.metrics(self.metrics, self.metric_definitions)
        keeping.check(self.checkpoint_local_path, self.checkpoint_s3_uri, self.hyperparameters.get(keeping.OUTPUT))
        self._noted = False
        self._kept: list[keeping.Kept] = []
        self.feeds: list[Any] = []  # of channels that are streams
        self._model: outputs.Gathered | None = None

    def check(self, folder: Path) -> None:
        """Raises UserError for what is wrong with the settings; `folder` holds the script."""
        if not folder.is_dir():
            raise UserError(f"algorithm.source_dir: there is no folder {folder}")
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        if Path(self.entry).is_absolute() or ".." in Path(self.entry).parts:
            raise UserError(f"algorithm.entry: {self.entry} is not a file of {folder}; write its path from there")
        package = is_package(self.entry, folder, choose(self.dialect, self.entry, folder)[0])
        module = self.entry.removesuffix(".py").replace(".", "/")
        there = self.entry in files or (package and {f"{module}.py", f"{module}/__main__.py"} & set(files))
        if not there:
            likely = [name for name in files if name.endswith((".py", ".sh"))] or files
            raise UserError(
                f"algorithm.entry: there is no {self.entry} in {folder}; {did_you_mean(self.entry, likely)}"
            )
        if self.distributed and (package or not self.entry.endswith(".py")):
            raise UserError(
                "algorithm.distribution: torch_distributed runs a Python script, not a package or a command"
            )

    def goes_on(self, job: Path) -> bool:
        return _has_files(starting.kept_of(job))

    def fit(self, context: Context) -> None:
        try:
            self._fit(context)
        finally:
            for feed in self.feeds:
                feed.close()
            for kept in self._kept:
                kept.finish(context)

    def _fit(self, context: Context) -> None:
        host = starting.Host.here()
        container = starting.container(self, context, host)
        began_before = all(context.gather((context.job / starting.OPT).is_dir()))
        leads, self._account = host.leads, figures.Account(context.step)
        if self._agree(context, lambda stop: starting.prepare(self, context, container, host, stop) if leads else None):
            self._finish(context, container, [], None, None)
            return
        shared = keeping.shares_folder(context, starting.kept_of(context.job))
        fetches = context.rank == 0 or not shared
        self._agree(context, lambda stop: self._keep(context, container, fetches=fetches) if leads else None)
        if began_before and not _has_files(container.checkpoints):
            self._note(context, "starts over")
        command = starting.command(container)
        env, mounts = starting.surroundings(self, context, container, host)
        part = self._part(context, container, host)
        if part is not None:
            env = part.environment(env, starting.mpi_hosts(context, container))

        def start(line: Sequence[str]) -> Process:
            tag = mpi.TAG if part else None
            return Process(line, folder=container.code, env=env, mounts=mounts, metrics=self._metrics, tag=tag)

        process = code = None
        try:
            if part is not None:
                process = start(part.mpirun(mpi.as_module(command, env))) if part.is_first else None
            elif host.leads or self.distributed:
                process = start(command)
            stopped, code, process = self._follow(context, process, part, start)
            if stopped and process is not None:
                left = context.seconds_left()
                leave(process, GRACE_SECONDS if left is None else max(0.0, min(GRACE_SECONDS, left - SPARE_SECONDS)))
        finally:
            if process is not None:
                process.end()
        self._finish(context, container, command, process, None if stopped else code)

    def _keep(self, context: Context, container: Container, *, fetches: bool) -> None:
        self._kept.append(keeping.Kept(self, context, container, fetches=fetches))

    def _note(self, context: Context, what: str) -> None:
        if not self._noted:
            context.note(
                f"{self.entry} keeps nothing in its checkpoint folder (SageMaker's /opt/ml/checkpoints): it {what}"
            )
        self._noted = True

    def _agree(self, context: Context, work: Callable[[threading.Event], None]) -> bool:
        """Does what a node's first worker does for all of it; work is told if it is to leave it. Returns whether all are to leave
        now. Raises UserError, on every worker, if one could not."""
        stop, failed, leaves = threading.Event(), list[str](), False

        def do() -> None:
            try:
                work(stop)
            except (HeadwayError, OSError) as error:
                failed.append(str(error))

        at_work = threading.Thread(target=do, daemon=True, name="setup")
        at_work.start()
        while any(context.gather(at_work.is_alive() and not stop.is_set())):
            at_work.join(LOOK_SECONDS)
            if leaves := context.should_stop():
                stop.set()
        at_work.join(SPARE_SECONDS if leaves else None)
        for reason in context.gather("" if leaves else "; ".join(failed)):
            if reason:
                raise UserError(reason)
        return leaves

    def _part(self, context: Context, container: Container, host: starting.Host) -> mpi.Part | None:
        """This worker's part in a script under Open MPI; None for a script that isn't. Raises UserError."""
        if self.spread.kind != MPI:
            return None
        part = mpi.Part(container, self.spread, host.workers, leads=host.leads)
        self._agree(context, lambda stop: part.check())
        return part

    def _follow(
        self,
        context: Context,
        process: Process | None,
        part: mpi.Part | None,
        start: Callable[[Sequence[str]], Process],
    ) -> tuple[bool, int, Process | None]:
        """Hears the scripts out. Returns whether they are to leave before their end, and else how this one has ended: 0 too
        if it has not, and another one has failed; and its process, which another host's mpirun may have asked for."""
        while True:
            code = 0 if process is None else process.wait(LOOK_SECONDS)
            if process is None:
                time.sleep(LOOK_SECONDS)
            broken = next((feed.error for feed in self.feeds if feed.error), "")
            said = process.heard.take() if process else []
            told = context.gather([code, said, part.tells(code) if part else None, broken])
            self._report(context, self._account.add([said for _, said, *_ in told]))
            codes = [one for one, *_ in told]
            if reason := next((one for *_, one in told if one), ""):
                raise HeadwayError(reason)
            if part is not None:
                if codes[0] is not None:  # mpirun's
                    code = process.wait(mpi.LEAVE_SECONDS) if process else 0
                    return False, code or 0, process
                if command := part.hears([one for *_, one, _ in told]):
                    process = start(part.daemon(command))
            elif any(codes) or all(one == 0 for one in codes):
                return False, code or 0, process
            if context.should_stop():
                return True, 0, process

    def _report(self, context: Context, reports: Sequence[tuple[int, dict[str, float]]]) -> None:
        for step, values in reports:
            context.report(step, values)

    def _finish(
        self, context: Context, container: Container, command: list[str], process: Process | None, code: int | None
    ) -> None:
        """What follows from how all have ended: outputs are packed, or the failure is told. code: None for one that was
        stopped. Raises ExecuteUserScriptError."""
        lines = process.heard.lines if process else []
        own = mpi.said_by_failed(lines) if self.spread.kind == MPI else list(lines)
        said, where = last_words(own, container.code)
        host = container.current_host
        told = context.gather([code, said, where, host, process.heard.take() if process else []])
        self._report(context, self._account.add([one[4] for one in told]))
        self._report(context, self._account.end())
        left = context.seconds_left()
        has_time = all(context.gather(left is None or left > 10 * SPARE_SECONDS))
        if has_time:
            context.bring([str((container.root / inner).relative_to(context.job)) for inner in LEFT])
        hosts = {one[3]: starting.root(context.job, one[3], len(container.hosts)) for one in told}
        failures = sorted((one for one in told if one[0]), key=lambda one: (bool(LOST.search(one[1])), not one[1]))
        failed = failures[0] if failures else None
        reason = ""
        if context.rank == 0:
            self._model = outputs.gather(list(hosts.items()), "model")
            if failed is not None:
                reason = self._fail(failed, hosts, command)
            if has_time:
                with context.busy("packing what the script has left"):
                    self._pack(context, hosts, with_model=failed is None)
                if failed is None and code is not None:
                    (context.job / "output" / "success").touch()
            if code is None and not _has_files(container.checkpoints):
                self._note(context, "would start over")
            if unmatched := self._account.unmatched(self._metrics, context.job, so_far=code is None):
                context.note(unmatched)
        reason = context.broadcast(reason)
        if reason:
            raise ExecuteUserScriptError(reason)
        if code is not None:
            container.success.touch()

    def _pack(self, context: Context, hosts: Mapping[str, Path], *, with_model: bool) -> None:
        """Writes model.tar.gz and output.tar.gz of all hosts, and the failure file, as SageMaker leaves them on S3."""
        target = context.job / "output"
        target.mkdir(exist_ok=True)
        for name in ("success", "failure"):  # of an attempt before
            (target / name).unlink(missing_ok=True)
        failures = [root / "output" / "failure" for root in hosts.values() if (root / "output" / "failure").is_file()]
        if failures:
            shutil.copy2(failures[0], target / "failure")
        data = outputs.gather(list(hosts.items()), "output/data")
        for clash in (self._model.told("model") if self._model else "", data.told("output/data")):
            if clash:
                context.note(clash)
        if data.files or data.folders:
            data.pack(target / "output.tar.gz")
        if with_model and self._model:
            self._model.pack(target / "model.tar.gz")

    def _fail(self, failed: Sequence[Any], hosts: Mapping[str, Path], command: list[str]) -> str:
        """Sees that there is a failure file, and gives the line that a person reads."""
        code, said, where = failed[:3]
        written = [root / "output" / "failure" for root in hosts.values() if (root / "output" / "failure").is_file()]
        if written:
            return " ".join(written[0].read_text("utf-8", "replace").split())[:FAILURE_CHARACTERS] or "failed"
        path = hosts[failed[3]] / "output" / "failure"
        path.parent.mkdir(parents=True, exist_ok=True)  # another node's may lie on a disk of its own
        path.write_text(failure_text(code, said, command), encoding="utf-8")
        ended = f"ended with exit code {code}"
        if code == 137:
            ended = "was killed by SIGKILL (exit code 137), as when memory runs out: OutOfMemory"
        return f"{self.entry} {ended}{f': {said}' if said else ''}{f' ({where})' if where else ''}"[:FAILURE_CHARACTERS]

    def save(self, folder: Path) -> None:
        if self._model is not None:
            self._model.copy(folder)

    def load(self, folder: Path) -> None:
        raise UserError(
            f"{folder} is what {self.entry} wrote to SM_MODEL_DIR, and only code of its own can read it; "
            f"Headway predicts with algorithms that have a `predict`"
        )

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        raise UserError("a script does not predict; load what it wrote with code of its own")


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(path.is_file() for path in folder.rglob("*"))
