"""What a job trains on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from trainer.data.schema import Schema
from trainer.data.tables.samples import Samples


@dataclass
class Opened:
    """test: what the model is scored on at the end, None for none. label: what the label was taken for, in words. left_out: columns that aren't learned from. notes: lines that a person
    should read of how the data was taken. content: a sum of the files' bytes, "" where there are none."""

    schema: Schema
    train: Samples
    validation: Samples | None
    label: str = ""
    left_out: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    content: str = ""
    test: Samples | None = None
    is_open: ClassVar[bool] = True


class Later:
    """Data that is opened when somebody first asks for it, on all workers at once."""

    def __init__(self, open: Callable[[], Opened]) -> None:
        self._open, self.is_open = open, False

    @cached_property
    def _opened(self) -> Opened:
        opened = self._open()
        self.is_open = True
        return opened

    @property
    def schema(self) -> Schema:
        return self._opened.schema

    @property
    def train(self) -> Samples:
        return self._opened.train

    @property
    def validation(self) -> Samples | None:
        return self._opened.validation

    @property
    def test(self) -> Samples | None:
        return self._opened.test
