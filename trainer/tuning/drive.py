"""A study driven from where it stands to its end, and what it leaves: best.yaml, tables, report.html."""

from __future__ import annotations

import math
import os
import shutil
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config import secret
from trainer.config.instantiate import build
from trainer.errors import ExitCode, HeadwayError
from trainer.job import private
from trainer.job.directory import Job, State
from trainer.job.view.summary import make_console
from trainer.process import signals
from trainer.submission.bundle import complete, take
from trainer.tuning.engine import Engine
from trainer.tuning.record import StudyRecord, read
from trainer.tuning.samplers.default import gone_on_with, start
from trainer.tuning.samplers.sampler import Asker, choose
from trainer.tuning.schedulers.choice import scheduler_of
from trainer.tuning.spaces.expression import Expression
from trainer.tuning.spaces.space import Space
from trainer.tuning.stopping import ends_of
from trainer.tuning.study import Study, held
from trainer.tuning.trials import Configs, recomposer, workers_within

if TYPE_CHECKING:
    from trainer.tuning.ray.cluster import Cluster

LOOK_SECONDS, RAY_SECONDS = 0.25, 3.0
LEAVE_SECONDS = 120.0  # for the agents of trials that nobody follows any more


class _Left(Exception):
    """Told to leave, and no trial has begun: nobody is waited for."""


def _has_begun(job: Job) -> bool:
    """Whether a trial's job was ever handed to an agent; one that was not finds its order, and doesn't begin."""
    return job.state() is not State.PENDING or any(job.logs.glob("node-*.log"))


def run(directory: Path, facts: Mapping[str, Any], *, recommended: bool) -> int:
    """Drives the study in a directory, a new one if there is none. Returns the exit code. Raises UserError.

    Told to leave, what runs saves its state and leaves; Ctrl-C a second time ends it at once.
    """
    with private.kept(facts["base"]), held(directory, facts) as study:
        if private.is_private(facts["base"]):
            private.close(directory)
        secret.refuse_missing(facts["base"])
        launcher = build(facts["base"]["launcher"], "launcher")
        for line in take(directory, _configs(facts)):
            make_console().print(line, soft_wrap=True)
        engine = engine_of(study)
        with signals.held() as asks:
            _drive(engine, launcher, recommended, asks)
        if engine.failure is not None and not engine.leaving:
            raise engine.failure
        record = read(directory)
        write_out(record)
        if engine.leaving:
            make_console().print(f"stopped; `headway tune resume {study.name}` goes on", soft_wrap=True)
            return ExitCode.STOPPED if asks.by_hand else ExitCode.INTERRUPTED
        from trainer.tuning.reports.show import closing

        closing(record)
        failed = record.best() is None or (engine.end is not None and engine.end.failed)
        return ExitCode.FAILED if failed else ExitCode.COMPLETED


