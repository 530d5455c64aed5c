"""One parameter of a space: what values a config key may take, and how an Optuna study stores them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

from trainer.config.conversion import shown
from trainer.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

KINDS = ("float", "int", "choice")
SCALES = ("linear", "log", "reverse_log")


@dataclass(frozen=True)
class Parameter:
    """The values that a config key, or a config group, may take. Both bounds are included.

    key: a dotted config key, or a group (`strategy`) whose choices are then configs.
    kind: float, int or choice. A float between whole bounds becomes an int where its key takes whole numbers only.
    scale: linear, log, or reverse_log: evenly over log(1 - x), for what is near 1, as a decay of 0.9 … 0.9999.
    step: between values, from `low` on; `high` comes down to the last one. None is any value, for an int 1.
    choices: text, numbers, true, false, null, lists and mappings.
    when: a condition over other keys; the parameter exists only where it holds.
    Raises UserError for what is no parameter: an empty or inverted interval, a scale that its bounds don't allow.
    """

    key: str
    kind: str
    low: float | int | None = None
    high: float | int | None = None
    scale: str = "linear"
    step: float | int | None = None
    choices: tuple[Any, ...] = ()
    when: str | None = None

    def __post_init__(self) -> None:
        _one_of(self.key, "kind", self.kind, KINDS)
        _one_of(self.key, "scale", self.scale, SCALES)
        if self.kind == "choice":
            _check_choices(self)
        else:
            for name, value in _bounds(self).items():
                object.__setattr__(self, name, value)

    @property
    def name(self) -> str:
        """What the parameter is called in the study: its key, or `1 - KEY`."""
        return f"1 - {self.key}" if self.scale == "reverse_log" else self.key

    @property
    def count(self) -> int | None:
        """How many values it has; None where they are continuous."""
        if self.kind == "choice":
            return len(self.choices)
        assert self.low is not None
        assert self.high is not None
        step = self.step or (1 if self.kind == "int" else None)
        return None if step is None else round((self.high - self.low) / step) + 1

    def distribution(self) -> BaseDistribution:
        """Optuna's distribution of what is stored."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == "choice":
            return CategoricalDistribution([_hashable(choice) for choice in self.choices])
        assert self.low is not None
        assert self.high is not None
        if self.kind == "int":
            step = 1 if self.step is None else int(self.step)
            return IntDistribution(int(self.low), int(self.high), log=self.scale == "log", step=step)
        if self.scale == "reverse_log":
            return FloatDistribution(1 - self.high, 1 - self.low, log=True)
        return FloatDistribution(float(self.low), float(self.high), log=self.scale == "log", step=self.step)

    def encode(self, value: Any) -> Any:
        """A config value as it is stored. Raises UserError if it is none of the parameter's."""
        if self.kind == "choice":
            stored = _hashable(value)
            for choice in self.choices:
                if _hashable(choice) == stored and isinstance(choice, bool) == isinstance(value, bool):
                    return _hashable(choice)
            raise UserError(f"{self.key}: {shown(value)} is not one of {self.span()}")
        number = _number(self.key, "value", value)
        assert self.low is not None
        assert self.high is not None
        if not self.low <= number <= self.high:
            raise UserError(f"{self.key}: {number!r} is outside of {self.span()}")
        if self.kind == "int" and number != int(number):
            raise UserError(f"{self.key}: {number!r} is not a whole number")
        if self.step is not None and not _on_grid(number, self.low, self.step):
            raise UserError(f"{self.key}: {number!r} is between the steps of {self.span()}")
        if self.kind == "int":
            return int(number)
        return 1 - float(number) if self.scale == "reverse_log" else float(number)

    def decode(self, stored: Any) -> Any:
        """The config value of a stored one."""
        if self.kind == "choice":
            known = [_hashable(choice) for choice in self.choices]
            return self.choices[known.index(stored)]
        assert self.low is not None
        assert self.high is not None
        if self.kind == "int":
            return int(stored)
        value = 1 - float(stored) if self.scale == "reverse_log" else float(stored)
        if self.step is not None:
            value = self.at(round((value - self.low) / self.step))
        return min(max(value, float(self.low)), float(self.high))

    def at(self, index: int) -> Any:
        """The value number `index` of a parameter that has a count; without the rounding of repeated addition."""
        if self.kind == "choice":
            return self.choices[index]
        low, step = (Decimal(str(number)) for number in (self.low, self.step or 1))
        return int(low + index * step) if self.kind == "int" else float(low + index * step)

    def values(self) -> Iterator[Any]:
        """All its values in order. Raises UserError where they are continuous."""
        if self.count is None:
            raise UserError(f"{self.key}: {self.span()} has no steps; give it some, as in range(0.1, 0.5, 0.1)")
        return (self.at(index) for index in range(self.count))

    def random(self, rng: Random) -> Any:
        """A value, uniformly on the parameter's scale."""
        if self.kind == "choice" or self.step is not None:
            assert self.count is not None
            return self.at(rng.randrange(self.count))
        assert self.low is not None
        assert self.high is not None
        if self.kind == "int":
            if self.scale == "linear":
                return rng.randint(int(self.low), int(self.high))
            value = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
            return min(max(round(value), int(self.low)), int(self.high))
        if self.scale == "linear":
            return rng.uniform(self.low, self.high)
        if self.scale == "log":
            return self.decode(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return self.decode(math.exp(rng.uniform(math.log(1 - self.high), math.log(1 - self.low))))

    def span(self) -> str:
        """Its values for a person: `0.0001 … 1  log`."""
        if self.kind == "choice":
            return ", ".join(_text(choice) for choice in self.choices)
        words = [f"{_text(self.low)} … {_text(self.high)}"]
        words += [self.scale.replace("_", " ")] if self.scale != "linear" else []
        if self.step is not None and self.step != 1:
            words.append(f"step {_text(self.step)}")
        elif self.kind == "int":
            words.append("whole")
        return "  ".join(words)

    def to_yaml(self) -> dict[str, Any]:
        """As plain data, without its key: only what isn't the default."""
        plain: dict[str, Any] = {"kind": self.kind}
        if self.kind == "choice":
            plain["choices"] = list(self.choices)
        else:
            plain |= {"low": self.low, "high": self.high}
            plain |= {"scale": self.scale} if self.scale != "linear" else {}
            plain |= {"step": self.step} if self.step is not None else {}
        return plain | ({"when": self.when} if self.when is not None else {})

    @classmethod
    def from_yaml(cls, key: str, plain: Mapping[str, Any]) -> Parameter:
        return cls(key, **{**plain, "choices": tuple(plain.get("choices", ()))})


def _one_of(key: str, what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UserError(f"{key}: {value!r} is no {what} of a parameter; {did_you_mean(str(value), known)}")


def _check_choices(parameter: Parameter) -> None:
    key, choices = parameter.key, parameter.choices
    if not choices:
        raise UserError(f"{key}: there is nothing to choose from; write choice(a, b) or a,b")
    if parameter.scale != "linear" or parameter.step is not None or parameter.low is not None:
        raise UserError(f"{key}: choices have no scale, no step and no bounds; write interval(…) or range(…) for those")
    for index, choice in enumerate(choices):
        for earlier in choices[:index]:
            if _hashable(choice) == _hashable(earlier):
                same = "is there twice" if type(choice) is type(earlier) else f"counts as the same as {_text(earlier)}"
                raise UserError(f"{key}: the choice {_text(choice)} {same}")


def _bounds(parameter: Parameter) -> dict[str, Any]:
    """low, high and step as numbers of the parameter's kind. Raises UserError."""
    key, kind, scale = parameter.key, parameter.kind, parameter.scale
    if parameter.choices:
        raise UserError(f"{key}: it has both bounds and choices; leave one out")
    if parameter.low is None or parameter.high is None:
        raise UserError(f"{key}: it needs both low and high, or choices")
    low, high = _number(key, "low", parameter.low), _number(key, "high", parameter.high)
    step = None if parameter.step is None else _number(key, "step", parameter.step)
    if kind == "int":
        for number in (low, high, step):
            if number is not None and number != int(number):
                raise UserError(f"{key}: {number!r} is not a whole number, and it takes only those")
        low, high, step = int(low), int(high), None if step is None else int(step)
    shown_interval = f"the interval from {_text(low)} to {_text(high)}"
    if low > high:
        raise UserError(f"{key}: {shown_interval} is inverted; the lower bound comes first")
    if low == high and kind == "float" and step is None:
        raise UserError(f"{key}: {shown_interval} is empty; {key}={_text(low)} fixes a value")
    if scale == "log" and low <= 0:
        raise UserError(f"{key}: a log scale needs bounds above 0, and the lower one is {_text(low)}")
    if scale == "reverse_log" and (kind == "int" or not 0 <= low < high < 1):
        raise UserError(f"{key}: a reverse log scale needs numbers from 0 to below 1, and this is {shown_interval}")
    if step is not None:
        if step <= 0:
            raise UserError(f"{key}: a step of {_text(step)} leads nowhere; it must be more than 0")
        if scale != "linear" and step != 1:
            raise UserError(f"{key}: a {scale.replace('_', ' ')} scale has no steps; leave out one of both")
        if step > high - low and low != high:
            raise UserError(f"{key}: a step of {_text(step)} is larger than {shown_interval}")
        if scale != "linear":
            step = None
    if step is not None:
        whole = int((Decimal(str(high)) - Decimal(str(low))) / Decimal(str(step)))
        high = float(Decimal(str(low)) + whole * Decimal(str(step))) if kind == "float" else low + whole * step
    return {"low": low, "high": high, "step": step}


def _number(key: str, what: str, value: Any) -> Any:
    """A finite number, also of text such as 1e-4, which YAML leaves text. Raises UserError."""
    try:
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{key}: {what} is {shown(value)}, and that is not a finite number")
    return number


def _on_grid(number: float, low: float, step: float) -> bool:
    steps = (number - low) / step
    return abs(steps - round(steps)) < 1e-8  # Optuna's own tolerance


def _hashable(choice: Any) -> Any:
    """A choice as Optuna can store it: lists and mappings as JSON text."""
    plain = choice is None or isinstance(choice, bool | int | float | str)
    return choice if plain else json.dumps(choice, sort_keys=True)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value and value == value.strip() and "," not in value:
        return value
    return shown(value) if value is None or isinstance(value, bool | str) else str(value)
