"""A space: the parameters of a study and the conditions between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

from trainer.errors import UserError, did_you_mean
from trainer.tuning.spaces.expression import Expression, Unknown
from trainer.tuning.spaces.parameter import Parameter as Parameter
from trainer.tuning.spaces.placing import placed as placed

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

PATIENCE = 100  # points looked at for each that is counted, before a space with hard constraints counts as plenty


@dataclass(frozen=True)
class Space:
    """What a study searches. Values are config values by key; a parameter whose `when` doesn't hold is absent.

    parameters: in an order in which every `when` refers to earlier ones (`build` sees to it).
    constraints: over parameters; a point that breaks one is never run.
    fixed: the config's values of keys that conditions name; also what a parameter counts as where it is absent.
    """

    parameters: tuple[Parameter, ...]
    constraints: tuple[Expression, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    _whens: Mapping[str, Expression] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        whens = {p.key: Expression(p.when) for p in self.parameters if p.when is not None}
        object.__setattr__(self, "_whens", whens)

    @property
    def keys(self) -> list[str]:
        return [parameter.key for parameter in self.parameters]

    def draw(self, suggest: Callable[[str, BaseDistribution], Any]) -> dict[str, Any]:
        """A point: asks `suggest` for each parameter that exists, by its name in the storage. Constraints may be broken."""
        return self.walk(lambda p: p.decode(suggest(p.name, p.distribution())))

    def random(self, rng: Random) -> dict[str, Any]:
        """A point, each value uniform on its scale. Constraints may be broken."""
        return self.walk(lambda parameter: parameter.random(rng))

    def walk(self, value: Callable[[Parameter], Any]) -> dict[str, Any]:
        """A point whose values are what `value` gives for each parameter that exists."""
        drawn: dict[str, Any] = {}
        for parameter in self.parameters:
            if self.exists(parameter, drawn):
                drawn[parameter.key] = value(parameter)
        return drawn

    def exists(self, parameter: Parameter, values: Mapping[str, Any]) -> bool:
        """Whether a parameter exists beside these values; not where its `when` names something that doesn't."""
        when = self._whens.get(parameter.key)
        if when is None:
            return True
        try:
            return when.holds({**self.fixed, **values})
        except Unknown:
            return False

    def feasible(self, values: Mapping[str, Any]) -> bool:
        """Whether a point keeps all constraints; one over a parameter that doesn't exist there says nothing."""
        return not any(margin > 0 for margin in self.margins(values))

    def margins(self, values: Mapping[str, Any]) -> list[float]:
        """By how much a point breaks each constraint, in their order; 0 or less where it doesn't."""
        known = {**self.fixed, **values}
        margins: list[float] = []
        for constraint in self.constraints:
            try:
                margins.append(constraint.margin(known))
            except Unknown:
                margins.append(0.0)
        return margins

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions by name in the storage, conditional parameters too."""
        return {parameter.name: parameter.distribution() for parameter in self.parameters}

    def stored(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Config values, of some or all parameters, as the storage has them.

        Raises UserError for a value outside of the space, a key that is no parameter, or one that doesn't exist beside
        the others, and for a whole point that breaks a constraint.
        """
        for key in values:
            if key not in self.keys:
                raise UserError(f"{key} is no parameter of this space; {did_you_mean(key, self.keys)}")
        stored = {p.name: p.encode(values[p.key]) for p in self.parameters if p.key in values}
        for parameter in self.parameters:
            when = self._whens.get(parameter.key)
            told = when is None or not (set(self.keys) & when.names) - set(values)
            if parameter.key in values and told and not self.exists(parameter, values):
                raise UserError(f"{parameter.key}: it exists only where {when}")
        for constraint in self.constraints:
            told = not (set(self.keys) & constraint.names) - set(values)
            if told and not replace(self, constraints=(constraint,)).feasible(values):
                raise UserError(f"the point {described(values)} breaks the constraint {constraint}")
        return stored

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The config values, by key, of stored params; those of other spaces are left out."""
        return {p.key: p.decode(params[p.name]) for p in self.parameters if p.name in params}

    def describe(self) -> list[str]:
        """A line a parameter, as in `algorithm.lr  0.0001 … 1  log`, then one a constraint."""
        width = max((len(key) for key in self.keys), default=0)
        lines = [f"{p.key:<{width}}  {_described(p)}" for p in self.parameters]
        return lines + [f"{'where':<{width}}  {constraint}" for constraint in self.constraints]

    def points(self, limit: int) -> int | None:
        """How many points there are, those that break a constraint not counted; None if a parameter is continuous.

        At most `limit`, where counting ends: also where constraints leave so few that it would take too long.
        """
        if any(parameter.count is None for parameter in self.parameters):
            return None
        found = 0
        for visited, values in enumerate(self._all({}, 0), start=1):
            found += self.feasible(values)
            if found >= limit or visited >= PATIENCE * limit + 10_000:
                return limit
        return found

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every point that keeps the constraints, the last parameter changing first.

        Raises UserError if a parameter is continuous.
        """
        for parameter in self.parameters:
            parameter.values()
        return (values for values in self._all({}, 0) if self.feasible(values))

    def _all(self, before: dict[str, Any], index: int) -> Iterator[dict[str, Any]]:
        if index == len(self.parameters):
            yield before
            return
        parameter = self.parameters[index]
        if not self.exists(parameter, before):
            yield from self._all(before, index + 1)
            return
        for value in parameter.values():
            yield from self._all({**before, parameter.key: value}, index + 1)

    def to_yaml(self) -> dict[str, Any]:
        """As plain data, from which `from_yaml` makes the same space."""
        return {
            "parameters": {parameter.key: parameter.to_yaml() for parameter in self.parameters},
            "constraints": [constraint.text for constraint in self.constraints],
            "fixed": dict(self.fixed),
        }

    @classmethod
    def from_yaml(cls, plain: Mapping[str, Any]) -> Space:
        return cls(
            tuple(Parameter.from_yaml(key, value) for key, value in plain["parameters"].items()),
            tuple(Expression(text) for text in plain.get("constraints", ())),
            dict(plain.get("fixed", {})),
        )

    def differences(self, other: Space) -> list[str]:
        """What differs, a line each, this space being `here` and the other `there`; [] for the same space."""
        here, there = ({p.key: p for p in space.parameters} for space in (self, other))
        changed = [key for key in {**there, **here} if not _same(here.get(key), there.get(key))]
        lines = [f"{key}: {_described(there.get(key))} there, {_described(here.get(key))} here" for key in changed]
        ours, theirs = ([c.text for c in space.constraints] for space in (self, other))
        lines += [f"the constraint {text} is not there" for text in ours if text not in theirs]
        lines += [f"the constraint {text} is only there" for text in theirs if text not in ours]
        return lines


def _same(one: Parameter | None, other: Parameter | None) -> bool:
    """By their text: true and 1 are equal to Python, and not to a config."""
    return one is not None and other is not None and repr(one) == repr(other)


def _described(parameter: Parameter | None) -> str:
    if parameter is None:
        return "no parameter"
    return parameter.span() + (f"  when {parameter.when}" if parameter.when is not None else "")


def described(values: Mapping[str, Any]) -> str:
    """A point in a line: `algorithm.lr=0.1 train.batch_size=64`."""
    return " ".join(
        f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()
    )
