"""One job that several files of tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

import trainer


@pytest.fixture
def folder(warm_folder: Path) -> Path:
    return warm_folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> trainer.Result:
    """Two epochs of a linear model."""
    job = tmp_path_factory.mktemp("jobs") / "digits"
    return trainer.train(algorithm="linear", data="digits", train={"epochs": 2}, job={"dir": Path(job)})
