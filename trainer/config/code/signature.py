"""What a `_target_` takes, read from its source without running it: to check it, nobody imports torch.

The arguments of a class's `__init__`, a dataclass's fields or a function's arguments become `Parameter`s with
type, default and comment. What cannot be read this way, a C extension or a class made at run time, has no
signature; a config for it is checked when a worker builds it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainer.config.code.annotation import evaluate
from trainer.config.code.docstring import arguments as described
from trainer.config.code.source import Source, called, locate, top_level
from trainer.config.conversion import Mismatch, convert
from trainer.errors import UserError, did_you_mean

UNKNOWN = "…"
"""Stands for a default that isn't a plain value and so cannot be shown."""


@dataclass(frozen=True)
class Parameter:
    """One argument. `type` is what its annotation means, `Any` where that cannot be told from the source."""

    name: str
    annotation: str
    type: Any
    default: Any
    required: bool
    doc: str


@dataclass(frozen=True)
class Signature:
    """What a target takes. `open`: also other keys (`**kwargs`, a base that can't be read)."""

    name: str
    parameters: tuple[Parameter, ...] = ()
    open: bool = False
    is_function: bool = False


def short_name(target: str) -> str:
    """What a person calls a target: `algorithms.gpt.GPT` is gpt, `….BreastCancer` is breast_cancer."""
    module, _, name = target.rpartition(".")
    if name.lower() == module.rpartition(".")[2]:
        return name.lower()
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def read_signature(target: str) -> Signature | None:
    """The signature of `package.module.Name`; None if it cannot be read from source.

    Raises UserError if there is no such module or name in it, with the nearest ones.
    """
    module, names = locate(target)
    if module is None:
        return None
    if not names:
        raise UserError(f"{target!r} is a module, not a class in it; {did_you_mean('', module.classes())}")
    return _signature(module, names)


def check(node: Mapping[str, Any], target: str, prefix: str) -> dict[str, Any]:
    """The settings of `node` as `target` takes them: `"1e-3"` becomes 0.001 where a float is asked for.

    node: what a config holds beside and including `_target_`; keys that start with `_` are Hydra's own.
    prefix: where it lies in the config, for the messages: `algorithm`.
    Raises UserError for an unknown or missing key, a wrong type, a value out of range or not among its
    choices, and a target that isn't there.
    """
    try:
        signature = settings_of(target, prefix)
    except UserError as error:
        raise UserError(f"{prefix}._target_: {error}") from None
    if signature is None:
        return dict(node)
    known = {p.name: p for p in signature.parameters}
    checked: dict[str, Any] = {}
    for key, value in node.items():
        if key.startswith("_"):
            checked[key] = value
        elif key in known:
            checked[key] = _checked(value, known[key], f"{prefix}.{key}")
        elif signature.open:
            checked[key] = value
        else:
            raise UserError(f"{prefix}.{key}: {signature.name} has no such setting; {did_you_mean(key, known)}")
    if "_args_" not in node and not node.get("_partial_"):
        for parameter in signature.parameters:
            if parameter.required and parameter.name not in node:
                raise UserError(_missing(parameter, signature.name, f"{prefix}.{parameter.name}"))
    return checked


def settings_of(target: str, noun: str) -> Signature | None:
    """What a target takes from the config. Of a training loop that is all but the first argument, which is its context.

    Raises UserError as `read_signature` does, and for a loop without a context.
    """
    signature = read_signature(target)
    if signature is None or not signature.is_function or noun != "algorithm":
        return signature
    if not signature.parameters:
        raise UserError(f"{target} takes no argument; write def {signature.name}(context, …)")
    return replace(signature, parameters=signature.parameters[1:])


def is_function(target: str) -> bool:
    """Whether a target is a function, as far as its source tells."""
    signature = read_signature(target)
    return signature is not None and signature.is_function


