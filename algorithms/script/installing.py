"""What a script needs beside Headway's own Python: its requirements.txt, and the package that it may be itself."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from trainer.errors import UserError

DONE = ".installed"


def requirements(code: Path) -> Path | None:
    """The folder to import the script's requirements from; None if it has none. Installed once on a machine.

    Only what is lacking, or of another version, is installed. Raises UserError with what pip says.
    """
    folder, listed = where(code), code / "requirements.txt"
    if folder is None:
        return None
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f"{folder.name}.lock"), "w") as lock:  # two jobs may want the same
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / DONE).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            names = _install(["-r", str(listed)], folder, code)
            (folder / DONE).write_text(" ".join(names), encoding="utf-8")
    names = (folder / DONE).read_text(encoding="utf-8").split()
    print(f"requirements.txt: {', '.join(names) if names else 'all of it is there'}", flush=True)
    return folder


def where(code: Path) -> Path | None:
    """Where the script's requirements are, or will be; None if it has none."""
    listed = code / "requirements.txt"
    if not listed.is_file():
        return None
    return _cache() / hashlib.sha256(listed.read_bytes() + f"\0{sys.version}\0{sys.prefix}".encode()).hexdigest()[:24]


def package(code: Path, folder: Path) -> Path:
    """Installs the package that `code/setup.py` describes into `folder`."""
    names = _install([str(code)], folder, code)
    print(f"setup.py: {', '.join(names)}", flush=True)
    return folder


def _cache() -> Path:
    given = os.environ.get("HEADWAY_CACHE")
    return Path(given).expanduser() / "requirements" if given else Path.home() / ".cache" / "headway" / "requirements"


def _install(wanted: list[str], folder: Path, code: Path) -> list[str]:
    """Installs what of this isn't there. Returns name==version of each."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place, "report.json")
        _pip(["install", "--dry-run", "--report", str(report), *wanted], code)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    if found:
        sources = [_source(one) for one in found]
        _pip(["install", "--no-deps", "--upgrade", "--target", str(folder), *sources], code)
    return [f"{one['metadata']['name']}=={one['metadata']['version']}" for one in found]


def _source(one: dict[str, dict[str, str]]) -> str:
    url, name = one["download_info"]["url"], one["metadata"]["name"]
    if url.startswith("file://") and "dir_info" in one["download_info"]:
        return url.removeprefix("file://")
    vcs: dict[str, str] = one["download_info"].get("vcs_info", {})  # type: ignore[assignment]
    return f"{name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else f"{name} @ {url}"


def _pip(arguments: list[str], code: Path) -> None:
    what = "requirements.txt" if (code / "requirements.txt").is_file() else "setup.py"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, cwd=code, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", flush=True)
        said = [line.strip() for line in done.stderr.splitlines() if line.lstrip().startswith("ERROR")]
        said = [line for line in said if "Ignored the following" not in line]
        said = said or done.stderr.strip().splitlines()[-1:] or ["pip failed"]
        raise UserError(f"{what}: {said[0].removeprefix('ERROR: ')}; the rest is in the log")
