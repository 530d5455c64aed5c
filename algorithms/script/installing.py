"""What a script needs beside Headway's own Python: its requirements.txt, and the package that it may be itself."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from trainer.errors import UserError

DONE = ".installed"
LOOK_SECONDS = 0.2


def requirements(code: Path, stop: threading.Event) -> Path | None:
    """The folder to import the script's requirements from; None if it has none. Installed once on a machine.

    Only what is lacking, or of another version, is installed. Raises UserError with what pip says, and once `stop` is set.
    """
    folder, listed = where(code), code / "requirements.txt"
    if folder is None:
        return None
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f"{folder.name}.lock"), "w") as lock:  # two jobs may want the same
        _take(lock.fileno(), stop)
        if not (folder / DONE).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            names = _install(["-r", str(listed)], folder, code, stop)
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


def package(code: Path, folder: Path, stop: threading.Event) -> Path:
    """Installs the package that `code/setup.py` describes into `folder`."""
    names = _install([str(code)], folder, code, stop)
    print(f"setup.py: {', '.join(names)}", flush=True)
    return folder


def _cache() -> Path:
    given = os.environ.get("HEADWAY_CACHE")
    return Path(given).expanduser() / "requirements" if given else Path.home() / ".cache" / "headway" / "requirements"


def _install(wanted: list[str], folder: Path, code: Path, stop: threading.Event) -> list[str]:
    """Installs what of this isn't there. Returns name==version of each."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place, "report.json")
        _pip(["install", "--dry-run", "--report", str(report), *wanted], code, stop)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    if found:
        sources = [_source(one) for one in found]
        _pip(["install", "--no-deps", "--upgrade", "--target", str(folder), *sources], code, stop)
    return [f"{one['metadata']['name']}=={one['metadata']['version']}" for one in found]


def _source(one: dict[str, dict[str, Any]]) -> str:
    url, name = one["download_info"]["url"], one["metadata"]["name"]
    if url.startswith("file://") and "dir_info" in one["download_info"]:
        return url.removeprefix("file://")
    vcs: dict[str, str] = one["download_info"].get("vcs_info", {})
    return f"{name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else f"{name} @ {url}"


def _take(lock: int, stop: threading.Event) -> None:
    """Waits for a lock."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if stop.wait(LOOK_SECONDS):
                raise UserError("stopped while another job was installing") from None


def _pip(arguments: list[str], code: Path, stop: threading.Event) -> None:
    what = "requirements.txt" if (code / "requirements.txt").is_file() else "setup.py"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    pip = subprocess.Popen(
        command, cwd=code, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while True:
        try:
            out, err = pip.communicate(timeout=LOOK_SECONDS)
            break
        except subprocess.TimeoutExpired:
            if stop.is_set():  # with what it has started
                os.killpg(pip.pid, signal.SIGKILL)
                pip.communicate()
                raise UserError(f"{what}: stopped while it was being installed") from None
    if pip.returncode:
        print(out, err, sep="\n", flush=True)
        said = [line.strip() for line in err.splitlines() if line.lstrip().startswith("ERROR")]
        said = [line for line in said if "Ignored the following" not in line]
        said = said or err.strip().splitlines()[-1:] or ["pip failed"]
        raise UserError(f"{what}: {said[0].removeprefix('ERROR: ')}; the rest is in the log")