def class_constant(target: str, name: str, unread: Any = None) -> Any:
    """The literal that a class or the nearest of its bases gives a class variable; None if there is none, `unread` for one
    that can't be read."""
    module, names = locate(target)
    if module is None or len(names) != 1:
        return None
    found = module.top.get(names[0])
    if isinstance(found, ast.ImportFrom):
        imported = module.imported(names[0])
        return class_constant(imported, name, unread) if imported else None
    if not isinstance(found, ast.ClassDef):
        return None
    statement = dict(top_level(found.body)).get(name)
    if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
        value = _value(module, statement.value)
        return unread if value is UNKNOWN else value
    bases = (base_target(module, b) for b in found.bases if called(b) != found.name)
    values = (class_constant(base, name, unread) for base in bases if base is not None)
    return next((value for value in values if value is not None), None)


def _checked(value: Any, parameter: Parameter, where: str) -> Any:
    if value == "???":  # Hydra's mark for a value that must be given
        raise UserError(f"{where} has no value: give one with {where}=…")
    try:
        return convert(value, parameter.type)
    except Mismatch as mismatch:
        raise UserError(f"{where}: {mismatch}") from None


def _missing(parameter: Parameter, owner: str, where: str) -> str:
    hint = f" ({parameter.doc})" if parameter.doc else ""
    return f"{where} has no value and {owner} needs one{hint}: give it with {where}=…"


def _signature(module: Source, names: Sequence[str]) -> Signature | None:
    """Of `Class`, `function` or `Class.method`; None if made at run time."""
    name = names[0]
    if not module.defines(name):
        known = [*module.classes(), *(n for n, s in module.top.items() if isinstance(s, ast.FunctionDef))]
        raise UserError(f"there is no {name!r} in {module.name}; {did_you_mean(name, known)}")
    found = module.top.get(name)
    if isinstance(found, ast.ImportFrom):
        target = module.imported(name)
        return read_signature(".".join([target, *names[1:]])) if target else None
    if isinstance(found, ast.ClassDef) and len(names) == 1:
        return _of_class(module, found)
    if isinstance(found, ast.ClassDef) and len(names) == 2:
        method = dict(top_level(found.body)).get(names[1])
        return _of_function(module, method, skip=1) if isinstance(method, ast.FunctionDef) else None
    if isinstance(found, ast.FunctionDef) and len(names) == 1:
        return replace(_of_function(module, found, skip=0), is_function=True)
    return None


def _of_class(module: Source, node: ast.ClassDef) -> Signature | None:
    found = _constructor(module, node)
    return None if found is None else _documented(found, ast.get_docstring(node))


def _documented(signature: Signature, doc: str | None) -> Signature:
    """Arguments that no comment explains, explained by the docstring."""
    bare = [p.name for p in signature.parameters if not p.doc]
    told = described(doc, bare)
    if not told:
        return signature
    return replace(
        signature, parameters=tuple(replace(p, doc=p.doc or told.get(p.name, "")) for p in signature.parameters)
    )


def _constructor(module: Source, node: ast.ClassDef) -> Signature | None:
    init = dict(top_level(node.body)).get("__init__")
    if isinstance(init, ast.FunctionDef):
        own = _of_function(module, init, skip=1)
        return Signature(node.name, own.parameters, own.open)
    bases = [b for b in node.bases if called(b) != node.name]  # else it hides an import of the same name
    inherited = [s for s in (_of_base(module, b) for b in bases) if s is not None]
    unreadable = len(inherited) < len(node.bases) or bool(node.keywords)
    if not any(called(d) == "dataclass" for d in node.decorator_list):
        if node.decorator_list:
            return None  # a decorator such as attrs' may write the constructor
        first = next((s for s in inherited if s.parameters or s.open), Signature(node.name))
        return Signature(node.name, first.parameters, first.open or unreadable)
    fields: dict[str, Parameter] = {}
    for base in reversed(inherited):
        fields.update({p.name: p for p in base.parameters})
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            _add_field(module, fields, statement, statement.target.id)
    return Signature(node.name, tuple(fields.values()), unreadable or any(s.open for s in inherited))


def _of_base(module: Source, base: ast.expr) -> Signature | None:
    """A base class's signature: empty for those that only mark or declare, None if it cannot be read."""
    target = base_target(module, base)
    if target is None or target in _EMPTY_BASES:
        return Signature("") if target else None
    try:
        return read_signature(target)
    except UserError:
        return None  # it may not be installed here; the worker will say so


