"""One agent that trains job after job of this process, for tests of what jobs come to, not of how they start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from launchers.local import Local
from trainer.process.environment import variables


@contextmanager
def agent_stays() -> Iterator[None]:
    """Meanwhile local jobs are given to an agent that stays. It serves whoever has the same environment and working folder."""
    submit = Local.submit

    def to_it(launcher: Local, *given: Any, **named: Any) -> None:
        launcher.keep_warm()
        with variables({"PYTEST_CURRENT_TEST": None}):
            submit(launcher, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Local, "submit", to_it)
        yield
