"""Real servers, which scripts of this repository bring up and take down."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@contextmanager
def brought_up(script: str, program: str, what: str, prefix: str, **settings: str) -> Iterator[dict[str, str]]:
    """The environment for the script, with STATE, the server's folder, in it. The test is skipped where the server can't be started.
    settings: as the script has them."""
    if os.geteuid() != 0 or not (shutil.which("apt-get") or shutil.which(program)):
        pytest.skip(f"needs root and Debian, to start {what}")
    environment = {**os.environ, "STATE": tempfile.mkdtemp(prefix=prefix, dir="/var/tmp"), **settings}
    try:
        up = subprocess.run([SCRIPTS / script, "up"], env=environment, capture_output=True, text=True, check=False)
        if up.returncode and not os.environ.get("CI"):
            pytest.skip(f"{what} can't be started here: {up.stderr.strip().splitlines()[-1]}")
        assert up.returncode == 0, up.stderr
        yield environment
    finally:
        subprocess.run([SCRIPTS / script, "down"], env=environment, check=True)
