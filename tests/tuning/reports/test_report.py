from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.browser import Page, browser
from tests.tuning.reports.test_lines import family
from tests.tuning.written import SPACE, big, written
from trainer.tuning.record import StudyRecord, read
from trainer.tuning.reports.chart_data import chart_data
from trainer.tuning.reports.report import page, write_report

SECTIONS = [
    "summary",
    "history",
    "curves",
    "importance",
    "slices",
    "contours",
    "parallel",
    "timeline",
    "difference",
    "trials",
]
EVIL = "</script><script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    parsed: dict[str, Any] = json.loads(found[1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    return parsed


def empty(folder: Path) -> StudyRecord:
    return replace(big(folder, 0), ended=None, ends="")


def one(folder: Path) -> StudyRecord:
    return big(folder, 5, parallel=1)


def all_failed(folder: Path) -> StudyRecord:
    record = big(folder, 12)
    told = {"state": "failed", "objective": None, "metrics": {}, "curve": [], "reason": "NaN: the loss is not finite"}
    return replace(record, trials=[replace(t, **told) for t in record.trials])  # type: ignore[arg-type]


def not_finite(folder: Path) -> StudyRecord:
    record = big(folder, 12)
    odd = [math.nan, math.inf, -math.inf, 1e300, 2.0]
    trials = [
        replace(t, state="completed", objective=(odd[t.number % 5],), curve=[(1.0, 1.0, odd[t.number % 5])])
        for t in record.trials
    ]
    return replace(record, trials=trials)


def only_choices(folder: Path) -> StudyRecord:
    record = big(folder, 30)
    lists: list[Any] = [[64, 32], [128], None, True]
    space = [SPACE[4], {"key": "algorithm.sizes", "kind": "choice", "choices": lists}]
    trials = []
    for t in record.trials:
        values = {"algorithm.optimizer": t.values["algorithm.optimizer"], "algorithm.sizes": lists[t.number % 4]}
        trials.append(replace(t, values=values, state="completed", objective=(1.0 + t.number % 3,)))
    return replace(record, space=space, trials=trials)


def many_parameters(folder: Path) -> StudyRecord:
    record = big(folder, 40)
    keys = [f"algorithm.a_parameter_with_a_rather_long_name_{i}" for i in range(25)]
    space = [{"key": key, "kind": "float", "low": 0.0, "high": 1.0} for key in keys]
    trials = [
        replace(
            t,
            values={k: (t.number * (i + 3) % 17) / 17 for i, k in enumerate(keys)},
            prior="a" if t.number < 4 else None,
        )
        for t in record.trials
    ]
    return replace(record, space=space, trials=trials, metrics=["validation_accuracy"], goals=["max"])


def evil(folder: Path) -> StudyRecord:
    record = big(folder, 20)
    trials = [
        replace(t, reason=EVIL, job=EVIL, values={**t.values, "algorithm.optimizer": EVIL, f"algorithm.{EVIL}": 1.0})
        for t in record.trials
    ]
    return replace(record, name=EVIL, ends=EVIL, notes=[EVIL], metrics=[EVIL], trials=trials, base={EVIL: {EVIL: EVIL}})


STUDIES = [empty, one, all_failed, not_finite, only_choices, many_parameters, evil]


def test_a_study_of_500_trials_fits_well_into_a_megabyte(tmp_path: Path):
    path = write_report(big(tmp_path, 500, objectives=2))
    assert path.stat().st_size < 700_000


def test_long_curves_are_thinned_and_keep_their_ends(tmp_path: Path):
    record = big(tmp_path, 500)
    long = [(float(i), float(i), 1 / (i + 1)) for i in range(10_000)]
    text = page(replace(record, trials=[replace(t, curve=long) for t in record.trials]))
    assert len(text) < 1_000_000
    xs, ys, _ = data_of(text)["trials"][7]["c"][0]
    assert (xs[0], xs[-1], len(xs), len(ys)) == (0, 9999, 40, 40)


def test_it_asks_the_network_for_nothing(tmp_path: Path):
    text = page(big(tmp_path, 20))
    assert "default-src 'none'" in text
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert "@import" not in text
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("make", STUDIES)
def test_whatever_a_study_holds_is_data_and_valid_json(make: Any, tmp_path: Path):
    text = page(make(tmp_path))
    assert text.count("<script") == text.count("</script>") == 2
    assert "<img" not in text
    assert len(data_of(text)["trials"]) == len(make(tmp_path).trials)


def test_the_best_is_compared_with_what_the_study_started_from(tmp_path: Path):
    data = chart_data(read(written(tmp_path / "digits")))
    assert ["algorithm.lr", "0.05", "0.03"] in data["diff"]
    assert not [key for key, *_ in data["diff"] if key in ("job.name", "job.dir")]


