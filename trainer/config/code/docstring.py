"""What a docstring says of arguments: Google's `Args:`, NumPy's `Parameters`, Sphinx's `:param x:`, plain `x: …` lines."""

from __future__ import annotations

import re


def summary(doc: str | None) -> str:
    """Its first sentence or line; empty if there is none."""
    first = (doc or "").strip().split("\n\n")[0]
    text = " ".join(first.split())
    end = re.search(r"(?<=[a-z0-9)])[.:](?= [A-Z]|$)", text)
    return text[: end.start() + 1].rstrip(":") if end else text


def arguments(doc: str | None, names: list[str]) -> dict[str, str]:
    """What it says of each of these arguments that it describes, on one line."""
    found: dict[str, str] = {}
    known = "|".join(map(re.escape, names))
    if not doc or not names:
        return found
    opens = re.compile(rf"( *)(?::param (?:[\w\[\], |]+ )?)?({known})(?: *\([^)]*\))?( *: *)(.*)")
    current, indent, numpy = None, 0, False
    for line in doc.expandtabs().splitlines():
        depth = len(line) - len(line.lstrip())
        match = opens.fullmatch(line)
        if match and (current is None or depth <= indent):
            current, indent = match[2], depth
            numpy = match[3].startswith(" ")  # `name : type`, what it is stands below
            found[current] = "" if numpy else match[4].strip()
        elif current is None:
            continue
        elif not line.strip() or depth <= indent:
            current = None
        else:
            found[current] = f"{found[current]} {line.strip()}".strip()
    return {name: text for name, text in found.items() if text}
