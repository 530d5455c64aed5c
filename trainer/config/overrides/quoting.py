"""What Hydra's grammar of overrides doesn't tell: what to write for a value that needs quotes of its own, which range has no value."""

from __future__ import annotations

import re
import shlex
from decimal import Decimal
from typing import TYPE_CHECKING

from trainer.errors import UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import RangeSweep

_OPEN = re.compile(r"['\"]|\[[^]]*$|\{[^}]*$|\{.*\}$")  # a quote or list that nothing closes, or a dictionary
_FUNCTION = re.compile(r"(?:choice|range|interval|glob|tag|shuffle|sort|int|float|str|bool|json_str|extend_list)\(")


def unreadable(text: str) -> UserError:
    """Says what is wrong with an override that Hydra can't read, and how it is written where that can be known."""
    key, equals, value = text.partition("=")
    written = _quoted(value)
    if equals and key and written and _reads(f"{key}={written}"):
        return UserError(f"{text}: such a value needs quotes of its own: write {shlex.quote(f'{key}={written}')}")
    return UserError(f"{text!r} is not an override; write KEY=VALUE, and quote what the shell would read")


def bounds_of(sweep: RangeSweep, text: str) -> tuple[Decimal, Decimal, Decimal]:
    """A range's start, stop and step. text: the override that has it. Raises UserError for one without a value."""
    start, stop, step = (Decimal(str(number)) for number in (sweep.start, sweep.stop, sweep.step))
    if not all(number.is_finite() for number in (start, stop, step)) or step == 0:
        raise UserError(f"{text}: a range needs finite numbers, and a step other than 0")
    if (stop - start) * step <= 0:
        raise UserError(f"{text}: the range is empty; its end, which is left out, comes after its start")
    return start, stop, step


def _quoted(value: str) -> str:
    """The value in Hydra's quotes; of a list, each of its entries; empty for what is meant as something else than text."""
    from hydra.core.override_parser.types import Quote, QuotedString

    if _OPEN.match(value) or _FUNCTION.match(value):
        return ""
    if value.startswith("[") and value.endswith("]"):
        entries = [entry.strip() for entry in value[1:-1].split(",")]
        return "[" + ",".join(entry if _reads(f"key={entry}") else _quoted(entry) or "'" for entry in entries) + "]"
    return QuotedString(value, Quote.single if '"' in value else Quote.double).with_quotes()


def _reads(override: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True
