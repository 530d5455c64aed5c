"""Packages of the user's own, made and installed as a person does it, then trained, tuned and interrupted by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.command import headway

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "scripts" / "examples" / "plugin_package"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def install(package: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With pip, to a folder on the path."""
    source = shutil.copytree(package, site.parent / "source")  # a build leaves files beside the code
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    run(sys.executable, "-m", "pip", "install", *offline, "--target", str(site), str(source), cwd=site.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))


def test_a_new_package_passes_its_own_tests_at_once(folder: Path) -> None:
    made = headway("new", "algorithm", "forest")
    assert made.returncode == 0, made.stderr
    assert " passed" in run(sys.executable, "-m", "pytest", "-q", cwd=folder / "forest")


def test_a_new_package_is_trained_and_tuned_by_its_name_once_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert headway("new", "algorithm", "forest", "--path", str(folder / "made")).returncode == 0
    install(folder / "made" / "forest", folder / "site", monkeypatch)
    assert "forest 0.1.0" in headway("algorithms").stdout
    trained = headway("train", "algorithm=forest", "data=digits", "train.epochs=5", "algorithm.hidden=32")
    assert trained.returncode == 0, trained.stderr
    tuned = headway("tune", "algorithm=forest", "data=digits", "train.epochs=1", "tune.trials=2")
    assert tuned.returncode == 0, tuned.stderr


def test_the_worked_plugin_passes_its_own_tests(folder: Path) -> None:
    package = shutil.copytree(EXAMPLE, folder / "package")
    assert " passed" in run(sys.executable, "-m", "pytest", "-q", cwd=package)


def test_the_worked_plugin_is_a_choice_once_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(EXAMPLE, folder / "site", monkeypatch)
    trained = headway("train", "algorithm=fm", "data=breast_cancer", "train.epochs=2", "launcher.workers=2")
    assert trained.returncode == 0, trained.stderr
    told = headway("algorithms", "fm").stdout
    assert "from headway-fm 0.1.0" in told
    assert "factors: int(interval(2, 32))" in told


def test_an_error_in_a_plugin_shows_the_plugins_own_line_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(EXAMPLE, folder / "site-packages", monkeypatch)
    machine = folder / "site-packages" / "headway_fm" / "machine.py"
    text = machine.read_text().replace(
        "return F.cross_entropy(model(batch.x), batch.y)", "return F.relu(model(batch.x), 1, 2)"
    )
    machine.write_text(text)
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "F.relu" in row)
    failed = headway("train", "algorithm=fm", "data=breast_cancer")
    assert failed.returncode == 1
    assert f"headway_fm/machine.py:{line} in loss: TypeError: " in failed.stderr.splitlines()[-1]


def test_a_class_in_a_file_elsewhere_is_trained_resumed_and_tuned(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    shutil.copy(ROOT / "scripts" / "examples" / "mlp.py", folder / "elsewhere" / "my_mlp.py")
    ours = ["algorithm=./elsewhere/my_mlp.py:MLP", "algorithm.hidden=16", "data=digits", "tracking=none"]
    trained = headway("train", *ours, "job.name=mine", "launcher.workers=2", "train.epochs=1")
    assert trained.returncode == 0, trained.stderr
    assert (folder / "runs/mine/code/elsewhere/my_mlp.py").is_file()
    shutil.rmtree(folder / "elsewhere")  # the job has its own copy
    assert (
        headway("predict", "model=runs/mine/model", "model.trust_code=true", "data=digits", "output=out.csv").returncode
        == 0
    )
    (folder / "elsewhere").mkdir()
    shutil.copy(ROOT / "scripts" / "examples" / "mlp.py", folder / "elsewhere" / "my_mlp.py")
    study = ["tune.metric=validation_accuracy", "study.name=s", "tune.trials=2", "train.epochs=1"]
    tuned = headway("tune", ours[0], *ours[2:], *study, "algorithm.hidden=int(interval(8,64))")
    assert tuned.returncode == 0, tuned.stderr
    away = folder / "away"
    away.mkdir()
    os.chdir(away)
    again = headway("tune", "resume", str(folder / "studies/s"), "tune.trials=3")
    assert again.returncode == 0, again.stderr


def test_a_module_that_fails_as_it_is_imported_is_named_with_its_line(folder: Path) -> None:
    (folder / "late.py").write_text("from trainer import Module\nVALUE = nowhere\n\nclass Late(Module):\n    pass\n")
    failed = headway("train", "algorithm=./late.py:Late", "data=digits")
    assert failed.returncode == 1
    assert "late.py:2 in <module>: NameError: name 'nowhere' is not defined" in failed.stderr.splitlines()[-1]
