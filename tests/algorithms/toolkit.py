"""The open training toolkit of SageMaker, in an environment of its own: what scripts were written for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

VERSION = "5.1.4"
PROBE = """\
import json, os, sys
told = {"argv": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ)}
with open(os.environ["PROBE"], "w") as file:
    json.dump(told, file)
"""


def python() -> Path:
    """A Python that has the toolkit, made once on a machine; the test is skipped where it can't be had."""
    folder = Path(tempfile.gettempdir(), f"headway-toolkit-{VERSION}-{sys.version_info.major}.{sys.version_info.minor}")
    found = folder / "bin" / "python"
    if not (folder / "ready").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True)
        install = [str(found), "-m", "pip", "install", "-q", f"sagemaker-training=={VERSION}"]
        done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=280)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            pytest.skip(f"needs sagemaker-training {VERSION}, which can't be installed here: {said}")
        (folder / "ready").touch()
    return found


def run(base: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """What the script sees that the toolkit runs in the container whose folders lie at `base`."""
    told = base.parent / "told.json"
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "SAGEMAKER_BASE_DIR": str(base)}
    command = [str(python().with_name("train"))]  # it waits until every host has an address
    done = subprocess.run(
        command,
        env={**env, "PROBE": str(told), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert told.is_file(), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    return found
