"""Figures in a script's log: read from its lines as they come, and made reports of, a metric's from one worker alone."""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.errors import UserError

KEPT = 200  # lines, of which the last words are told
LONGEST = 1 << 13  # bytes of a line that are read: of a longer one its beginning and its end
COUNTERS = ("step", "epoch")  # metrics by these names say where the script stands
NOBODY = 1 << 31  # of several processes: none that is known, and so the last of them
IN_NUMBERS = b"0123456789.+-eE"

Line = dict[str, float]


@dataclass(frozen=True)
class Metric:
    """A figure in the log: the first group of `pattern` is its value. text: the expression as it was given."""

    name: str
    pattern: re.Pattern[str]
    text: str = ""
    from_start: bool = False

    def read(self, line: str) -> float | None:
        found = (self.pattern.match if self.from_start else self.pattern.search)(line)
        try:
            return float(found.group(1)) if found else None
        except (TypeError, ValueError):
            return None


def metrics(named: Mapping[str, str], definitions: Sequence[Mapping[str, str]]) -> list[Metric]:
    """The metrics of both spellings. Raises UserError for an expression that can't be used."""
    pairs = list(named.items())
    for one in definitions:
        if not {"Name", "Regex"} <= set(one):
            raise UserError(f"algorithm.metric_definitions: {one} has no Name or no Regex")
        pairs.append((one["Name"], one["Regex"]))
    found = []
    for name, text in pairs:
        try:
            pattern = re.compile(text.replace("#011", r"(?:#011|\t)"))  # so CloudWatch shows a tab
        except re.error as error:
            raise UserError(f"algorithm.metrics.{name}: {text!r} is no regular expression: {error}") from None
        if not pattern.groups:
            raise UserError(f"algorithm.metrics.{name}: {text!r} has no group; put brackets around the number in it")
        found.append(Metric(name, pattern, text, _from_start(text)))
    return found


def _from_start(text: str) -> bool:
    """Whether a line matches from its start if it matches at all, as `.*` begins the whole expression: looking again from each
    place would take the square of its length."""
    text = re.sub(r"\[\^?\]?[^\]]*\]", "", re.sub(r"\\.", "", text))
    while (outer := re.sub(r"\([^()]*\)", "", text)) != text:
        text = outer
    return text.startswith(".*") and text[2:3] not in tuple("+*{") and "|" not in text


