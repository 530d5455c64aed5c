"""A space held against the config it is to vary: what can't work is found before the first trial.

Every bound and choice is put into the config, which is then checked as `headway train` checks it. What fails with the
other keys as they stand may do with others' values: it is a mistake if it fails beside twenty random points too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from random import Random
from typing import Any

from trainer.config import schema, unused
from trainer.config.conf_files import choices, groups
from trainer.errors import UserError, did_you_mean
from trainer.tuning.spaces.expression import Expression, Unknown
from trainer.tuning.spaces.parameter import Parameter
from trainer.tuning.spaces.placing import check_key, hint_of, known_values, leaves, placed
from trainer.tuning.spaces.space import Space, described

Recompose = Callable[[Mapping[str, str]], Mapping[str, Any]]

DRAWS = 10_000  # after which a constraint that none has kept counts as impossible
LEAST = 200  # draws, so that values that a condition can't compare show up
OTHERS = 20  # random points beside which a value that fails alone is tried
TOGETHER = 16  # random points that are checked as a whole, some milliseconds each
COMPOSED = 32  # combinations of groups' choices; of more only those that differ from the first in one
OWN = ("job.dir", "job.name", "job.dry_run")


@dataclass(frozen=True)
class _Setting:
    """A config that trials may start from, and the choices of groups that give it."""

    groups: Mapping[str, Any]
    config: Mapping[str, Any]


class Checker:
    """Checks spaces against one config."""

    def __init__(self, config: Mapping[str, Any], recompose: Recompose | None = None) -> None:
        self.config = config
        self.recompose = recompose

    def checked(self, parameters: tuple[Parameter, ...], constraints: Sequence[str | Expression]) -> Space:
        """The space. Raises UserError."""
        if not parameters:
            raise UserError(
                "the space is empty: give a key several values, as in 'algorithm.lr=tag(log,interval(1e-4,1))'"
            )
        _no_duplicates(parameters)
        expressions = tuple(c if isinstance(c, Expression) else Expression(c) for c in constraints)
        spanned = {p.key: p for p in parameters if self._is_group(p)}
        settings = self._settings(tuple(spanned.values()))
        unused.refuse([setting.config for setting in settings])
        fixed = self._fixed(parameters, expressions, settings)
        space = Space(in_order(parameters), expressions, fixed)
        checked = {p.key: p if p.key in spanned else self._of_key(p, space, settings) for p in parameters}
        space = replace(space, parameters=tuple(checked[key] for key in space.keys))
        satisfiable(space)
        self._together(space, settings)
        return space

    def _is_group(self, parameter: Parameter) -> bool:
        key = parameter.key
        known = "." not in key and (isinstance(self.config.get(key), Mapping) or key in groups())
        if known:
            if parameter.kind != "choice" or not all(isinstance(choice, str) for choice in parameter.choices):
                raise UserError(f"{key} is a config group; write its choices, as in {key}={','.join(choices(key)[:2])}")
            if self.recompose is None:
                for choice in parameter.choices:
                    if choice not in choices(key):
                        raise UserError(
                            f"{key}={choice}: there is no such choice; {did_you_mean(choice, choices(key))}"
                        )
        return known

    def _settings(self, spanned: Sequence[Parameter]) -> list[_Setting]:
        """The configs that trials start from; one with no groups told where they can't be composed."""
        if not spanned or self.recompose is None:
            return [_Setting({}, self.config)]
        first = {p.key: p.choices[0] for p in spanned}
        if prod(len(p.choices) for p in spanned) <= COMPOSED:
            chosen = [dict(zip(first, choice, strict=True)) for choice in product(*(p.choices for p in spanned))]
        else:
            chosen = [first, *({**first, p.key: choice} for p in spanned for choice in p.choices[1:])]
        return [_Setting(choice, self.recompose(choice)) for choice in chosen]

    def _fixed(
        self, parameters: Sequence[Parameter], constraints: Sequence[Expression], settings: Sequence[_Setting]
    ) -> dict[str, Any]:
        """The config's values of the names in conditions. Raises UserError for a name that is nothing."""
        keys = {p.key for p in parameters}
        configs = [known_values(setting.config) for setting in settings]
        known = keys.union(*configs)
        whens = [(f"{p.key}: `{p.when}`", Expression(p.when)) for p in parameters if p.when is not None]
        fixed: dict[str, Any] = {}
        for where, expression in [*whens, *((f"the constraint `{c}`", c) for c in constraints)]:
            for name in sorted(expression.names):
                if name not in known:
                    raise UserError(f"{where} names {name}, and there is no such key; {did_you_mean(name, known)}")
                found = [config[name] for config in configs if name in config]
                if found and all(value == found[0] for value in found):
                    fixed[name] = found[0]
                elif found and name not in keys:
                    raise UserError(
                        f"{where}: what {name} is depends on the choice of {name.split('.')[0]}; make it a parameter too"
                    )
        spanned = {key for key in keys if "." not in key}
        return {name: value for name, value in fixed.items() if name not in spanned}

    def _of_key(self, parameter: Parameter, space: Space, settings: Sequence[_Setting]) -> Parameter:
        """The parameter, its bounds and choices those of its key; a float of a key of whole numbers is an int."""
        key = parameter.key
        if key in OWN:
            raise UserError(f"{key}: each trial has its own, so it can't be searched")
        if self.recompose is None and "." in key and key.split(".")[0] in space.keys:
            return parameter  # its group is a parameter, whose other choices are not known here
        where = [setting for setting in settings if _may_exist(space, parameter, setting.groups)]
        lines = [line for setting in where if (line := unused.told(setting.config, key))]
        if lines and len(lines) == len(where):
            raise UserError(lines[0])
        for setting in where:
            parameter = _whole(parameter, setting.config)
            for value in parameter.choices if parameter.kind == "choice" else (parameter.low, parameter.high):
                _check_value(parameter, value, space, setting)
        return parameter

    def _together(self, space: Space, settings: Sequence[_Setting]) -> None:
        """Raises UserError for a point that keeps all constraints and can't run all the same."""
        rng = Random(0)
        for _ in range(TOGETHER):
            values = space.random(rng)
            of_groups = {key: value for key, value in values.items() if "." not in key}
            setting = next((s for s in settings if s.groups == of_groups), None)
            if setting is None or not space.feasible(values):
                continue
            plain = {key: value for key, value in values.items() if key not in of_groups}
            try:
                schema.check(placed(setting.config, plain))
            except UserError as error:
                raise UserError(
                    f"{error}. That is the point {described(values)}: leave such out with `when` or tune.constraints"
                ) from None


