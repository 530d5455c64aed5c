"""What the nouns of a config that are objects stand for: what a class must be and have, in words and by its methods."""

from __future__ import annotations

import sys

KINDS = {"algorithm": "an algorithm", "data": "a data source", "launcher": "a launcher", "tracking": "a tracker"}
# what a class of each must have, whatever it is derived from
METHODS = {
    "data": ("check", "files", "names", "batches"),
    "launcher": ("world_size", "plan", "submit", "status", "stop"),
    "tracking": ("start", "log", "finish"),
}
HINTS = {
    "algorithm": "derive it from trainer.Module or trainer.Estimator, or give a function of a context",
    "data": "derive it from trainer.data.sources.Source",
    "launcher": "derive it from launchers.base.Launcher",
    "tracking": "derive it from trainer.worker.trackers.Tracker",
}


def is_standard(target: str) -> bool:
    """Whether a target is Python's own, and so nothing that a config builds."""
    return target.partition(".")[0] in (*sys.stdlib_module_names, *sys.builtin_module_names)


def not_one(target: str, noun: str) -> str:
    return f"{target} is not {KINDS[noun]}: {HINTS[noun]}"
