"""What a type annotation means, from its source alone."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Optional, Union

from trainer.algorithm import Range
from trainer.config.code.source import called


def evaluate(annotation: ast.expr, top: Mapping[str, ast.stmt]) -> Any:
    """The type that an annotation means; unknown names are Any. `top`: the definitions of its module."""
    expression = ast.fix_missing_locations(ast.Expression(_Names(top).visit(_copy(annotation))))
    try:
        return eval(compile(expression, "annotation", "eval"), {"__builtins__": {}}, _TYPES)
    except (TypeError, AttributeError, NameError, SyntaxError):
        return Any


_TYPES: dict[str, Any] = {
    **{t.__name__: t for t in (int, float, str, bool, list, dict, tuple)},
    "Any": Any,
    "Literal": Literal,
    "Annotated": Annotated,
    "Optional": Optional,
    "Union": Union,
    "ClassVar": ClassVar,
    "Sequence": Sequence,
    "Mapping": Mapping,
    "List": list,
    "Dict": dict,
    "Tuple": tuple,
    "Path": str,
    "Range": Range,
}


class _Names(ast.NodeTransformer):
    """Leaves only names that `_TYPES` has: an alias of the module is put in, anything else is Any."""

    def __init__(self, top: Mapping[str, ast.stmt]) -> None:
        self.top = top

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in _TYPES:
            return ast.Name(node.id, ast.Load())
        alias = self.top.get(node.id)
        if isinstance(alias, (ast.Assign, ast.AnnAssign)) and alias.value is not None:
            rest = {name: statement for name, statement in self.top.items() if name != node.id}
            return _Names(rest).visit(_copy(alias.value))
        return ast.Name("Any", ast.Load())

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return ast.Name(node.attr if node.attr in _TYPES else "Any", ast.Load())

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if called(node.value) == "Literal":  # its strings are values, not types
            return ast.Subscript(ast.Name("Literal", ast.Load()), node.slice, ast.Load())
        value = self.visit(node.value)
        if isinstance(value, ast.Name) and value.id == "Any":
            return value
        if isinstance(value, ast.Name) and value.id == "Annotated" and isinstance(node.slice, ast.Tuple):
            kept = [self.visit(node.slice.elts[0])]
            kept += [e for e in node.slice.elts[1:] if isinstance(e, ast.Call) and called(e) == "Range"]
            return ast.Subscript(value, ast.Tuple(kept, ast.Load()), ast.Load()) if len(kept) > 1 else kept[0]
        return ast.Subscript(value, self.visit(node.slice), ast.Load())

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        whole = isinstance(node.op, ast.BitOr)  # X | Y; nothing else is computed
        return (
            ast.BinOp(self.visit(node.left), node.op, self.visit(node.right)) if whole else ast.Name("Any", ast.Load())
        )

    def visit_Call(self, node: ast.Call) -> ast.expr:
        return node if called(node) == "Range" and not node.args else ast.Name("Any", ast.Load())

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, str):  # a quoted annotation
            try:
                return self.visit(ast.parse(node.value, mode="eval").body)
            except SyntaxError:
                return ast.Name("Any", ast.Load())
        return node


def _copy(node: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(node), mode="eval").body