def in_order(parameters: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """The parameters, each after those that its `when` names. Raises UserError for a circle."""
    needs = {p.key: Expression(p.when).names if p.when is not None else frozenset() for p in parameters}
    ordered: list[Parameter] = []
    waiting = list(parameters)
    while waiting:
        left = {p.key for p in waiting}
        ready = next((p for p in waiting if not needs[p.key] & left), None)
        if ready is None:
            circle = [p.key for p in waiting if needs[p.key] & left]
            raise UserError(f"`when` of {' and '.join(circle)}: they wait for each other; one must exist by itself")
        ordered.append(ready)
        waiting.remove(ready)
    return tuple(ordered)


def satisfiable(space: Space) -> None:
    """Raises UserError for a constraint that no draw keeps, and for a parameter that exists in none."""
    rng = Random(0)
    unseen = {p.key for p in space.parameters if p.when is not None}
    broken = dict.fromkeys(range(len(space.constraints)), True)
    met = not space.constraints
    for number in range(DRAWS):
        if met and not unseen and number >= LEAST:
            return
        values = space.random(rng)
        unseen -= set(values)
        margins = space.margins(values)
        for index, margin in enumerate(margins):
            if margin <= 0:
                broken[index] = False
        met = met or all(margin <= 0 for margin in margins)
    for parameter in space.parameters:
        if parameter.key in unseen:
            raise UserError(f"{parameter.key}: `{parameter.when}` held in none of {DRAWS:,} random points of the space")
    if not met:
        alone = [space.constraints[index].text for index, never in broken.items() if never]
        named = alone or [constraint.text for constraint in space.constraints]
        raise UserError(f"none of {DRAWS:,} random points of the space keeps {' and '.join(f'`{t}`' for t in named)}")


def _no_duplicates(parameters: Sequence[Parameter]) -> None:
    seen: set[str] = set()
    for parameter in parameters:
        if parameter.key in seen:
            raise UserError(f"{parameter.key}: it is in the space twice; leave one out")
        seen.add(parameter.key)


def _may_exist(space: Space, parameter: Parameter, of_groups: Mapping[str, Any]) -> bool:
    """Whether the parameter can exist with these choices of groups, whatever the other values are."""
    if parameter.when is None:
        return True
    expression = Expression(parameter.when)
    others = set(space.keys) - set(of_groups)
    known = {name: value for name, value in space.fixed.items() if name not in others}
    try:
        return expression.holds({**known, **of_groups})
    except Unknown:
        return True


def _whole(parameter: Parameter, config: Mapping[str, Any]) -> Parameter:
    """As an int, where it is a float with whole bounds and no fraction is allowed, or the type is open and an int there."""
    if parameter.kind != "float" or parameter.scale == "reverse_log":
        return parameter
    assert parameter.low is not None
    assert parameter.high is not None
    if any(number is not None and number != int(number) for number in (parameter.low, parameter.high, parameter.step)):
        return parameter
    between = parameter.low + 0.5
    whole = replace(parameter, kind="int")
    try:
        check_key(config, parameter.key, between)
    except UserError:
        try:
            check_key(config, parameter.key, int(parameter.low))
        except UserError:
            return parameter
        return whole
    present = leaves(config).get(parameter.key)
    is_open = hint_of(parameter.key, config) is Any
    return whole if is_open and isinstance(present, int) and not isinstance(present, bool) else parameter


def _check_value(parameter: Parameter, value: Any, space: Space, setting: _Setting) -> None:
    key = parameter.key
    try:
        check_key(setting.config, key, value)
    except UserError as error:
        if any(_passes(key, value, others, setting) for others in _beside(space, setting)):
            return
        own = str(error).startswith(key) or str(error) == _problem(setting.config)
        raise UserError(str(error) if own else f"{key}={value}: {error}") from None


def _problem(config: Mapping[str, Any]) -> str:
    """What is wrong with the config as it stands; empty if nothing is."""
    try:
        schema.check(config)
    except UserError as error:
        return str(error)
    return ""


def _beside(space: Space, setting: _Setting) -> Iterator[dict[str, Any]]:
    """Random values of the plain keys, for the setting's choices of groups."""
    rng = Random(0)
    for _ in range(OTHERS):
        values = space.walk(lambda p: setting.groups[p.key] if p.key in setting.groups else p.random(rng))
        yield {key: value for key, value in values.items() if "." in key}


def _passes(key: str, value: Any, others: Mapping[str, Any], setting: _Setting) -> bool:
    try:
        check_key(placed(setting.config, others), key, value)
    except UserError:
        return False
    return True


def build(
    parameters: Iterable[Parameter],
    constraints: Sequence[str | Expression],
    config: Mapping[str, Any],
    *,
    recompose: Callable[[Mapping[str, str]], Mapping[str, Any]] | None = None,
) -> Space:
    """A space of these parameters and constraints (over parameters; see `expression.partition`), checked.

    config: the composed config that a trial starts from, without what is the study's own.
    recompose: the config with other choices of groups, such as {"algorithm": "gpt"}, for spaces that span groups;
    without it the keys below a group that is a parameter are not checked, nor are combinations of values.
    Raises UserError for a mistake that can be found before the first trial; the message names the key.
    """
    return Checker(config, recompose).checked(tuple(parameters), constraints)