def test_waits_after_an_interruption_are_told_and_one_that_lasts_has_no_end(tmp_path: Path):
    first, second = chart_data(read(written(tmp_path / "digits")))["trials"][4]["w"]
    assert first[0] <= first[1]
    assert second[1] is None


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


NARROW = """[document.documentElement.scrollWidth, innerWidth,
  [...document.querySelectorAll("body *:not(.skip)")].filter((e) => !e.closest("svg") && e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => e.outerHTML.slice(0, 90))]"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize(
    "make", [*STUDIES, lambda folder: big(folder, 80, objectives=2)], ids=lambda make: make.__name__
)
def test_it_opens_without_an_error_or_a_sideways_scroll(make: Any, width: int, tab: Page, tmp_path: Path):
    path = write_report(make(tmp_path))
    tab.open(path, width=width, dark=width == 360)
    assert tab.errors == []
    assert tab.requests == [path.as_uri()]
    assert tab.run("window.evil") is None
    found = tab.run("[...document.querySelectorAll('section')].map((s) => s.id)")
    assert [name for name in SECTIONS if name not in found] == []
    assert tab.run(NARROW) == [width, width, []]
    tab.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    tab.run("document.querySelectorAll('#trials td button').forEach((b, i) => { if (i < 3) b.click(); })")
    tab.run("new Promise((done) => setTimeout(done, 50))")
    assert tab.run(NARROW) == [width, width, []]
    assert tab.errors == []
    told = tab.run("document.body.innerText").replace("NaN: the loss", "")
    odd = ("undefined", "NaN", "[object", *(() if make is only_choices else ("null",)))  # null is one of those choices
    assert [word for word in odd if word in told] == []


@pytest.mark.slow
def test_every_chart_has_its_figures_as_a_table_and_a_label(tab: Page, tmp_path: Path):
    tab.open(write_report(big(tmp_path, 80, objectives=2)))
    assert tab.run(
        "[...document.querySelectorAll('figure > svg')].every((s) => s.getAttribute('aria-label') && s.tabIndex === 0)"
    )
    charts = "[...document.querySelectorAll('section')].filter((s) => s.querySelector('figure'))"
    assert tab.run(f"{charts}.filter((s) => !s.querySelector('details, table')).map((s) => s.id)") == []


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_its_texts_stand_out_from_what_is_behind_them(dark: bool, tab: Page, tmp_path: Path):
    tab.open(write_report(big(tmp_path, 12)), dark=dark)
    colors = {
        name: tab.run(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
        for name in ("ink", "dim", "accent", "series", "failed", "card", "page", "field")
    }
    for text in ("ink", "dim", "accent", "series", "failed"):
        for behind in ("card", "page", "field"):
            assert contrast(colors[text], colors[behind]) >= 4.5, (text, behind)


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it, from 1 to 21."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def middle(tab: Page, selector: str) -> tuple[float, float]:
    """The middle of an element, scrolled to."""
    tab.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
    box = tab.run(
        f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; }})()"
    )
    return float(box[0]), float(box[1])


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
def test_a_tap_on_a_point_tells_its_trial_and_marks_it_everywhere(width: int, tab: Page, tmp_path: Path):
    tab.open(write_report(big(tmp_path, 60)), width=width)
    tab.tap(*middle(tab, "#history .best"))
    best = big(tmp_path, 60).best()
    assert best is not None
    assert not tab.run("document.getElementById('tip').hidden")
    assert f"Trial {best.number}" in tab.run("document.getElementById('tip').innerText")
    lit = tab.run("[...document.querySelectorAll('section')].filter((s) => s.querySelector('.on')).map((s) => s.id)")
    assert {"history", "curves", "slices", "contours", "parallel", "timeline"} <= set(lit)
    tab.press("Escape")
    assert tab.run("document.getElementById('tip').hidden && !document.querySelector('.on')")


@pytest.mark.slow
def test_the_arrow_keys_go_through_a_charts_trials(tab: Page, tmp_path: Path):
    tab.open(write_report(big(tmp_path, 30)))
    tab.run("document.querySelector('#history svg').focus()")
    tab.press("ArrowRight")
    first = tab.run("document.querySelector('#tip b').innerText")
    tab.press("ArrowRight")
    assert (first, tab.run("document.querySelector('#tip b').innerText")) == ("Trial 0", "Trial 1")


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
def test_an_axis_of_the_parallel_coordinates_filters_by_a_tap_and_by_a_drag(width: int, tab: Page, tmp_path: Path):
    tab.open(write_report(big(tmp_path, 60)), width=width)
    status = "document.querySelector('#parallel [role=status]').innerText"
    off = "document.querySelectorAll('#parallel .thread.off').length"
    assert "nothing is filtered" in tab.run(status)
    x, y = middle(tab, "#parallel .hit")
    tab.tap(x, y)
    assert tab.run(off) > 0
    assert "the best of them is trial" in tab.run(status)
    tab.tap(x, y)
    assert tab.run(off) == 0
    tab.drag(x, y, *((x + 60, y) if width == 360 else (x, y + 60)))
    assert tab.run(off) > 0
    assert tab.run("document.querySelectorAll('#parallel .brush').length") == 1
    tab.run("document.querySelector('#parallel button').click()")
    assert tab.run(off) == 0


@pytest.mark.slow
def test_the_table_sorts_and_filters(tab: Page, tmp_path: Path):
    record = big(tmp_path, 120)
    tab.open(write_report(record), width=360)
    rows = "[...document.querySelectorAll('#trials tbody tr')].map((r) => Number(r.cells[0].innerText))"
    assert tab.run(rows) == list(range(25))
    tab.run(
        "(() => { const s = document.getElementById('sort'); s.value = 'validation_loss'; s.dispatchEvent(new Event('change')); })()"
    )
    least = sorted((t for t in record.trials if t.objective), key=lambda t: t.objective)  # type: ignore[arg-type, return-value]
    assert tab.run(rows)[:5] == [trial.number for trial in least[:5]]
    tab.run(
        "(() => { const f = document.getElementById('filter'); f.value = 'lr<0.001 adam'; f.dispatchEvent(new Event('input')); })()"
    )
    fits = [
        t.number
        for t in record.trials
        if t.values["algorithm.lr"] < 0.001 and t.values["algorithm.optimizer"] == "adam"
    ]
    assert f"of {len(fits)} trials that fit, of 120" in tab.run(
        "document.querySelector('#trials [role=status]').innerText"
    )
    assert set(tab.run(rows)) <= set(fits)


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [1, 2])
def test_any_metric_that_trials_reported_can_be_looked_at(objectives: int, tab: Page, tmp_path: Path):
    tab.open(write_report(big(tmp_path, 60, objectives=objectives)))
    assert "validation_loss of every trial" in tab.run("document.querySelector('#history').innerText")
    tab.run(
        "(() => { const s = document.getElementById('metric'); s.value = '1'; s.dispatchEvent(new Event('change')); })()"
    )
    for section in ("history", "importance", "slices", "contours"):
        assert "size" in tab.run(f"document.querySelector('#{section} .lead').innerText")
    assert "size" in tab.run("document.querySelector('#parallel svg').textContent")
    assert "No trial has reported size while it learned" in tab.run("document.querySelector('#curves').innerText")
    assert tab.run("document.activeElement.id") == "metric"
    assert tab.errors == []


@pytest.mark.slow
def test_an_axis_over_orders_of_magnitude_is_a_log_axis_by_itself(tab: Page, tmp_path: Path):
    record = big(tmp_path, 40)
    pressed = "[...document.querySelectorAll('#history .controls button')].map((b) => b.getAttribute('aria-pressed'))"
    tab.open(write_report(record))
    assert tab.run(pressed) == ["false"]
    trials = [replace(t, objective=(10.0 ** -(t.number % 5),)) if t.objective else t for t in record.trials]
    tab.open(write_report(replace(record, trials=trials)))
    assert tab.run(pressed) == ["true"]
    assert "1e-4" in tab.run("document.querySelector('#history svg').textContent")
    assert tab.errors == []


@pytest.mark.slow
def test_the_gain_over_the_default_is_read_off(tab: Page, tmp_path: Path):
    record = big(tmp_path, 40)
    number = record.ranked()[3].number
    trials = [replace(t, default=t.number == number) for t in record.trials]
    tab.open(write_report(replace(record, trials=trials)))
    assert "; default " in tab.run("document.querySelector('#summary .gain').innerText")
    assert tab.run("['history', 'curves'].map((id) => document.querySelectorAll(`#${id} figure .usual`).length)") == [
        1,
        1,
    ]
    tab.open(write_report(record))
    assert tab.run("document.querySelectorAll('.usual, .gain').length") == 0
    assert tab.errors == []


@pytest.mark.slow
def test_a_trial_that_went_on_from_another_is_drawn_as_one_line_from_the_first_ancestor(tab: Page, tmp_path: Path):
    tab.open(write_report(family(tmp_path)))
    starts = "[1, 2].map((n) => document.querySelector(`#curves path[data-t='${n}']`).getAttribute('d').match(/^M[^L]*L/)[0])"
    first = tab.run("document.querySelector(`#curves path[data-t='0']`).getAttribute('d').match(/^M[^L]*L/)[0]")
    assert tab.run(starts) == [first, first]
    assert "is one line with it" in tab.run("document.querySelector('#curves .lead').innerText")
    assert tab.errors == []


@pytest.mark.slow
def test_a_window_that_changes_its_width_is_drawn_anew(tab: Page, tmp_path: Path):
    tab.open(write_report(big(tmp_path, 30)))
    tab.resize(400, 800)
    assert tab.run("document.querySelector('#history svg').viewBox.baseVal.width <= 400")
    assert tab.run(NARROW) == [400, 400, []]
    assert tab.errors == []
