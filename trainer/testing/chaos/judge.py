"""What a drill holds against a job: that it is back, where it should be, and at the end what the undisturbed one is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.job.directory import Job
from trainer.job.result import is_of_the_run
from trainer.testing.chaos.faults import Given
from trainer.testing.chaos.schedule import STARTING, Fault
from trainer.testing.chaos.subject import Resume

TOLD = ("step", "epoch", "samples")  # of a line of metrics, beside its values


def steps_lost(fault: Fault, given: Given, resumes: Sequence[Resume]) -> int:
    """The steps that a fault cost. What workers had done who were killed so that it came while others start, it did not."""
    lost = 0
    for i, resume in enumerate(resumes):
        spared = i == 0 and fault.moment == STARTING and fault.is_notice
        before = min(resume.reached, given.floor) if spared else resume.reached
        lost += max(0, before - resume.step)
    return lost


def wrong_losses(fault: Fault, lost: int, resumes: Sequence[Resume]) -> list[str]:
    """Steps that were lost though there was a notice."""
    if fault.is_notice and lost:
        return [f"{lost} steps were lost after a notice"]
    if fault.kind == "lose-node":  # for the node that comes back the others leave in order
        lost = sum(max(0, resume.reached - resume.step) for resume in resumes[1:])
        return [f"{lost} steps were lost when the node came back"] if lost else []
    return []


def wrong_resumes(floor: int, resumes: Sequence[Resume]) -> list[str]:
    """Where the job went on from what it should not have gone on from. floor: the step of a checkpoint it had."""
    wrong = []
    for resume in resumes:
        if resume.step > resume.reached:
            wrong.append(f"it went on from step {resume.step}, and had reached only step {resume.reached}")
        if resume.step and resume.step not in resume.whole:
            wrong.append(f"it went on from step {resume.step}, and there was no whole checkpoint of it")
        if resume.step < floor:
            wrong.append(f"it went on from step {resume.step}, and there was a whole checkpoint of step {floor}")
    return wrong


def compare(job: Job, reference: Job) -> tuple[bool, bool, list[str]]:
    """Whether weights, and whether metrics, are those of the undisturbed job; and what isn't."""
    weights = differing_weights(job.model, reference.model)
    metrics = differing_metrics(job.metrics(), reference.metrics())
    return not weights, not metrics, weights + metrics


def weights_of(model: Path) -> dict[str, bytes]:
    """The files of an artifact that hold what was learned."""
    return {str(p.relative_to(model)): p.read_bytes() for p in model.rglob("*") if p.is_file() and p.suffix != ".json"}


def differing_weights(model: Path, reference: Path) -> list[str]:
    return differing_files(weights_of(model), weights_of(reference))


def differing_files(found: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> list[str]:
    if not wanted:
        return ["the undisturbed job has left no weights to compare with"]
    missing = [f"{name} is missing from the model" for name in wanted if name not in found]
    return missing + [
        f"{name} is not what it should be" for name in wanted if name in found and found[name] != wanted[name]
    ]


def differing_metrics(found: Iterable[Mapping[str, Any]], wanted: Iterable[Mapping[str, Any]]) -> list[str]:
    """The first line of metrics that is not the undisturbed job's, times apart."""
    here, there = [_told(line) for line in found], [_told(line) for line in wanted]
    for one, other in zip(here, there, strict=False):
        if one != other:
            return [f"metrics say {one} where the undisturbed job's say {other}"]
    if len(here) != len(there):
        return [f"there are {len(here)} lines of metrics, and the undisturbed job has {len(there)}"]
    return []


def _told(line: Mapping[str, Any]) -> str:
    """A line as text, so that NaN equals NaN."""
    values = {name: value for name, value in line["values"].items() if not is_of_the_run(name)}
    return json.dumps([*(line.get(name) for name in TOLD), values], sort_keys=True)


def middle(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    ordered = sorted(values)
    return ordered[math.floor((len(ordered) - 1) / 2)] if ordered else None
