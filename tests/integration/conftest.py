"""What integration tests share: a temporary folder of their own; a real SLURM, where one can be started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.brought_up import brought_up
from tests.integration.studies import own_temporary_folder


@pytest.fixture
def temporary() -> Iterator[Path]:
    with own_temporary_folder() as folder:
        yield folder


@contextmanager
def slurm_cluster(**settings: str) -> Iterator[Path]:
    """A cluster's folder; the test is skipped where none can be started. settings: as scripts/slurm-cluster has them."""
    with brought_up("slurm-cluster", "slurmctld", "a SLURM cluster", "hw-slurm-", **settings) as environment:
        yield Path(environment["STATE"])


@pytest.fixture(scope="session")
def slurm_state() -> Iterator[Path]:
    with slurm_cluster(GRACE="15") as state:
        yield state


@pytest.fixture
def slurm(slurm_state: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands of this test find the cluster, which lives as long as the tests. Its folder."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_state / "etc" / "slurm.conf"))
    return slurm_state
