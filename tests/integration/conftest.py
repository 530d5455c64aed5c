"""What integration tests share: a real SLURM, where one can be started."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm-cluster"


@contextmanager
def slurm_cluster(**settings: str) -> Iterator[Path]:
    """A cluster's folder; the test is skipped where none can be started. settings: as scripts/slurm-cluster has them."""
    if os.geteuid() != 0 or not (shutil.which("apt-get") or shutil.which("slurmctld")):
        pytest.skip("needs root and Debian, to start a SLURM cluster")
    state = Path(tempfile.mkdtemp(prefix="hw-slurm-", dir="/var/tmp"))
    environment = {**os.environ, "STATE": str(state), **settings}
    try:
        up = subprocess.run([SCRIPT, "up"], env=environment, capture_output=True, text=True, check=False)
        if up.returncode and not os.environ.get("CI"):
            pytest.skip(f"no SLURM cluster can be started here: {up.stderr.strip().splitlines()[-1]}")
        assert up.returncode == 0, up.stderr
        yield state
    finally:
        subprocess.run([SCRIPT, "down"], env=environment, check=True)


@pytest.fixture(scope="session")
def slurm_state() -> Iterator[Path]:
    with slurm_cluster(GRACE="15") as state:
        yield state


@pytest.fixture
def slurm(slurm_state: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands of this test find the cluster, which lives as long as the tests. Its folder."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_state / "etc" / "slurm.conf"))
    return slurm_state
