"""A study's options held against each other."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from trainer.errors import UserError
from trainer.tuning.options import SchedulerConfig, StudySchema, check


def options(**scheduler: Any) -> dict[str, Any]:
    return {**asdict(StudySchema()), "scheduler": asdict(SchedulerConfig(**scheduler))}


@pytest.mark.parametrize(
    ("scheduler", "line"),
    [
        ({"min": 3}, "scheduler=none doesn't use scheduler.min; scheduler=asha, hyperband, median does"),
        ({"name": "asha", "max": 3}, "scheduler=asha doesn't use scheduler.max; scheduler=hyperband does"),
        ({"name": "pbt", "startup": 3}, "scheduler=pbt doesn't use scheduler.startup; scheduler=median does"),
    ],
)
def test_a_key_that_the_scheduler_does_not_use_is_refused(scheduler: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        check(options(**scheduler))
    assert str(caught.value) == line


def test_what_a_scheduler_uses_is_taken() -> None:
    check(options(unit="steps"))
    check(options(name="hyperband", max=9, reduction=3))
    check(options(name="pbt", interval=2, quantile=0.5))
