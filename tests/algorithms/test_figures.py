"""Figures of a script's log: whatever its lines are like, and whichever of several workers is the fastest."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest

from algorithms.script.figures import Account, Heard, Line, metrics

DOCUMENTED = r".*\[[0-9]+\].*#011validation-auc:(\S+)"  # as SageMaker's documents spell them


def heard(parts: list[bytes], **patterns: str) -> tuple[list[Line], Heard]:
    ears = Heard(metrics(patterns, []))
    for part in parts:
        ears.hear(part)
    ears.end()
    return [line for _, line in ears.take()], ears


def in_parts(text: bytes, size: int = 1 << 16) -> list[bytes]:
    return [text[i : i + size] for i in range(0, len(text), size)]


@pytest.mark.parametrize("pattern", [r"loss=([0-9.]+)", r".*loss=([0-9.]+)", r"(?:.*\s)?loss=([0-9.]+)"])
def test_a_line_of_many_megabytes_is_read_at_both_ends_and_costs_what_there_is_of_it(pattern: str) -> None:
    long = b"x" * (4 << 20)
    text = b"loss=1 " + long + b"\n" + long + b" loss=2\n" + long + b"\nloss=3\n" + long
    told, ears = heard(in_parts(text), loss=pattern)
    assert told == [{"loss": 1.0}, {"loss": 2.0}, {"loss": 3.0}]
    assert all(len(line) < 1 << 14 for line in ears.lines)


def test_a_number_that_a_long_line_is_cut_in_is_not_read() -> None:
    assert heard([b"loss=" + b"1" * (1 << 16)], loss=r"loss=([0-9.]+)")[0] == []


def test_a_progress_bar_is_a_line_at_each_return_in_whatever_parts_it_comes() -> None:
    text = "".join(f"\r{i}%|{'#' * i}| loss={i}.5" for i in range(100)).encode()
    for size in (1, 7, 1 << 16):
        found, _ = heard(in_parts(text, size), loss=r"loss=([0-9.]+)")
        assert [line["loss"] for line in found] == [i + 0.5 for i in range(100)]


@pytest.mark.parametrize(
    ("pattern", "line", "value"),
    [
        (DOCUMENTED, "a [3]\tvalidation-auc:0.75", 0.75),
        (".*a=([0-9]+)|b=([0-9]+)", "c b=1 a=2", 2.0),
        (".*?a=([0-9]+)", "a=1 a=2", 1.0),
        (".*a=([0-9]+)", "a=1 a=2", 2.0),
        (".*[|]a=([0-9]+)", "x |a=1", 1.0),
        ("(?:.*a|b)=([0-9]+)", "c b=1", 1.0),
    ],
)
def test_an_expression_that_begins_with_anything_finds_what_it_would_find_anywhere(
    pattern: str, line: str, value: float
) -> None:
    (metric,) = metrics({"one": pattern}, [])
    assert metric.read(line) == value
    found = metric.pattern.search(line)
    assert found is not None
    assert float(found.group(1)) == value


def reported(account: Account, *calls: list[list[Line]]) -> list[tuple[int, Line]]:
    told = [account.add([[(0, line) for line in lines] for lines in call]) for call in calls]
    return [*itertools.chain.from_iterable(told), *account.end()]


def test_of_a_metric_the_first_workers_figures_count_whatever_the_timing() -> None:
    def told(rank: int) -> list[Line]:
        return [{"loss": rank + i / 10} for i in range(6)]

    expected = [(i + 1, {"loss": i / 10}) for i in range(6)]
    chance = random.Random(1)
    for _ in range(50):
        lines, calls = [told(rank) for rank in range(3)], []
        while any(lines):
            call = []
            for rank in range(3):
                taken = chance.randrange(3)
                call.append(lines[rank][:taken])
                lines[rank] = lines[rank][taken:]
            calls.append(call)
        assert reported(Account(0), *calls) == expected


def test_what_only_another_worker_tells_is_reported_at_the_end_with_its_own_steps() -> None:
    calls: list[list[list[Line]]] = [
        [[], [{"accuracy": 0.1, "epoch": 1}], [{"accuracy": 0.9}]],
        [[{"loss": 1.0, "epoch": 1}], [{"accuracy": 0.2, "epoch": 2}, {"loss": 5.0}], []],
    ]
    assert reported(Account(0), *calls) == [(1, {"loss": 1.0}), (1, {"accuracy": 0.1}), (2, {"accuracy": 0.2})]


def test_a_counter_that_is_no_number_counts_nothing() -> None:
    assert reported(Account(0), [[{"epoch": float("nan"), "loss": 1.0}]]) == [(1, {"loss": 1.0})]


def test_expressions_that_never_matched_are_named_but_not_those_of_an_earlier_session(tmp_path: Path) -> None:
    known = metrics({"loss": "loss=(.*)", "acc": "acc: (.*)", "epoch": "epoch (.*)"}, [])
    account = Account(0)
    reported(account, [[], [{"loss": 1.0}]])
    assert account.unmatched(known, tmp_path) == (
        "no line of the log told a figure of acc ('acc: (.*)'), epoch ('epoch (.*)'): see to the expression"
    )
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"values": {"acc": 1}}, separators=(",", ":")))
    assert "no line of the log has so far told a figure of" in account.unmatched(known[2:], tmp_path, so_far=True)
    later = Account(3)
    reported(later, [[{"loss": 1.0}]])
    assert later.unmatched(known, tmp_path) == ""
