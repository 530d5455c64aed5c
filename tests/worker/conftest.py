"""What tests of workers share: GPUs that aren't there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker import nvml


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nvml.library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(tmp_path: Path, nvml_library: Path, monkeypatch: pytest.MonkeyPatch) -> nvml.Machine:
    """A machine whose GPUs are what the test says of them."""
    return nvml.machine(tmp_path, nvml_library, monkeypatch)