@dataclass
class Heard:
    """What a script has said: its last lines, and the figures that nobody has taken yet, with the process that told them.

    tag: what begins the lines of one of several processes; its first group is the process's number. Without it all are 0's.
    """

    metrics: Sequence[Metric]
    tag: re.Pattern[str] | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))
    figures: deque[tuple[int, Line]] = field(default_factory=deque)
    _begun: bytes = b""  # of the line that is not at its end yet, as much as is read of it
    _head: bytes = b""  # its beginning, if it is a long one

    def hear(self, data: bytes) -> None:
        """Takes in what comes. It costs as much as there is of it, however long the lines are."""
        *ended, rest = data.replace(b"\r", b"\n").split(b"\n")
        for part in ended:
            self._add(part)
            self._end_line()
        self._add(rest)

    def end(self) -> None:
        self.hear(b"\n")

    def take(self) -> list[tuple[int, Line]]:
        """The figures since the last call."""
        return [self.figures.popleft() for _ in range(len(self.figures))]

    def _add(self, part: bytes) -> None:
        self._begun += part
        if len(self._begun) > LONGEST:
            self._head = self._head or self._begun[: LONGEST // 2]
            self._begun = self._begun[-(LONGEST // 2) :]

    def _end_line(self) -> None:
        begun, head, self._begun, self._head = self._begun, self._head, b"", b""
        # a number that is cut in two is none
        parts = [head.rstrip(IN_NUMBERS), begun.lstrip(IN_NUMBERS)] if head else [begun]
        texts = [part.decode("utf-8", "replace") for part in parts]
        if not any(text.strip() for text in texts):
            return
        self.lines.append(" … ".join(texts))
        who = 0
        if self.tag is not None:
            tagged = self.tag.match(texts[0])
            who = int(tagged[1]) if tagged else NOBODY
            texts[0] = texts[0][tagged.end() :] if tagged else texts[0]
        found: Line = {}
        for metric in self.metrics:
            value = next((read for text in texts if (read := metric.read(text)) is not None), None)
            if value is not None:
                found[metric.name] = value
        if found:
            self.figures.append((who, found))


@dataclass
class Stream:
    """One process's figures as reports: at the step that its counters tell, else by the number of the metric's own line.

    began: the last step of an earlier session.
    """

    began: int
    counter: int | None = None
    counts: dict[str, int] = field(default_factory=dict)

    def reports(self, lines: Sequence[Line]) -> Iterator[tuple[int, Line]]:
        step, values = 0, Line()
        for line in lines:
            for name in COUNTERS:
                if name in line and math.isfinite(line[name]):
                    self.counter = int(line[name])
            for name, value in line.items():
                if name in COUNTERS:
                    continue
                self.counts[name] = self.counts.get(name, self.began) + 1
                at = self.counts[name] if self.counter is None else self.counter
                if values and (at != step or name in values):
                    yield step, values
                    values = {}
                step, values = at, {**values, name: value}
        if values:
            yield step, values


class Account:
    """The figures of all workers: of each metric those of the first one that tells it, whoever is the fastest.

    A process that tells figures is a worker, or one of those that a worker has started: a pair of numbers. The first one's
    are reports at once. What only others tell is known for certain at the end.
    """

    def __init__(self, began: int) -> None:
        self._began = began
        self._streams: dict[tuple[int, int], Stream] = {}
        self._held: dict[str, dict[tuple[int, int], list[tuple[int, float]]]] = {}  # by metric and process
        self._first: set[str] = set()  # metrics that the first process tells
        self._told: set[str] = set()

    def add(self, told: Sequence[Sequence[tuple[int, Line]]]) -> list[tuple[int, Line]]:
        """Takes in what every worker has heard since the last call. Returns steps and values to report."""
        lines: dict[tuple[int, int], list[Line]] = {}
        for rank, heard in enumerate(told):
            for who, line in heard:
                lines.setdefault((rank, who), []).append(line)
        found = []
        for process, mine in lines.items():
            self._told |= {name for line in mine for name in line}
            stream = self._streams.setdefault(process, Stream(self._began))
            for step, values in stream.reports(mine):
                if process == (0, 0):
                    found.append((step, values))
                    self._first |= values.keys()
                    for name in values:
                        self._held.pop(name, None)
                    continue
                for name in values.keys() - self._first:
                    self._held.setdefault(name, {}).setdefault(process, []).append((step, values[name]))
        return found

    def end(self) -> list[tuple[int, Line]]:
        """What is to be reported when all have ended."""
        points = [(step, name, value) for name, by in self._held.items() for step, value in by[min(by)]]
        self._held.clear()
        found: list[tuple[int, Line]] = []
        for step, name, value in sorted(points, key=lambda point: point[0]):
            if not found or found[-1][0] != step or name in found[-1][1]:
                found.append((step, {}))
            found[-1][1][name] = value
        return found

    def unmatched(self, metrics: Sequence[Metric], job: Path, *, so_far: bool = False) -> str:
        """A line that names the metrics of which no line told a figure, in earlier sessions of the job neither; "" without any.
        so_far: the script was stopped, and may go on."""
        path = job / "metrics.jsonl"
        before = path.read_text("utf-8", "replace") if self._began and path.is_file() else ""
        lacking = [one for one in metrics if one.name not in self._told and f"{json.dumps(one.name)}:" not in before]
        if self._began:  # counters are no figures of a report
            lacking = [one for one in lacking if one.name not in COUNTERS]
        shown = ", ".join(f"{one.name} ({one.text!r})" for one in lacking)
        told = "has so far told" if so_far else "told"
        return f"no line of the log {told} a figure of {shown}: see to the expression" if shown else ""
