"""The points that an algorithm is tried at: built-in ones pass, and each fault is found where it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from trainer.testing.algorithms import (
    POINTS,
    AlgorithmSuite,
    Bench,
    Failed,
    changes_workers,
    composes,
    loads,
    named,
    predicts,
    repeats,
    resumes,
    run_points,
    trains,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
UNTRUE = ["algorithm._target_=untrue.Untrue", "data=digits"]


class TestLinear(AlgorithmSuite):
    overrides: ClassVar[list[str]] = ["algorithm=linear", "data=digits"]


class TestXGBoost(AlgorithmSuite):
    overrides: ClassVar[list[str]] = ["algorithm=xgboost", "data=breast_cancer", "algorithm.rounds=400"]


def test_a_small_language_model_passes(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("to be or not to be, that is the question\n" * 200)
    small = ["algorithm.layers=1", "algorithm.heads=2", "algorithm.width=16", "algorithm.context=16"]
    given = ["algorithm=gpt", "data=text", f"data.train={tmp_path / 'corpus.txt'}", *small]
    outcomes = list(run_points(Bench(given, tmp_path)))
    assert {one.status for one in outcomes} == {"passed"}, outcomes


@pytest.mark.parametrize(
    ("given", "point", "said"),
    [
        ([*UNTRUE, "+algorithm.how=chance"], repeats, "differs"),
        ([*UNTRUE, "+algorithm.how=forgets"], resumes, "differs"),
        ([*UNTRUE, "+algorithm.how=two"], changes_workers, "I work alone"),
        ([*UNTRUE, "+algorithm.how=load"], loads, "I can't be read"),
        ([*UNTRUE, "+algorithm.how=short"], predicts, "predictions for 1797 rows"),
        (["algorithm._target_=untrue.StartsOver", "data=digits"], resumes, "no checkpoint"),
        ([*UNTRUE, "+algorithm.hwo=none"], composes, "did you mean 'how'"),
    ],
)
def test_a_fault_is_found_at_its_point(
    given: list[str], point: Callable[[Bench], str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    bench = Bench(given, tmp_path)
    for needed in (composes, trains)[: POINTS.index(point)]:  # the others need nothing of each other
        needed(bench)
    with pytest.raises(Failed, match=said):
        point(bench)


def test_a_config_that_is_refused_is_tried_no_further(tmp_path: Path) -> None:
    refused, *others = run_points(Bench(["algorithm=linear", "+algorithm.no=1"], tmp_path))
    assert (refused.point, refused.status) == (named(composes), "failed")
    assert {(one.status, one.seen) for one in others} == {("skipped", "its config is refused")}


def test_the_command_prints_a_table_and_tells_by_its_exit_code() -> None:
    done = check([*UNTRUE, "+algorithm.how=nan"])
    assert done.returncode == 1
    assert "the loss became nan" in done.stdout
    assert done.stdout.count("it does not train") == len(POINTS) - 2
    shutil.rmtree(done.stdout.rsplit("the jobs are in ", 1)[1].strip())


def test_the_command_refuses_what_does_not_compose() -> None:
    done = check(["algorithm=linear", "+algorithm.no=1"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: algorithm.no: Linear has no such setting")
    assert done.stderr.count("\n") == 1


def check(given: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer", "check", *given]
    env = {**os.environ, "COLUMNS": "200"}
    here = Path(__file__).parent
    return subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, timeout=120, check=False)
