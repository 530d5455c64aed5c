"""What is refused before a job's directory is written: what can't be had here, by its config and a look at the data."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainer import moment
from trainer.account import running_seconds
from trainer.build import build
from trainer.config import seconds
from trainer.errors import UserError
from trainer.job import Job
from trainer.signature import short_name


def refuse_impossible(config: Mapping[str, Any], launcher: Any) -> None:
    """Raises UserError for a strategy that can't be had with this launcher's workers, or here."""
    if config["strategy"]["name"] == "single" and (launcher.world_size() or 1) > 1:
        raise UserError(f"strategy=single trains with one worker, and there are {launcher.world_size()}; choose ddp")
    if config["strategy"]["name"] == "deepspeed" and find_spec("deepspeed") is None:
        raise UserError('strategy=deepspeed: the package is not installed; pip install "headway[deepspeed]"')


def has_time_left(config: Mapping[str, Any], job: Job) -> bool:
    """Whether a job that was stopped at its train.max_time is given more now."""
    limit = seconds(config["train"]["max_time"], "train.max_time")
    return limit is None or running_seconds(job.events(), moment.now()) < limit


def check_algorithm(config: Mapping[str, Any], job: Job) -> None:
    """What an algorithm that brings a folder of its own can tell of its settings. Raises UserError."""
    from trainer import codepath
    from trainer.signature import class_constant

    node = config["algorithm"]
    if key := class_constant(str(node["_target_"]), "travels"):
        algorithm = build(node, "algorithm")
        folder = Path(str(getattr(algorithm, key)))
        algorithm.check(folder if folder.is_dir() else codepath.copy_of(job.dir, folder) or folder)


def check_data(config: Mapping[str, Any]) -> None:
    """What can be known of the data without reading it all."""
    from trainer.signature import class_constant, is_function

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
    supervised = not takes_text and class_constant(algorithm, "supervised") is not False
    if supervised and not source.labelled and source.label is None:
        names = ", ".join(source.names(source.files("train")[0])[:20])
        raise UserError(f"data.label: {short_name(algorithm)} learns from a label; name its column, one of {names}")
