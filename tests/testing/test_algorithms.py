"""The points that an algorithm is tried at: built-in ones pass, and each fault is found where it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from trainer.testing.algorithms import AlgorithmSuite, Bench, run_points

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
        ([*UNTRUE, "+algorithm.how=chance"], "trained again", "differs"),
        ([*UNTRUE, "+algorithm.how=forgets"], "interrupted and resumed", "differs"),
        ([*UNTRUE, "+algorithm.how=nan"], "it trains", "the loss became nan"),
        ([*UNTRUE, "+algorithm.how=two"], "it goes on with two workers", "I work alone"),
        ([*UNTRUE, "+algorithm.how=load"], "its artifact loads", "I can't be read"),
        ([*UNTRUE, "+algorithm.how=short"], "it predicts", "predictions for 1797 rows"),
        (["algorithm._target_=untrue.StartsOver", "data=digits"], "interrupted and resumed", "no checkpoint"),
        ([*UNTRUE, "+algorithm.hwo=none"], "its config", "did you mean 'how'"),
    ],
)
def test_a_fault_is_found_at_its_point(
    given: list[str], point: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    for outcome in run_points(Bench(given, tmp_path)):
        if outcome.status == "failed":
            assert outcome.point.startswith(point), outcome
            assert said in outcome.seen
            return
    pytest.fail("nothing was found")


def test_the_command_prints_a_table_and_tells_by_its_exit_code(folder: Path) -> None:
    command = [sys.executable, "-m", "trainer", "check", "algorithm=linear", "+algorithm.no=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "its config is refused" in done.stdout