def base_target(module: Source, base: ast.expr) -> str | None:
    """What a name in a class's list of bases refers to."""
    if isinstance(base, ast.Subscript):  # Generic[T]
        base = base.value
    if isinstance(base, ast.Name):
        if isinstance(module.top.get(base.id), ast.ClassDef):
            return f"{module.name}.{base.id}"
        return "builtins.object" if base.id == "object" else module.imported(base.id)
    if isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name):
        statement = module.top.get(base.value.id)
        if isinstance(statement, ast.Import):
            package = next(a.name for a in statement.names if (a.asname or a.name) == base.value.id)
            return f"{package}.{base.attr}"
        if isinstance(statement, ast.ImportFrom):
            package = module.imported(base.value.id) or ""
            return f"{package}.{base.attr}" if package else None
    return None


def _add_field(module: Source, fields: dict[str, Parameter], node: ast.AnnAssign, name: str) -> None:
    if called(node.annotation) in ("ClassVar", "KW_ONLY"):
        return
    default: ast.expr | None = node.value
    if isinstance(default, ast.Call) and called(default) == "field":
        options = {k.arg: k.value for k in default.keywords}
        init = options.get("init")
        if isinstance(init, ast.Constant) and init.value is False:
            return
        factory = options.get("default_factory")
        default = options.get("default", ast.Call(factory, [], []) if factory else None)
    fields[name] = _parameter(module, name, node.annotation, default, node)


def _of_function(module: Source, node: ast.FunctionDef, *, skip: int) -> Signature:
    """skip: leading arguments that are not the caller's (`self`)."""
    if any(called(d) == "staticmethod" for d in node.decorator_list):
        skip = 0
    positional = [*node.args.posonlyargs, *node.args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    pairs = list(zip(positional, [*defaults, *node.args.defaults], strict=True))[skip:]
    pairs += list(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
    parameters = tuple(_parameter(module, a.arg, a.annotation, default, a) for a, default in pairs)
    return _documented(Signature(node.name, parameters, node.args.kwarg is not None), ast.get_docstring(node))


def _parameter(
    module: Source,
    name: str,
    annotation: ast.expr | None,
    default: ast.expr | None,
    node: ast.AnnAssign | ast.arg,
) -> Parameter:
    place = (node.lineno, node.col_offset)
    if place not in module.kept:  # a study checks a config again and again
        module.kept[place] = _read_parameter(module, name, annotation, default, node)
    found: Parameter = module.kept[place]
    return found


def _read_parameter(
    module: Source,
    name: str,
    annotation: ast.expr | None,
    default: ast.expr | None,
    node: ast.AnnAssign | ast.arg,
) -> Parameter:
    end = default if default is not None and hasattr(default, "end_lineno") else node
    return Parameter(
        name=name,
        annotation=ast.unparse(annotation) if annotation is not None else "",
        type=evaluate(annotation, module.top) if annotation is not None else Any,
        default=None if default is None else _value(module, default),
        required=default is None,
        doc=module.comment(node.lineno, node.col_offset, end.end_lineno or 0, end.end_col_offset or 0),
    )


def _value(module: Source, node: ast.expr) -> Any:
    """A value if it is a literal, a constant of this module, or a collection made of one."""
    makers = {"list": list, "dict": dict, "tuple": tuple, "set": set, "frozenset": frozenset}
    if isinstance(node, ast.Call) and called(node) in makers and not node.keywords and len(node.args) < 2:
        parts = [_value(module, part) for part in node.args]
        return UNKNOWN if UNKNOWN in parts else makers[called(node)](*parts)
    if isinstance(node, ast.Name):
        constant = module.top.get(node.id)
        value = constant.value if isinstance(constant, ast.Assign | ast.AnnAssign) else None
        return UNKNOWN if value is None else _value(module, value)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return UNKNOWN


_EMPTY_BASES = {
    "builtins.object",
    "abc.ABC",
    "typing.Protocol",
    "typing.Generic",
    *(f"{m}.{n}" for m in ("trainer", "trainer.algorithm") for n in ("Algorithm", "Module", "Estimator")),
}
