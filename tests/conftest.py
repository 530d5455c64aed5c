"""What tests share: a folder of their own to run in, a cache of their own, and the real data where it is at hand."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

BEGAN = time.monotonic()
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--minutes", type=float, help="what has not begun by then is skipped, and told")


def pytest_runtest_setup(item: pytest.Item) -> None:
    minutes = item.config.getoption("--minutes")
    if minutes is not None and time.monotonic() - BEGAN > 60 * minutes:
        pytest.skip(f"not begun within {minutes:g} minutes")


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


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """An empty folder in which sockets have names of less than 108 characters, wherever the tests' own folders lie."""
    with tempfile.TemporaryDirectory(prefix="hw-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def _folder_of_an_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from launchers.agent.warm_pool import of_this_process

    yield tmp_path_factory.mktemp("warm")
    of_this_process().end()


@pytest.fixture
def warm_folder(_folder_of_an_agent: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, in which an agent that stays trains job after job: for tests of what jobs come to, not of how
    they start. An agent serves whoever has the same environment and folder, so it is one folder for all these tests."""
    from tests.staying import agent_stays

    monkeypatch.chdir(_folder_of_an_agent)
    with agent_stays():
        yield _folder_of_an_agent
    for path in _folder_of_an_agent.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


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