def _configs(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The base config, and one with each choice of a whole group that the space has."""
    recompose = recomposer(facts["overrides"], facts.get("config_dir"))
    groups = [p for p in Space.from_yaml(facts["space"]).parameters if "." not in p.key]
    return [facts["base"], *(recompose({p.key: str(choice)}) for p in groups for choice in p.choices)]


def engine_of(study: Study) -> Engine:
    """The engine of a study as its facts tell."""
    facts, options = study.facts, study.facts["options"]
    space, tune, base = Space.from_yaml(facts["space"]), options["tune"], facts["base"]
    if not study.trials(own=False):
        from trainer.tuning.warm_start import add_priors

        add_priors(study, space, tune["warm_start"])
    scheduler = scheduler_of(study, options["scheduler"])
    ends = ends_of(tune, facts["goals"][0])
    search = choose(facts["search"], space, ends.trials, len(facts["metrics"]), bool(facts["outcomes"]))
    groups = frozenset(key for key in space.keys if "." not in key)
    begin = gone_on_with(start(space, base, tune["start_from"], search, ends.trials), study.trials())
    return Engine(
        study=study,
        asker=Asker(study, space, search),
        configs=Configs(base, groups, recomposer(facts["overrides"], facts.get("config_dir"))),
        scheduler=scheduler,
        ends=ends,
        outcomes=[Expression(text) for text in facts["outcomes"]],
        start_from=begin.points,
        default=begin.default,
        default_words=begin.words,
        at_end=tune["at_end"],
    )


def _drive(engine: Engine, launcher: Any, recommended: bool, asks: signals.Asks) -> None:
    from trainer.tuning import live_table
    from trainer.tuning.ray.cluster import at_once, bundles, connected, own_processors
    from trainer.tuning.schedulers.pbt import refuse_too_few

    study = engine.study
    facts, options = study.facts, study.facts["options"]
    engine.look()
    if engine.end is not None and not engine.has_waiting:
        return
    here = getattr(launcher, "runs_here", False)
    few, many = workers_within(engine.asker.space, facts["base"])
    if options["ray"]["address"] is None:
        bundles(many, here, options["ray"], {"GPU": math.inf, **own_processors()})  # before anything is started
    live_table.header(engine, recommended)
    with connected(options["ray"]["address"], partial(make_console().print, soft_wrap=True)) as cluster:
        signals.hear_again()
        from trainer.tuning.ray.driver import drive  # Ray reads its environment when it is imported

        bundles(many, here, options["ray"], cluster.resources)
        bundle = bundles(few, here, options["ray"], cluster.resources)
        parallel = at_once(bundle, cluster.resources, options["tune"]["parallel"])
        if engine.scheduler.population is not None:
            refuse_too_few(
                engine.scheduler.population, parallel, at_once(bundle, cluster.resources, None), options["ray"]
            )
        live_table.begins(engine, parallel)
        for line in complete(study.dir):
            make_console().print(line, soft_wrap=True)
        study.add_event("resumed" if study.trials() else "started")
        settings = {
            "retries": options["tune"]["retries"],
            "folder": os.getcwd(),
            "path": [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path],
            "env": {**environment(bundle, few, options["ray"]), **secret.environment(facts["base"])},
        }
        labels = {} if here else dict(options["ray"]["driver_labels"])
        more = {"bundle_label_selector": [labels]} if labels else {}
        over = threading.Event()
        threading.Thread(target=_leave_without_ray, args=(engine, cluster, launcher, asks, over), daemon=True).start()
        try:
            with live_table.Board(engine, parallel) as shown:

                def look() -> None:
                    for number in asks.take():
                        engine.leave(signal.Signals(number).name, now=asks.by_hand > 1)
                    if engine.leaving and not any(_has_begun(live.job) for live in engine.live.values()):
                        raise _Left
                    cluster.check()
                    shown.look()

                look()
                room = partial(bundles, here=here, options=options["ray"], resources=cluster.resources)
                drive(engine, room, parallel, settings, cluster.folder, look=look, **more)
        except _Left:
            engine.live.clear()
        except HeadwayError as error:
            engine.failure = engine.failure or error
        finally:
            over.set()
    if engine.leaving:
        _wait_for_agents(engine, launcher)
        study.add_event("stopped", engine.leaving)
    elif engine.failure is not None:
        study.add_event("ended", str(engine.failure))
    else:
        study.add_event("ended", engine.end.reason if engine.end else "")


def _leave_without_ray(
    engine: Engine, cluster: Cluster, launcher: Any, asks: signals.Asks, over: threading.Event
) -> None:
    """Whoever tells all processes to leave tells Ray too, as `timeout` and systemd do. Then nothing that waits for it returns: agents
    leave by themselves, their states saved, and so does this process."""
    while not over.wait(LOOK_SECONDS):
        told = asks.by_hand or asks.by_machine
        if told and cluster.gone() and not over.wait(RAY_SECONDS):
            _wait_for_agents(engine, launcher)
            engine.study.add_event("stopped", "told to leave, and so was Ray")
            shutil.rmtree(cluster.folder, ignore_errors=True)
            print(f"\nstopped; `headway tune resume {engine.study.name}` goes on", flush=True)
            os._exit(ExitCode.STOPPED if asks.by_hand else ExitCode.INTERRUPTED)


def _wait_for_agents(engine: Engine, launcher: Any) -> None:
    for live in list(engine.live.values()):
        with suppress(HeadwayError):
            launcher.wait(live.job, LEAVE_SECONDS)


def environment(bundle: Mapping[str, float], workers: int, ray: Mapping[str, Any]) -> dict[str, str]:
    """What a trial's agents are told of the machine's share that is theirs."""
    told = {}
    if bundle.get("CPU", 0.0) >= 1:
        told["OMP_NUM_THREADS"] = str(max(1, int(ray["cpus_per_worker"])))
    if 0 < bundle.get("GPU", 0.0) / workers < 1:
        told["HEADWAY_GPU_SHARE"] = f"{bundle['GPU'] / workers:g}"
    return told


def write_out(record: StudyRecord) -> list[Path]:
    """Writes what a study leaves beside its jobs. Returns the files."""
    from trainer.tuning.reports.best import write_best
    from trainer.tuning.reports.report import write_report
    from trainer.tuning.reports.tables import write_tables

    best = write_best(record)
    return [*([best] if best else []), *write_tables(record), write_report(record)]
