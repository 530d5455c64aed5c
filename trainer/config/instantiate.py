"""Objects from config nodes: `_target_` and its arguments. What a target is, is looked at before it is called."""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from trainer.algorithm import Algorithm
from trainer.config import known, secret
from trainer.config.code.function import Function
from trainer.config.nouns import METHODS, is_standard, not_one
from trainer.errors import UserError


def build(node: Mapping[str, Any], noun: str, *, fill: bool = True) -> Any:
    """The object a config node describes. Raises UserError if its class is no `noun`, or refuses the arguments.

    fill: the secrets that it refers to are filled in from this process's environment.
    """
    target = str(node["_target_"])
    refuse_inner(node, noun)
    node = secret.filled(dict(node), noun) if fill else node
    try:
        found = None if is_standard(target) else locate(target)
        if not isinstance(found, type) or not is_a(found, noun):
            raise UserError(f"{noun}._target_: {not_one(target, noun)}")
        return _called(found, {key: _built(value) for key, value in node.items() if _is_argument(key)})
    except UserError as error:
        named = str(error).startswith((f"{noun}.", f"{noun}=", f"{noun}:"))
        raise UserError(str(error) if named else f"{noun}: {error}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{noun}: {target} refuses its settings: {error}") from error
    except (ImportError, AttributeError) as error:
        raise UserError(f"{noun}: {target} can't be loaded: {_first(error)}") from error


def build_algorithm(node: Mapping[str, Any], *, fill: bool = True) -> Any:
    """The algorithm that a config's node describes: an object of its class, or its function. Raises UserError. fill: as
    `build` takes it."""
    target = str(node["_target_"])
    try:
        found = None if is_standard(target) else locate(target)
    except (ImportError, AttributeError):
        found = None  # `build` says what is wrong
    if inspect.isfunction(found):
        node = secret.filled(dict(node), "algorithm") if fill else node
        return Function(found, {key: value for key, value in node.items() if not key.startswith("_")})
    return build(node, "algorithm", fill=fill)


def is_a(found: Any, noun: str) -> bool:
    """Whether a class, or for an algorithm a function of a context, is what `noun` is built of."""
    if noun == "algorithm":
        is_function = inspect.isfunction(found) and not is_standard(found.__module__)
        return is_function or (isinstance(found, type) and issubclass(found, Algorithm))
    return isinstance(found, type) and all(callable(getattr(found, name, None)) for name in METHODS[noun])


def locate(target: str) -> Any:
    """What a dotted name means; modules on its way are imported. Raises ImportError, AttributeError or whatever they raise."""
    module, _, name = target.rpartition(".")
    if not module or not all(part.isidentifier() for part in target.split(".")):
        raise ImportError(f"{target!r} is no target: write package.module.Class")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}.") or "." not in module:
            raise
        try:  # a class in a class, a method of one
            return getattr(locate(module), name)
        except ImportError:
            raise error from None


def refuse_inner(node: Mapping[str, Any], noun: str) -> None:
    """Raises UserError for settings that name by `_target_` what their owner's config may not name."""
    owner = str(node["_target_"])
    if node.get("_partial_"):
        raise UserError(f"{noun}._partial_: {owner} is to be built whole; leave it out")
    inner = set(known.inner_targets(dict(node)))
    if inner and owner in known.targets(noun):
        inner -= known.nested(noun, owner)
        refused = next(iter(inner), None)
        why = f"{owner} builds nothing of what its settings name"
    else:
        refused = next((name for name in inner if is_standard(name)), None)
        why = "Python's own functions and classes are nothing that a config builds"
    if refused is not None:
        raise UserError(f"{noun}: {refused} is not called: {why}")


def _is_argument(key: str) -> bool:
    return key == "_args_" or not key.startswith("_")


def _built(value: Any) -> Any:
    if isinstance(value, list):
        return [_built(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "_target_" not in value:
        return {key: _built(one) for key, one in value.items()}
    found = locate(str(value["_target_"]))
    settings = {key: _built(one) for key, one in value.items() if _is_argument(key)}
    return _called(functools.partial(functools.partial, found) if value.get("_partial_") else found, settings)


def _called(found: Callable[..., Any], settings: dict[str, Any]) -> Any:
    return found(*settings.pop("_args_", ()), **settings)


def _first(error: BaseException) -> str:
    """What an import failed of, with the line of the module that did."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = " ".join(str(error).split())
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_machinery(f.filename)]
    if not frames:
        return said
    return f"{frames[-1].filename}:{frames[-1].lineno}: {type(error).__name__}: {said}"


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<") or filename in (__file__, inspect.__file__) or "/importlib/" in filename
