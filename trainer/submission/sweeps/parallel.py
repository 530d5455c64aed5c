"""Many jobs at once: started as there is room, followed together, stopped together, told in a table at the end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from trainer.errors import ExitCode, HeadwayError
from trainer.job.directory import Job, State, Status
from trainer.job.view.summary import make_console
from trainer.process import signals as leaving
from trainer.process.format import clock
from trainer.submission.place import Placed
from trainer.submission.plan import Planned
from trainer.submission.run import planned
from trainer.submission.settle import settle, settle_left
from trainer.submission.submit import complete, prepare, submit

if TYPE_CHECKING:
    from rich.console import Console

LOOK_SECONDS = 0.1


@dataclass
class Sweep:
    """waiting: what starts next, in order; live: what runs, since when; ended: the rest."""

    waiting: list[Planned]
    parallel: int
    live: dict[str, Planned] = field(default_factory=dict)
    ended: list[Job] = field(default_factory=list)
    stopping: int = 0  # how often it was asked to, by hand
    interrupted: int = 0  # the signal by which a machine asked

    @property
    def leaving(self) -> bool:
        return bool(self.stopping or self.interrupted)

    @property
    def total(self) -> int:
        return len(self.waiting) + len(self.live) + len(self.ended)


def run(configs: list[dict[str, Any]], parallel: int | None) -> int:
    """Runs the jobs of these checked configs, so many at a time. The exit code: 0 if all are completed.

    What is completed already is left as it is, what runs already is followed. Raises UserError before anything starts.
    """
    jobs = [planned(config, attach=True) for config in configs]
    if any(config["job"]["dry_run"] for config in configs):
        for one in jobs:
            print(f"{one.plan if isinstance(one, Planned) else None}\n")
        return 0
    console = make_console()
    to_do = [one for one in jobs if isinstance(one, Planned)]
    sweep = Sweep([one for one in to_do if not one.placed.is_alive], parallel or _room(jobs))
    sweep.live.update({one.job.name: one for one in to_do if one.placed.is_alive})
    sweep.ended += [one.job for one in jobs if isinstance(one, Placed)]
    _share_code(sweep, configs)
    _head(console, jobs, sweep)
    if configs[0]["job"]["detach"]:
        return _detach(console, sweep)
    _limit_threads(sweep)
    _all_at_once(console, sweep)
    _follow(console, sweep)
    return _tell(console, [one.job for one in jobs], sweep)


def _room(jobs: Sequence[Planned | Placed]) -> int:
    here = [one for one in jobs if getattr(one.launcher, "runs_here", False)]
    if not here:
        return len(jobs)
    widest = max(one.launcher.world_size() or 1 for one in here)
    return max(1, len(os.sched_getaffinity(0)) // widest)


def _head(console: Console, jobs: Sequence[Planned | Placed], sweep: Sweep) -> None:
    folder = jobs[0].job.dir.parent
    done = f", {len(sweep.ended)} completed before" if sweep.ended else ""
    done += f", {len(sweep.live)} under way" if sweep.live else ""
    console.print(
        f"sweep  {os.path.relpath(folder)}: {len(jobs)} jobs{done}, {sweep.parallel} at a time", soft_wrap=True
    )


def _share_code(sweep: Sweep, configs: list[dict[str, Any]]) -> None:
    """All run what was there when the sweep was submitted, however late they start: the first takes it for all."""
    for i, one in enumerate(sweep.waiting):
        leads = i == 0
        sweep.waiting[i] = replace(one, together=configs) if leads else replace(one, like=sweep.waiting[0].job.dir)


def _teller(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, soft_wrap=True, markup=False)


def _limit_threads(sweep: Sweep) -> None:
    """Jobs that share this machine share its processors too."""
    for i, one in enumerate(sweep.waiting):
        if not getattr(one.launcher, "runs_here", False) or "OMP_NUM_THREADS" in os.environ:
            continue
        workers = sweep.parallel * (one.launcher.world_size() or 1)
        threads = max(1, len(os.sched_getaffinity(0)) // workers)
        env = {**one.plan.env, "OMP_NUM_THREADS": str(threads)}
        sweep.waiting[i] = replace(one, plan=replace(one.plan, env=env))
        if hasattr(one.launcher, "keep_warm"):
            one.launcher.keep_warm()


def _all_at_once(console: Console, sweep: Sweep) -> None:
    """A backend that takes many jobs in one request gets them so."""
    launcher = sweep.waiting[0].launcher if sweep.waiting else None
    if launcher is None or not launcher.takes_many([(one.job, one.plan) for one in sweep.waiting]):
        return
    for one in sweep.waiting:
        for line in [*prepare(one), *complete(one)]:
            _teller(console)(line)
    launcher.submit_many([(one.job, one.plan) for one in sweep.waiting], sweep.parallel)
    sweep.live.update({one.job.name: one for one in sweep.waiting})
    sweep.waiting.clear()


def _detach(console: Console, sweep: Sweep) -> int:
    _all_at_once(console, sweep)
    for one in sweep.waiting:
        submit(one, _teller(console), detached=True)
    console.print("all are submitted; the same command without job.detach follows them", soft_wrap=True)
    return 0


def _follow(console: Console, sweep: Sweep) -> None:
    began = time.monotonic()
    with leaving.held() as asks, _line(console) as show:
        while sweep.waiting or sweep.live:
            for number in asks.take():
                if number == signal.SIGINT:
                    _stop(console, sweep)
                else:
                    _interrupt(console, sweep, number)
            _start(console, sweep)
            for one in list(sweep.live.values()):
                _look(console, sweep, one)
            show(_standing(sweep, time.monotonic() - began))
            time.sleep(LOOK_SECONDS if sweep.live else 0)


def _start(console: Console, sweep: Sweep) -> None:
    while sweep.waiting and len(sweep.live) < sweep.parallel and not sweep.leaving:
        one = sweep.waiting.pop(0)
        try:
            submit(one, _teller(console))
            sweep.live[one.job.name] = one
        except HeadwayError as error:
            sweep.ended.append(one.job)
            console.print(f"failed     {one.job.name}: {error}", style="red", soft_wrap=True)


def _look(console: Console, sweep: Sweep, one: Planned) -> None:
    status: Status = one.launcher.status(one.job)
    if status.alive:
        return
    settle_left(one.job, status, by_hand=sweep.stopping, by_machine=sweep.interrupted)
    settle(one.job, status)
    del sweep.live[one.job.name]
    sweep.ended.append(one.job)
    result = one.job.result() or {}
    why = (result.get("error") or {}).get("message") or status.reason
    style = {State.COMPLETED: "", State.FAILED: "red"}.get(status.state, "yellow")
    line = f"{status.state.value.lower():<11}{one.job.name}{_best(result)}"
    console.print(line + (f": {str(why).splitlines()[0]}" if why else ""), style=style, soft_wrap=True, markup=False)


def _best(result: Mapping[str, Any]) -> str:
    from trainer.process.format import prominence

    metrics = result.get("metrics") or {}
    name = min(metrics, key=prominence, default=None)
    return f"  {name} {metrics[name]['best']['value']:.4g}" if name else ""


def _standing(sweep: Sweep, seconds: float) -> str:
    parts = [f"{len(sweep.ended)} of {sweep.total} done", f"{len(sweep.live)} at work", clock(seconds)]
    return "  ".join(parts)


def _stop(console: Console, sweep: Sweep) -> None:
    """The first time in order, the state saved; the second time at once. Nothing more is started."""
    sweep.stopping += 1
    _start_no_more(sweep)
    words = "stopping {} after this step, their states saved; Ctrl-C again ends them at once"
    console.print((words if sweep.stopping == 1 else "ending {} now").format(f"{len(sweep.live)} jobs"), soft_wrap=True)
    for one in list(sweep.live.values()):
        try:
            one.launcher.stop(one.job, now=sweep.stopping > 1)
        except HeadwayError:
            continue  # it has just ended


def _interrupt(console: Console, sweep: Sweep, number: int) -> None:
    """What runs here leaves, its state saved; what runs elsewhere goes on. Nothing more is started."""
    sweep.interrupted = number
    _start_no_more(sweep)
    kept = [one for one in sweep.live.values() if not one.launcher.interrupt(one.job, number)]
    leaving_now, told = len(sweep.live) - len(kept), signal.Signals(number).name
    if leaving_now:
        console.print(f"{told}: {leaving_now} jobs leave after this step, their states saved", soft_wrap=True)
    if kept:
        console.print(f"{told}: {len(kept)} jobs go on without this command, which follows them again", soft_wrap=True)
    for one in kept:
        sweep.ended.append(sweep.live.pop(one.job.name).job)


def _start_no_more(sweep: Sweep) -> None:
    sweep.ended += [one.job for one in sweep.waiting]
    sweep.waiting.clear()


def _tell(console: Console, jobs: list[Job], sweep: Sweep) -> int:
    from trainer.job.view.listing import table

    console.print()
    begun = [job for job in jobs if job.exists()]
    table(begun, root=jobs[0].dir.parent)
    states = [job.state() for job in begun]
    bad = [job.name for job, state in zip(begun, states, strict=True) if state is State.FAILED]
    completed = states.count(State.COMPLETED)
    console.print(f"\n{completed} of {len(jobs)} completed" + (f", {len(bad)} failed" if bad else ""), soft_wrap=True)
    if sweep.stopping:
        return ExitCode.STOPPED
    if State.STOPPED in states and not bad:  # out of time, or by hand from elsewhere
        return ExitCode.STOPPED
    if completed == len(jobs):
        return ExitCode.COMPLETED
    return ExitCode.FAILED if bad else ExitCode.INTERRUPTED


@contextmanager
def _line(console: Console) -> Iterator[Any]:
    """A line at the bottom of a terminal that is written anew; nothing elsewhere."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda text: None
        return
    from rich.live import Live
    from rich.text import Text

    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield lambda text: live.update(Text(text, "dim", no_wrap=True, overflow="ellipsis"), refresh=True)
