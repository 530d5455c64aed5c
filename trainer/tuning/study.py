"""A study's directory, as the one who drives it holds it: lock, description, storage, trials as jobs.

What it consists of is in `trainer.tuning.record`, which reads it. One driver at a time has the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from trainer.config import schema
from trainer.errors import UserError
from trainer.job.directory import GIVEN, Job, append_line, end_torn_line
from trainer.process import clock
from trainer.process.format import short_path
from trainer.process.safe_path import below
from trainer.tuning import record
from trainer.tuning.journal import Journal
from trainer.tuning.record import DESCRIPTION, EVENTS, JOURNAL, TRIALS

ROOT = Path("studies")
LOCK = ".lock"


def find(name: str) -> Path:
    """The directory of a study, from its name or its path. Raises UserError."""
    for directory in (Path(name).expanduser(), ROOT / name):
        if (directory / DESCRIPTION).is_file():
            return directory.absolute()
    from trainer.errors import did_you_mean

    known = [p.parent.name for p in ROOT.glob(f"*/{DESCRIPTION}")] if ROOT.is_dir() else []
    raise UserError(f"there is no study {name!r} here; {did_you_mean(name, known)}")


@dataclass(frozen=True)
class Draft:
    """A study that has no directory yet: what it is to say of itself."""

    facts: dict[str, Any]


@dataclass
class Study:
    """facts: what study.yaml says: name, metrics, goals, space, search, scheduler, unit, seed, base, created, and
    `options`, the nodes of the composed config that are a study's own. optuna: its trials, durable as they change."""

    dir: Path
    facts: dict[str, Any]
    optuna: Any
    journal: Journal

    @property
    def name(self) -> str:
        return str(self.facts["name"])

    @property
    def storage(self) -> Any:
        return self.optuna._storage

    def trials(self, *, own: bool = True) -> list[Any]:
        """Optuna's trials, in order; `own`: without the observations of earlier studies. Not to be changed."""
        found = self.storage.get_all_trials(self.optuna._study_id, deepcopy=False)
        return [trial for trial in found if "prior" not in trial.user_attrs] if own else list(found)

    def note(self, frozen: Any, **told: Any) -> None:
        """Keeps attributes with a trial."""
        with self.journal.together():
            for key, value in told.items():
                self.storage.set_trial_user_attr(frozen._trial_id, key, value)

    def job(self, frozen: Any) -> Job:
        return Job(below(self.dir / TRIALS, frozen.user_attrs["job"]))

    def add_event(self, state: str, reason: str = "") -> None:
        end_torn_line(self.dir / EVENTS)
        append_line(self.dir / EVENTS, {**clock.now(), "state": state, "reason": reason})


@contextlib.contextmanager
def held(directory: Path, facts: Mapping[str, Any] | None = None) -> Iterator[Study]:
    """The study in a directory, a new one if `facts` are given and there is none yet; this process drives it meanwhile. A new one
    that ends in an error before it has begun leaves nothing.

    Raises UserError if another process does, if its files are damaged, or if it is another study than `facts` tell.
    """
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    lock = _lock(directory)
    new = False
    try:
        described = directory / DESCRIPTION
        if described.is_file():
            known = record.described(directory, to_drive=True)
            if facts is not None:
                refuse_another(directory, known, facts)
                known |= {"options": dict(facts["options"]), "base": dict(facts["base"])}  # ends, launcher: said anew
                _write(described, known)
        elif facts is None:
            raise UserError(f"{short_path(directory)} is not a study's directory: it has no {DESCRIPTION}")
        elif set(os.listdir(directory)) - {LOCK, GIVEN}:
            raise UserError(f"study.dir: {directory} exists and is not a study's directory; choose another")
        else:
            known, new = dict(facts), True
            _write(described, known)
        (directory / TRIALS).mkdir(exist_ok=True)
        journal = Journal(directory / JOURNAL)
        try:
            yield Study(directory, known, _optuna(journal, known, directory), journal)
        finally:
            journal.close()
    except BaseException:  # a stop too
        if new and not (directory / EVENTS).exists():
            _remove(directory, missing)
        raise
    finally:
        lock.close()


def _remove(directory: Path, made: Sequence[Path]) -> None:
    """Takes away what is in a directory, and the folders that were made for it, the innermost first."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for folder in made:
        with contextlib.suppress(OSError):  # another's is in it by now
            folder.rmdir()


def _lock(directory: Path) -> IO[str]:
    file = open(directory / LOCK, "a+")  # noqa: SIM115 - it holds the lock while it is open
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        who = file.read().strip() or "another process"
        file.close()
        raise UserError(
            f"{short_path(directory)}: {who} is driving this study; `headway tune show` looks at it"
        ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file


def _optuna(journal: Journal, facts: Mapping[str, Any], directory: Path) -> Any:
    import optuna
    from optuna.storages import JournalStorage

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    goals: dict[str, Any] = {"min": "minimize", "max": "maximize"}
    try:
        storage = JournalStorage(journal)
        known = [study.study_name for study in storage.get_all_studies()]
        if known and facts["name"] not in known:
            raise UserError(f"{directory / JOURNAL} holds no study {facts['name']!r}, but {', '.join(known)}")
        if known:
            return optuna.load_study(storage=storage, study_name=str(facts["name"]))
        return optuna.create_study(
            storage=storage,
            study_name=str(facts["name"]),
            directions=[goals[goal] for goal in facts["goals"]],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{directory / JOURNAL} can't be read ({type(error).__name__}: {error}); put back a copy of it"
        ) from None


def refuse_another(directory: Path, known: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Raises UserError if a directory's study is not the one that is meant: in its space, metrics, seed or jobs."""
    from trainer.tuning.spaces.space import Space

    differing = Space.from_yaml(facts["space"]).differences(Space.from_yaml(known["space"]))
    for key in ("metrics", "goals", "seed", "search", "scheduler", "unit"):
        if known.get(key) != facts.get(key):
            differing.append(f"{key}: {known.get(key)} there, {facts.get(key)} here")
    differing += schema.differing_keys(known["base"], facts["base"])
    if differing:
        shown = "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")
        raise UserError(f"{short_path(directory)} is another study ({shown}); choose another study.name or study.dir")


def _write(path: Path, facts: Mapping[str, Any]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(beside, "w", encoding="utf-8") as file:
        file.write(schema.dump(facts))
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def folder_of(number: int, config: Mapping[str, Any]) -> str:
    """The name of a trial's folder: never one of another configuration."""
    nouns = {noun: config.get(noun) for noun in (*schema.IDENTITY, "strategy")} | {"seed": config["job"]["seed"]}
    text = json.dumps(nouns, sort_keys=True, default=str)
    return f"{number:04d}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
