"""What a job trains on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from trainer.data.samples import Samples
from trainer.data.schema import Schema


@dataclass
class Opened:
    schema: Schema
    train: Samples
    validation: Samples | None
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
