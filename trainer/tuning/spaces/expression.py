"""Conditions over config keys, as a space writes them: `algorithm.width % (2 * algorithm.heads) == 0`.

Python's syntax, read with its own parser and walked here: numbers, text, true, false, null and lists, dotted names,
+ - * / // % **, comparisons (chained too), in, and, or, not, parentheses, abs, min and max. Nothing else, so that a
condition can neither run code nor take long.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.config.conversion import shown
from trainer.errors import UserError, did_you_mean

LONGEST = 1000  # characters; more is no condition
DEEPEST = 100  # levels of nesting, far from what exhausts the interpreter
BITS = 4096  # a power of whole numbers stays whole up to here
SLIGHTLY = 1e-9  # margin of a condition that is broken by no measurable amount, such as 3 < 3


class Unknown(UserError):
    """A condition needs the value of a name that has none where it is asked."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(f"`{text}`: {name} has no value here")
        self.name = name


class _Undefined(ArithmeticError):
    """A root of a negative number, and the like: there the condition doesn't hold."""


@dataclass(frozen=True)
class Expression:
    """A condition. `names`: the dotted names in it. Raises UserError for text that is none."""

    text: str
    names: frozenset[str] = field(init=False, compare=False)
    _tree: ast.expr = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tree = _parsed(self.text)
        names: set[str] = set()
        _admit(tree, self.text, names)
        if isinstance(tree, ast.BinOp | ast.List | ast.Tuple | ast.Call) or (
            isinstance(tree, ast.Constant) and not isinstance(tree.value, bool)
        ):
            raise UserError(f"`{self.text}` is a value, not a condition; compare it with something, as in a <= b")
        object.__setattr__(self, "names", frozenset(names))
        object.__setattr__(self, "_tree", tree)

    def __str__(self) -> str:
        return self.text

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds for these values, key → value. Where it is undefined (a division by 0) it doesn't.

        Raises Unknown if it needs a name that isn't among them, and UserError for values that can't be compared.
        """
        try:
            return bool(_value(self._tree, values, self.text))
        except ArithmeticError:
            return False

    def margin(self, values: Mapping[str, Any]) -> float:
        """By how much it is broken: above 0 if it is, else how far from it, 0 or less; always finite.

        For a comparison of numbers the difference of its sides; of several joined by `and` the greatest, by `or` the
        least; 1 and -1 for what has no measure. Raises as `holds` does.
        """
        try:
            margin = _margin(self._tree, values, self.text)
        except ArithmeticError:
            return 1.0
        return margin if math.isfinite(margin) else math.copysign(1e300, margin) if not math.isnan(margin) else 1.0


def partition(
    constraints: Iterable[str | Expression], known: Collection[str]
) -> tuple[list[Expression], list[Expression]]:
    """Conditions on `known` names alone (parameters and config keys), and those that name a metric too.

    A dotted name below a group that is known, such as `algorithm.hedas`, is a mistake and no metric: UserError.
    """
    on_parameters: list[Expression] = []
    on_outcomes: list[Expression] = []
    tops = {name.split(".")[0] for name in known}
    for constraint in constraints:
        expression = constraint if isinstance(constraint, Expression) else Expression(constraint)
        unknown = sorted(expression.names - set(known))
        for name in unknown:
            if "." in name and name.split(".")[0] in tops:
                raise UserError(f"tune.constraints: `{expression}`: there is no {name}; {did_you_mean(name, known)}")
        (on_outcomes if unknown else on_parameters).append(expression)
    return on_parameters, on_outcomes


def _parsed(text: str) -> ast.expr:
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{text!r} is no condition; write one such as algorithm.heads <= 8")
    if len(text) > LONGEST:
        raise UserError(f"`{text[:60]}…` is longer than {LONGEST} characters; divide it into several conditions")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        hint = "; two values are compared with ==" if re.search(r"(?<![<>=!])=(?!=)", text) else ""
        at = f" at column {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise UserError(f"`{text}` can't be read as a condition{at}{hint}") from None


def _admit(node: ast.expr, text: str, names: set[str], depth: int = 0) -> None:
    """Collects the names; raises UserError for what a condition may not hold."""
    if depth > DEEPEST:
        raise UserError(f"`{text[:60]}…` is nested too deeply; divide it into several conditions")
    name = _dotted(node)
    if name is not None:
        if name not in _WORDS:
            names.add(name)
        return
    if isinstance(node, ast.Constant) and (node.value is None or type(node.value) in (bool, int, float, str)):
        return
    children: list[ast.expr] | None = None
    if (isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC) or (
        isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY
    ):
        children = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.operand]
    elif isinstance(node, ast.BoolOp):
        children = node.values
    elif isinstance(node, ast.Compare) and all(type(op) in _COMPARISONS for op in node.ops):
        children = [node.left, *node.comparators]
    elif isinstance(node, ast.List | ast.Tuple):
        children = node.elts
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        if node.keywords or not node.args or (node.func.id == "abs" and len(node.args) != 1):
            raise UserError(f"`{text}`: {node.func.id} takes {'one value' if node.func.id == 'abs' else 'values'}")
        children = node.args
    if children is None:
        raise UserError(
            f"`{text}`: {ast.unparse(node)} isn't allowed; there is + - * / // % **, comparisons, in, "
            f"and, or, not, {', '.join(_FUNCTIONS)}"
        )
    for child in children:
        _admit(child, text, names, depth + 1)


def _dotted(node: ast.expr) -> str | None:
    """The name that `a.b.c` spells; None for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _value(node: ast.expr, values: Mapping[str, Any], text: str) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name | ast.Attribute):
        name = _dotted(node)
        assert name is not None  # _admit has seen to it
        if name in values:
            return values[name]
        if name in _WORDS:
            return _WORDS[name]
        raise Unknown(text, name)
    if isinstance(node, ast.BinOp):
        left, right = (_number(part, values, text) for part in (node.left, node.right))
        return _ARITHMETIC[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not):
            return not _value(node.operand, values, text)
        return _UNARY[type(node.op)](_number(node.operand, values, text))
    if isinstance(node, ast.BoolOp):
        parts = (bool(_value(part, values, text)) for part in node.values)
        return all(parts) if isinstance(node.op, ast.And) else any(parts)
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(part, values, text) for part in node.elts]
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        arguments = [_number(part, values, text) for part in node.args]
        return _FUNCTIONS[node.func.id](arguments)
    assert isinstance(node, ast.Compare)
    left = _value(node.left, values, text)
    for comparison, part in zip(node.ops, node.comparators, strict=True):
        right = _value(part, values, text)
        if not _compared(comparison, left, right, text):
            return False
        left = right
    return True


