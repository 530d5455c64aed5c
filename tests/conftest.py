"""What tests share: a folder of their own to run in, a cache of their own, and the real data where it is at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    import os

    os.environ["HEADWAY_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _no_folder_of_an_earlier_command() -> Iterator[None]:
    """--config-dir counts for the command that was given it: a process has one, and tests call many."""
    from trainer.config.conf_files import join

    yield
    join(())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, in which `runs/` appears."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """The path of a real data file; the test is skipped where it is absent."""

    def path(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"needs {name} of the real data, which lies in ../shared/data where there is one")
        return SHARED / name

    return path


@pytest.fixture(scope="module")
def models_loaded_once() -> Iterator[None]:
    """What boto3 reads for each client costs more than most tests of S3."""
    import functools

    from botocore import loaders

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaders, "create_loader", functools.cache(loaders.create_loader))
        yield
