"""Every installed distribution in a line that pip understands: what a requirements file pins."""

from __future__ import annotations

import json
import re
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any


def lock() -> list[str]:
    """`name==version`, `name @ git+URL@COMMIT`, `name @ URL`, or `-e FOLDER`; sorted. The first on the path counts."""
    found: dict[str, str] = {}
    for distribution in distributions():
        name, version = _name_and_version(distribution)
        name = re.sub(r"[-_.]+", "-", name).lower()
        if name and name not in found:
            found[name] = _line(distribution, name, version)
    return [found[name] for name in sorted(found)]


def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    """From the name of its folder where that tells: to parse the metadata of hundreds takes a quarter of a second."""
    path = getattr(distribution, "_path", None)
    stem, _, kind = str(getattr(path, "name", "")).rpartition(".")
    name, dash, version = stem.partition("-")
    if kind == "dist-info" and dash:
        return name, version
    return str(distribution.metadata["Name"] or ""), str(distribution.version)


def _line(distribution: Distribution, name: str, version: str) -> str:
    pinned = f"{name}=={version}"
    text = distribution.read_text("direct_url.json")
    origin: dict[str, Any] = json.loads(text) if text else {}
    url, vcs = str(origin.get("url", "")), origin.get("vcs_info")
    if not url:
        path = Path(str(getattr(distribution, "_path", "")))
        is_source = path.suffix == ".egg-info" and "-packages" not in str(path)  # where `setup.py develop` leaves it
        return f"-e {path.parent}  # {pinned}" if is_source else pinned
    if vcs:
        return f"{name} @ {vcs['vcs']}+{url}@{vcs.get('commit_id', '')}"
    if origin.get("dir_info", {}).get("editable"):
        return f"-e {url.removeprefix('file://')}  # {pinned}"
    return f"{name} @ {url}  # {pinned}"
