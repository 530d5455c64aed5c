"""What is refused before a job's directory is written: what can't be had here, by its config and a look at the data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config import secret
from trainer.config.code.signature import short_name
from trainer.config.instantiate import build
from trainer.config.schema import load_job
from trainer.data.formats.roles import check_roles
from trainer.errors import UserError, pip_install
from trainer.job.directory import Job

if TYPE_CHECKING:
    from trainer.submission.place import Placed

_QUICKLY_READ = 1 << 30  # bytes


def preflight(placed: Placed) -> Placed:
    """The same job, of which nothing is known that would keep it from training. Raises UserError."""
    secret.refuse_missing(placed.config)
    refuse_impossible(placed.config, placed.launcher)
    check_algorithm(placed.config, placed.job)
    check_data(placed.config, placed.job)
    return placed


def refuse_impossible(config: Mapping[str, Any], launcher: Any) -> None:
    """Raises UserError for a strategy that can't be had with this launcher's workers, or here."""
    if config["strategy"]["name"] == "single" and (launcher.world_size() or 1) > 1:
        raise UserError(f"strategy=single trains with one worker, and there are {launcher.world_size()}; choose ddp")
    if config["strategy"]["name"] == "deepspeed" and find_spec("deepspeed") is None:
        raise UserError(f"strategy=deepspeed: the package is not installed; {pip_install('deepspeed')}")


def check_algorithm(config: Mapping[str, Any], job: Job) -> None:
    """What an algorithm can tell of its settings, and of the folder that it brings. Raises UserError."""
    from trainer.config.code.signature import class_constant
    from trainer.job import code_path

    node = config["algorithm"]
    if key := class_constant(str(node["_target_"]), "travels"):
        algorithm = build(node, "algorithm")
        folder = Path(str(getattr(algorithm, key)))
        algorithm.check(folder if folder.is_dir() else code_path.copy_of(job.dir, folder) or folder)
    elif class_constant(str(node["_target_"]), "checks") and not _is_underway(job, node):
        build(node, "algorithm").check(Path())


def _is_underway(job: Job, node: Mapping[str, Any]) -> bool:
    """Whether a job goes on from a checkpoint with these very settings: they were taken when it began."""
    return any(job.checkpoints.glob("step-*")) and load_job(job.config_path)["algorithm"] == node


def refuse_changed(job: Job, content: str, changed: str) -> None:
    """Raises UserError if a job with a checkpoint would go on with other data than it was trained on so far.

    content: of the files now, see `trainer.data.files.content`. changed: as in the config, "refuse" or "accept".
    """
    told = [event["content"] for event in job.events() if event.get("content")]
    if content and told and told[-1] != content and changed == "refuse" and any(job.checkpoints.glob("step-*")):
        raise UserError(
            "data: the files hold something else than when the job began; bring the old ones back, start a new job, "
            "or insist with data.changed=accept"
        )


def refuse_read_otherwise(job: Job, content: str, kinds: Mapping[str, int]) -> None:
    """Raises UserError if a job with a checkpoint would go on with columns of other kinds than it was trained on, though the
    files are the same, as another version reads them.

    kinds: how many columns there are of each kind.
    """
    told = [event["kinds"] for event in job.events() if event.get("kinds") and event.get("content") == content]
    if told and told[-1] != kinds and any(job.checkpoints.glob("step-*")):
        then, now = (", ".join(f"{n} {kind}" for kind, n in found.items()) for found in (told[-1], kinds))
        raise UserError(
            f"data: the columns are {now}, and when the job began they were {then}: this version of Headway reads the files "
            "otherwise; start a new job, or go on with the version that it began on"
        )


def _refuse_changed_here(job: Job, source: Any) -> None:
    """The same before a worker starts, where this takes no time worth speaking of; workers look in any case."""
    files = [*source.files("train"), *source.files("validation")]
    if job.exists() and files and sum(os.path.getsize(file) for file in files) < _QUICKLY_READ:
        from trainer.data.files.content import content

        refuse_changed(job, content(files), source.changed)


def check_data(config: Mapping[str, Any], job: Job | None = None) -> None:
    """What can be known of the data without reading it all. job: that goes on with it."""
    from trainer.config.code.signature import class_constant, is_function

    algorithm = str(config["algorithm"]["_target_"])
    takes_text = "text" in (class_constant(algorithm, "takes") or ())
    source = build(config["data"], "data")
    takes_channels = "channels" in (class_constant(algorithm, "takes") or ())
    if takes_channels != (source.name == "channels"):
        wanted = "takes data=channels" if takes_channels else "does not take data=channels; choose a table or text"
        raise UserError(f"data={source.name}: {short_name(algorithm)} {wanted}")
    if source.name == "none" and not is_function(algorithm):
        raise UserError(f"data=none: {short_name(algorithm)} learns from data; choose some, such as data=csv")
    if is_function(algorithm):  # it may read its own
        return
    source.check("train", takes_text=takes_text)
    if not takes_text and not takes_channels and source.test:
        from trainer.data.formats.choice import check_test

        check_test(source)
    if class_constant(algorithm, "checks") and class_constant(algorithm, "roles"):
        check_roles(source, build(config["algorithm"], "algorithm"))
    if job is not None:
        _refuse_changed_here(job, source)
    supervised = not takes_text and class_constant(algorithm, "supervised") is not False
    if supervised and not source.labelled and source.label is None:
        names = ", ".join(source.names(source.files("train")[0])[:20])
        raise UserError(f"data.label: {short_name(algorithm)} learns from a label; name its column, one of {names}")
