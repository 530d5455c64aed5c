"""Spaces as people write them: Hydra's sweep grammar on the command line, the same or plain YAML in a config.

    algorithm.lr=tag(log,interval(1e-4,1))          a float, evenly over its logarithm
    algorithm.beta2=tag(reverse_log,interval(0.9,0.9999))   evenly over the logarithm of 1 - x
    algorithm.layers=int(interval(2,8))             a whole number, both bounds included
    algorithm.layers=range(2,8)                     2 … 7: Hydra leaves out the end; range(0.1,0.5,0.1) has steps
    algorithm.objective=squared,huber               a choice; choice(squared,huber) is the same
    strategy=ddp,fsdp                               a choice of configs

`interval` is a float; between whole bounds it is an int where the key takes whole numbers only, as `space.build` finds.
In YAML a parameter is such a text, a list of choices, or {low, high, log: true | scale, step, choices, kind, when}.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.config.overrides.quoting import bounds_of, unreadable
from trainer.errors import UserError, did_you_mean
from trainer.tuning.spaces.parameter import SCALES, Parameter

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override, RangeSweep

FIELDS = ("low", "high", "log", "scale", "step", "choices", "kind", "when")
SPREAD = ("low", "high", "choices")  # one of these tells a parameter from a mapping of parameters


def split(overrides: Sequence[str]) -> tuple[list[str], list[Parameter]]:
    """The overrides of a command line that fix something, and those that span a space.

    Flags and Hydra's own settings are among the first. Raises UserError for what can't be read, and for a key that is
    both fixed and spanned, or spanned twice.
    """
    plain: list[str] = []
    spanned: dict[str, Parameter] = {}
    fixed: dict[str, str] = {}
    for text in overrides:
        if text.startswith(("-", "~")) or "=" not in text:
            plain.append(text)
            continue
        override = _parsed(text)
        key = override.key_or_group
        if not override.is_sweep_override() or key.startswith(("hydra.", "hydra/")):
            plain.append(text)
            fixed[key] = text
            continue
        if override.package is not None:
            raise UserError(f"{text}: a group in another package can't be searched; leave out @{override.package}")
        if key in spanned:
            raise UserError(f"{key}: it is given twice, each time with several values; leave one out")
        spanned[key] = _parameter(key, override, text)
    for key in spanned:
        if key in fixed:
            raise UserError(f"{key}: it is fixed by {fixed[key]} and spans values too; leave one out")
    return plain, list(spanned.values())


def unfixed(parameters: Iterable[Parameter], overrides: Sequence[str]) -> list[Parameter]:
    """The parameters whose keys none of the overrides fixes: what a recommended space leaves to search."""
    fixed = {text.lstrip("+~").partition("=")[0] for text in overrides}
    return [parameter for parameter in parameters if parameter.key not in fixed]


def from_config(node: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """The parameters of `tune.space`, or of a recommended one: keys dotted or nested; null takes a key out.

    Raises UserError.
    """
    if not isinstance(node, Mapping):
        raise UserError(f"tune.space: {node!r} is no space; write KEY: interval(low, high), a line each")
    parameters: list[Parameter] = []
    for key, value in _flat(node, ""):
        if isinstance(value, Mapping):
            parameters.append(_of_mapping(key, value))
        elif isinstance(value, list | tuple):
            parameters.append(Parameter(key, "choice", choices=tuple(value)))
        elif isinstance(value, str):
            parameters.append(parse(key, value))
        elif value is not None:
            raise UserError(f"{key}: {value!r} is one value; a parameter is an interval, a range or a list of choices")
    return tuple(parameters)


def parse(key: str, text: str) -> Parameter:
    """The parameter that a text in the sweep grammar is, such as `tag(log, interval(1e-4, 1))`. Raises UserError."""
    whole = f"{key}={text}"
    override = _parsed(whole)
    if not override.is_sweep_override():
        raise UserError(f"{key}: {text!r} is one value; write interval(low, high), range(…), or choices as in a,b")
    return _parameter(key, override, whole)


def _flat(node: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        spread = isinstance(value, Mapping) and any(not isinstance(value.get(w, {}), Mapping) for w in SPREAD)
        if isinstance(value, Mapping) and value and not spread:
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _of_mapping(key: str, node: Mapping[str, Any]) -> Parameter:
    for name in node:
        if name not in FIELDS:
            raise UserError(f"{key}.{name}: a parameter has no such setting; {did_you_mean(str(name), FIELDS)}")
    scale = node.get("scale")
    log = node.get("log", False)
    if not isinstance(log, bool):
        raise UserError(f"{key}.log: {log!r} is not true or false")
    if log and scale not in (None, "log"):
        raise UserError(f"{key}: log: true and scale: {scale} contradict each other; leave one out")
    choices = node.get("choices")
    if choices is not None and (isinstance(choices, str) or not isinstance(choices, Sequence)):
        raise UserError(f"{key}.choices: {choices!r} is not a list")
    return Parameter(
        key,
        str(node.get("kind") or ("float" if choices is None else "choice")),
        low=node.get("low"),
        high=node.get("high"),
        scale="log" if log else str(scale or "linear"),
        step=node.get("step"),
        choices=tuple(choices or ()),
        when=node.get("when"),
    )


def _parsed(text: str) -> Override:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        said = str(error)
    key, _, value = text.partition("=")
    reason = said.splitlines()[0].partition(f"while evaluating '{value}': ")[2]
    if match := re.search(r"Unknown function '(\w*)'", said):
        known = re.findall(r"\w+", said.rpartition("Available:")[2])
        raise UserError(f"{key}: {match[1]} is no function of the sweep grammar; {did_you_mean(match[1], known)}")
    if "NoneType is incompatible" in reason:
        raise UserError(f"{key}: {value}: a function takes no null; write the choices without one, as in a,b,null")
    if match := re.search(r"argument (\w+): \w+ is incompatible with Union\[int, float\]", reason):
        raise UserError(f"{key}: {value}: its {match[1]} is not a number")
    if reason:
        raise UserError(f"{key}: {value} can't be read: {reason}")
    raise unreadable(text)


def _parameter(key: str, override: Override, text: str) -> Parameter:
    from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, RangeSweep, Sweep

    sweep: Any = override.value()
    if isinstance(sweep, Glob):
        from trainer.config.conf_files import choices

        return Parameter(key, "choice", choices=tuple(sweep.filter(choices(key))))
    tags = sorted(sweep.tags) if isinstance(sweep, Sweep) else []
    for tag in tags:
        if tag not in SCALES:
            raise UserError(f"{text}: {tag!r} is no scale; {did_you_mean(tag, SCALES)}")
    if len(tags) > 1:
        raise UserError(f"{text}: it has the scales {' and '.join(tags)}; leave one out")
    scale = tags[0] if tags else "linear"
    if isinstance(sweep, IntervalSweep):
        whole = isinstance(sweep.start, int) and isinstance(sweep.end, int)
        return Parameter(key, "int" if whole else "float", sweep.start, sweep.end, scale)
    if isinstance(sweep, RangeSweep):
        return _of_range(key, sweep, scale, text)
    assert isinstance(sweep, ChoiceSweep)
    if any(isinstance(choice, Sweep) for choice in sweep.list):
        raise UserError(f"{text}: an interval or a range can't be one of several choices; give the key one of them")
    return Parameter(key, "choice", scale=scale, choices=tuple(_plain(choice) for choice in sweep.list))


def _of_range(key: str, sweep: RangeSweep, scale: str, text: str) -> Parameter:
    """The values from start on, step by step, that lie before stop."""
    numbers = (sweep.start, sweep.stop, sweep.step)
    start, stop, step = bounds_of(sweep, text)
    count = (stop - start) // step + ((stop - start) % step != 0)
    ends = sorted((start, start + (count - 1) * step))
    if all(isinstance(number, int) for number in numbers):
        low, high = (int(end) for end in ends)
        return Parameter(key, "int", low, high, scale, step=None if abs(step) == 1 else int(abs(step)))
    return Parameter(key, "float", float(ends[0]), float(ends[1]), scale, step=float(abs(step)))


def _plain(choice: Any) -> Any:
    """A parsed choice as plain data: quotes taken off."""
    if isinstance(choice, list):
        return [_plain(item) for item in choice]
    if isinstance(choice, dict):
        return {_plain(key): _plain(value) for key, value in choice.items()}
    return getattr(choice, "text", choice)
