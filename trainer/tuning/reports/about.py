"""What a study, or a job, was of: what was tuned or trained, how it began, with which code, where and when."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.config.overrides import dotted
from trainer.job import code_path
from trainer.job.account import in_order, when
from trainer.job.directory import State
from trainer.job.view.seen import Seen
from trainer.process.escape import visible
from trainer.process.format import duration, short_path
from trainer.tuning.record import StudyRecord
from trainer.tuning.reports.importance import text

LOCK = "submission/requirements.lock"
TOLD = ("torch", "xgboost", "ray", "optuna")  # versions of these decide what comes out


def about(record: StudyRecord) -> dict[str, str]:
    """Label to text, in the order they are read in; what isn't known is left out."""
    submitted = code_path.known(record.dir)
    rows = {
        "tuned": _tuned(record.base),
        "command": record.command,
        "goal": ", ".join(f"{m} ({g})" for m, g in zip(record.metrics, record.goals, strict=True)),
        "space": "\n".join(_spanned(parameter) for parameter in record.space),
        "code": _code(submitted),
        "machine": _plain(submitted.get("host")),
        "versions": _versions(record.dir, submitted),
        "began": _when(record.created, record.ended),
    }
    return {label: visible(told, lines=True) for label, told in rows.items() if told}


def about_job(seen: Seen) -> dict[str, str]:
    """The same of one job. Its command is that of its study if it is a trial."""
    submitted = code_path.known(seen.job.dir)
    events = in_order(seen.events)
    began = next((when(event) for event in events), seen.started)
    over = when(events[-1]) if events and State(events[-1]["state"]).is_final else None
    rows = {
        "trained": _tuned(seen.config),
        "command": _typed(submitted),
        "code": _code(submitted),
        "machine": _plain(submitted.get("host")),
        "versions": _versions(code_path.home(seen.job.dir), submitted),
        "began": _when(began, over),
        "folder": short_path(seen.job.dir),
    }
    return {label: visible(told, lines=True) for label, told in rows.items() if told}


def lookup(config: Mapping[str, Any], key: str) -> tuple[bool, Any]:
    """Whether a config has a dotted key, and its value."""
    node = dotted.value(config, key, ...)
    if node is ...:
        return False, None
    if isinstance(node, dict):  # a group: what it chose
        node = node.get("name") or str(node.get("_target_", "")).rpartition(".")[2].lower() or node
    return True, node


def _plain(item: Any) -> str:
    return item if isinstance(item, str) else ""


def _typed(submitted: Mapping[str, Any]) -> str:
    """The command as it was typed, without the interpreter that ran it."""
    command = _plain(submitted.get("command"))
    with contextlib.suppress(ValueError):
        words = shlex.split(command)
        if len(words) > 1 and Path(words[1]).name == "headway":
            return shlex.join(["headway", *words[2:]])
    return command


def _tuned(base: Mapping[str, Any]) -> str:
    algorithm, data = lookup(base, "algorithm")[1], lookup(base, "data")[1]
    source = lookup(base, "data.train")[1]
    named = data if isinstance(data, str) else ""
    where = f"{named} {text(source)}".strip() if source is not None else named
    return " on ".join(part for part in (_plain(algorithm), where) if part)


def _spanned(parameter: Mapping[str, Any]) -> str:
    """`algorithm.lr  0.0001 … 1, log`."""
    if parameter.get("choices"):
        told = ", ".join(text(choice) for choice in parameter["choices"])
    else:
        told = f"{text(parameter.get('low'))} … {text(parameter.get('high'))}"
        scale = str(parameter.get("scale") or "linear")
        told += f", {parameter['kind']}" if parameter.get("kind") == "int" else ""
        told += f", {scale.replace('_', ' ')}" if scale != "linear" else ""
    return f"{parameter['key']}  {told}" + (f", when {parameter['when']}" if parameter.get("when") else "")


def _code(submitted: Mapping[str, Any]) -> str:
    """The commit of the user's own code; of Headway's, if there is none."""
    headway = submitted.get("headway")
    for git in (submitted.get("git"), headway.get("git") if isinstance(headway, Mapping) else None):
        if isinstance(git, Mapping) and isinstance(git.get("commit"), str):
            branch = f" on {git['branch']}" if isinstance(git.get("branch"), str) else ""
            return f"{git['commit'][:12]}{branch}, {'with changes' if git.get('dirty') else 'unchanged'}"
    return ""


def _versions(directory: Path, submitted: Mapping[str, Any]) -> str:
    headway = submitted.get("headway")
    known = {
        "Headway": _plain(headway.get("version")) if isinstance(headway, Mapping) else "",
        "Python": _plain(submitted.get("python")),
    }
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (directory / LOCK).read_text(encoding="utf-8").splitlines():
            name, _, version = line.partition("==")
            if name in TOLD:
                known[name] = version.split(";")[0].strip()
    return ", ".join(f"{name} {version}" for name, version in known.items() if version)


def _when(created: float, ended: float | None) -> str:
    if not created:
        return ""
    began = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(created))
    return f"{began}, over after {duration(ended - created)}" if ended else began
