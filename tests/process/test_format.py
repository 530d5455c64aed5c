from __future__ import annotations

import math
from pathlib import Path

import pytest

from trainer.process.format import age, clock, count, duration, figure, middle, plural, short_path


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (1797, "1,797"), (12.5, "12"), (1.5, "1.5"), (810_000, "810.0 K"), (999_999, "1.0 M"), (6.7e9, "6.7 B")],
)
def test_counts(number: float, text: str):
    assert count(number) == text


def test_one_is_singular():
    assert (plural(1, "worker"), plural(0, "worker"), plural(2000, "step")) == ("1 worker", "0 workers", "2,000 steps")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.97222, "0.9722"),
        (1.5, "1.500"),
        (123.456, "123.5"),
        (0.0, "0"),
        (1.2345e-5, "1.234e-05"),
        (-0.5, "-0.5000"),
        (54321.9, "54,322"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (None, "-"),
    ],
)
def test_figures_have_four_digits(value: float | None, text: str):
    assert figure(value) == text


def test_times():
    assert (clock(7.9), clock(750), clock(3723)) == ("0:07", "12:30", "1:02:03")
    assert (duration(0.84), duration(59.99), duration(245), duration(7800)) == (
        "0.8 s",
        "0 min 59 s",
        "4 min 5 s",
        "2 h 10 min",
    )
    assert (duration(273_600), duration(None)) == ("3 d 4 h", "-")
    assert (age(5), age(200), age(7300), age(800_000), age(-3)) == ("5 s", "3 min", "2 h", "9 d", "0 s")


def test_a_path_below_the_current_folder_is_shown_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert short_path(tmp_path / "runs" / "x") == "runs/x"
    assert short_path(tmp_path.parent) == str(tmp_path.parent)


def test_a_long_name_is_cut_in_its_middle():
    assert middle("abcdefghij", 10) == "abcdefghij"
    assert middle("abcdefghijk", 6) == "ab…ijk"
