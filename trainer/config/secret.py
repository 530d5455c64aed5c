"""Values of a config that are secrets, by the names of their keys: kept in no file of a job, but in environment variables.

In their place a config holds `${oc.env:NAME}`. The command that submits puts the value there; launchers hand the variables on, and
workers fill them in when they build what the config names. Standard library only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from trainer.errors import UserError

PREFIX = "HEADWAY_SECRET_"
MASK = "***"
SURE = {"secret", "secrets", "password", "passwords", "passwd", "passphrase", "credential", "credentials", "apikey"}
LAST = {"token", "key", "pat"}  # as a name's last word, unless the word before says that it is of something else
OF_DATA = {
    *("bos", "eos", "pad", "unk", "mask", "cls", "sep", "special", "begin", "end", "start", "stop", "next", "image"),
    *("sort", "primary", "foreign", "group", "partition", "label", "text", "input", "output", "feature", "target"),
    *("metric", "public", "data", "column", "dict", "json", "index", "cache", "row", "batch", "sample", "kms", "video"),
}
REFERENCE = re.compile(r"\$\{oc\.env:(\w+)\}")
SHELL = "setup"  # the key of a list of lines of shell
IN_SHELL = re.compile(r"""(?<![\w$.-])([A-Za-z_]\w*)=('[^']+'|"[^"$`\\]+"|[^\s;&|()<>"'$`\\]+)""")
REFERRED = re.compile(rf"\$({PREFIX}\w+)")
ASSIGNED = re.compile(r"""([\w.-]+)(["']?\s*[:=]\s*["'])([^"'\n]+)(?=["'])""")
IN_URL = re.compile(r"(://)[^/@\s'\"]+@")
SHORTEST = 4  # characters of a value that is looked for in other text

T = TypeVar("T")
_values: dict[str, str] = {}  # value to variable, of all that this process has met


def looks_secret(name: str) -> bool:
    """Whether a key or a variable of this name holds a secret: HF_TOKEN, api_key and dbPassword do, max_tokens and sort_key don't."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    if SURE & set(words):
        return True
    before = words[-2] if len(words) > 1 else ""
    if words and words[-1] in LAST:
        return before not in OF_DATA
    return name.isupper() and bool({"key", "keys", "token"} & set(words)) and not OF_DATA & set(words)


def taken(node: T, place: str = "") -> T:
    """Plain data with references in place of its secrets, whose values are from now on in this process's environment."""
    made: Any = node
    if isinstance(node, dict):
        made = {key: _taken(str(key), one, f"{place}.{key}" if place else str(key)) for key, one in node.items()}
    elif isinstance(node, list):
        made = [taken(one, place) for one in node]
    return made


def _taken(key: str, value: Any, place: str) -> Any:
    if key == SHELL and isinstance(value, list):
        return [_shell(one, place) if isinstance(one, str) else one for one in value]
    if not isinstance(value, str) or not value or value == "???" or key.startswith("_") or not looks_secret(key):
        return taken(value, place)
    return value if REFERENCE.fullmatch(value) else f"${{oc.env:{_variable(key, value, place)}}}"


def _shell(line: str, place: str) -> str:
    """A line of shell with variables in place of the secrets that it assigns."""

    def refer(match: re.Match[str]) -> str:
        value = match[2][1:-1] if match[2][0] in "'\"" else match[2]
        return (
            f"{match[1]}=${_variable(match[1], value, f'{place}.{match[1]}')}" if looks_secret(match[1]) else match[0]
        )

    return IN_SHELL.sub(refer, line)


def _variable(key: str, value: str, place: str) -> str:
    """The variable that holds a value: one that does already, or a new one."""
    plain = re.sub(r"\W", "_", key.rpartition(".")[2]).upper()
    own, whole = f"{PREFIX}{plain}", PREFIX + re.sub(r"\W", "_", place).upper()
    known = [key, plain, *sorted(name for name in os.environ if looks_secret(name)), own]
    name = next((name for name in known if os.environ.get(name) == value), None)
    if name is None:
        name = own if own not in os.environ else whole
        os.environ[name] = value
    _values[value] = name
    return name


def references(node: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Where data has references, and to which variables."""
    if isinstance(node, Mapping):
        for key, one in node.items():
            yield from references(one, f"{place}.{key}" if place else str(key))
    elif isinstance(node, list):
        for one in node:
            yield from references(one, place)
    elif isinstance(node, str) and (found := REFERENCE.fullmatch(node)):
        yield place, found[1]
    elif isinstance(node, str):
        yield from ((place, name) for name in REFERRED.findall(node))


def refuse_missing(node: Any) -> None:
    """Raises UserError for a secret whose variable is not set here."""
    for place, name in references(node):
        if name not in os.environ:
            raise UserError(
                f"{place}: it is a secret, of which the job keeps no copy; set the environment variable {name}"
            )


def filled(node: T, place: str = "") -> T:
    """Data with its secrets. Raises UserError if the variable of one is not set here."""
    refuse_missing({place: node} if place else node)

    def fill(one: Any) -> Any:
        if isinstance(one, dict):
            return {key: fill(value) for key, value in one.items()}
        if isinstance(one, list):
            return [fill(value) for value in one]
        found = REFERENCE.fullmatch(one) if isinstance(one, str) else None
        if found is None:
            return one
        _values[os.environ[found[1]]] = found[1]
        return os.environ[found[1]]

    made: T = fill(node)
    return made


def environment(node: Any) -> dict[str, str]:
    """The variables that a config's secrets are in, for those whom this process starts elsewhere."""
    return {name: os.environ[name] for _, name in references(node) if name in os.environ}


def masked(text: str) -> str:
    """Text without the secrets that this process has met, and without what stands before the @ of an address."""
    for value in sorted(_values, key=len, reverse=True):
        if len(value) >= SHORTEST:
            text = text.replace(value, MASK)
    return IN_URL.sub(rf"\1{MASK}@", text)


def masked_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line without secrets."""
    return [f"{match[1]}{MASK}" if (match := _override(one)) else masked(one) for one in arguments]


def referring(overrides: Sequence[str]) -> list[str]:
    """Overrides with references in place of secrets."""
    found = []
    for one in overrides:
        match = _override(one)
        if match is not None and not REFERENCE.fullmatch(match[3]):
            value = match[3][1:-1] if match[3][:1] in "'\"" and match[3][:1] == match[3][-1:] else match[3]
            key = match[2].lstrip("+~")
            one = f"{match[1]}${{oc.env:{_variable(key.rpartition('.')[2], value, key)}}}"
        elif (key := one.partition("=")[0].lstrip("+")).rpartition(".")[2] == SHELL:
            one = _shell(one, key)
        found.append(one)
    return found


def _override(argument: str) -> re.Match[str] | None:
    """`KEY=`, KEY and VALUE of an override whose value is a secret."""
    match = re.fullmatch(r"((\+{0,2}[\w.@/-]+)=)(.+)", argument, flags=re.S)
    if match is None or match[3] == "null" or re.fullmatch(r"[-+\d.e]+|true|false", match[3], flags=re.I):
        return None
    return match if looks_secret(match[2].rpartition(".")[2]) else None


def masked_diff(content: bytes) -> bytes:
    """A diff without what it assigns to names of secrets."""
    text = content.decode("utf-8", "surrogateescape")

    def mask(match: re.Match[str]) -> str:
        return f"{match[1]}{match[2]}{MASK if looks_secret(match[1]) else match[3]}"

    return ASSIGNED.sub(mask, masked(text)).encode("utf-8", "surrogateescape")
