"""What a range of Hydra's sweep grammar spans, as `range(2,8)` does."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from trainer.errors import UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import RangeSweep


def bounds_of(sweep: RangeSweep, text: str) -> tuple[Decimal, Decimal, Decimal]:
    """A range's start, stop and step. text: the override that has it. Raises UserError for one without a value."""
    start, stop, step = (Decimal(str(number)) for number in (sweep.start, sweep.stop, sweep.step))
    if not all(number.is_finite() for number in (start, stop, step)) or step == 0:
        raise UserError(f"{text}: a range needs finite numbers, and a step other than 0")
    if (stop - start) * step <= 0:
        raise UserError(f"{text}: the range is empty; its end, which is left out, comes after its start")
    return start, stop, step