def _number(node: ast.expr, values: Mapping[str, Any], text: str) -> Any:
    value = _value(node, values, text)
    if not isinstance(value, int | float):
        hint = f"; say what holds there, as in {ast.unparse(node)} == null or …" if value is None else ""
        raise UserError(f"`{text}`: {ast.unparse(node)} is {shown(value)}, not a number{hint}")
    return value


def _compared(comparison: ast.cmpop, left: Any, right: Any, text: str) -> bool:
    try:
        return bool(_COMPARISONS[type(comparison)](left, right))
    except TypeError:
        raise UserError(f"`{text}`: {shown(left)} can't be compared with {shown(right)}") from None


def _margin(node: ast.expr, values: Mapping[str, Any], text: str) -> float:
    if isinstance(node, ast.BoolOp):
        # what `and` and `or` need not look at may have no value there
        margins: list[float] = []
        for part in node.values:
            margins.append(_margin(part, values, text))
            if (margins[-1] > 0) == isinstance(node.op, ast.And):
                break
        return max(margins) if isinstance(node.op, ast.And) else min(margins)
    if not isinstance(node, ast.Compare):
        return -1.0 if _value(node, values, text) else 1.0
    sides = [_value(part, values, text) for part in (node.left, *node.comparators)]
    return max(
        _difference(comparison, left, right, text)
        for comparison, left, right in zip(node.ops, sides, sides[1:], strict=False)
    )


def _difference(comparison: ast.cmpop, left: Any, right: Any, text: str) -> float:
    holds = _compared(comparison, left, right, text)
    if not all(isinstance(side, int | float) for side in (left, right)) or isinstance(comparison, ast.In | ast.NotIn):
        return -1.0 if holds else 1.0
    apart = float(right) - float(left) if isinstance(comparison, ast.Gt | ast.GtE) else float(left) - float(right)
    if isinstance(comparison, ast.Eq | ast.NotEq):
        apart = abs(apart) if isinstance(comparison, ast.Eq) else -abs(apart)
    return min(apart, 0.0) if holds else max(apart, SLIGHTLY)


def _power(base: Any, exponent: Any) -> Any:
    whole = isinstance(base, int) and isinstance(exponent, int) and exponent >= 0
    if whole and int(base).bit_length() * exponent <= BITS:
        return base**exponent
    result = float(base) ** float(exponent)
    if isinstance(result, complex):
        raise _Undefined
    return result


_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}
_FUNCTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "abs": lambda values: abs(values[0]),
    "min": min,
    "max": max,
}
