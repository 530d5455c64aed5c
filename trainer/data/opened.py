"""What a job trains on."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.data.samples import Samples
from trainer.data.schema import Schema


@dataclass
class Opened:
    schema: Schema
    train: Samples
    validation: Samples | None
