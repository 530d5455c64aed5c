"""The wheel that a stranger builds and installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("trainer", "algorithms", "launchers", "conf")
PUBLIC = "trainer/api/public"  # what lies there is shipped beside them
SOURCES = (*SHIPPED, "pyproject.toml", "README.md", "LICENSE")
WHERE = """
import conf, headway, headway.testing, trainer, trainer.testing
assert headway.train is trainer.train and headway.testing is trainer.testing
print(trainer.__file__, conf.__file__, headway.__file__)
"""

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, itself built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    run("-m", "build", "--no-isolation", "--outdir", folder / "dist", cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds, installed."""
    folder = tmp_path_factory.mktemp("installed")
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", folder, wheel, cwd=folder)
    return folder


def test_the_wheel_holds_every_source_and_config_file_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for package in SHIPPED
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".yaml", ".html", ".css", ".js")
        or path.name == "py.typed"
        or path.parent.parent.name == "templates"
    }
    public = f"{PUBLIC}/"
    expected = {name.removeprefix(public) for name in expected}
    assert names == expected


def test_an_installed_headway_trains_and_predicts_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    path = str(installed)
    where = run("-c", WHERE, cwd=tmp_path, PYTHONPATH=path)
    assert all(file.startswith(path) for file in where.split())
    job = ("-m", "trainer", "train", "algorithm=linear", "data=digits", "train.epochs=1", "job.name=mine")
    assert "name: mine" in run(*job, "--cfg", "job", cwd=tmp_path, PYTHONPATH=path)
    run(*job, cwd=tmp_path, PYTHONPATH=path)
    predict = ("-m", "trainer", "predict", "model=runs/mine/model", "data=digits", "output=p.csv")
    run(*predict, cwd=tmp_path, PYTHONPATH=path)
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 1797 + 1
