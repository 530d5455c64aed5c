"""The design's rules about the code itself, kept as tests. Who may import whom is in pyproject.toml (import-linter)."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.config import conf_files as pages

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
PACKAGES = ("trainer", "algorithms", "launchers")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# what takes long to import; only a verb that needs it may
HEAVY = (
    "torch",
    "datasets",
    "pyarrow",
    "pandas",
    "numpy",
    "scipy",
    "sklearn",
    "xgboost",
    "tensorboard",
    "safetensors",
    "optuna",
    "ray",
)
CHOICES = sorted(CONF.glob("*/*.yaml"))


def loaded(code: str, folder: Path) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running the code."""
    report = "import sys; print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True, cwd=folder
    )
    return set(done.stdout.splitlines()[-1].split())


def command(*arguments: str) -> str:
    """Code that runs `headway ARGUMENTS`."""
    return f"from trainer.cli import main; assert main({list(arguments)}) == 0"


@pytest.mark.parametrize(
    "code",
    [
        "import trainer",
        "import trainer.submission.run",
        "import trainer.data.sources, trainer.data.schema",
        "import launchers.base, launchers.local",
        "import trainer.tuning.spaces.space, trainer.tuning.spaces.grammar, trainer.tuning.spaces.checking",
        command("--help"),
        command("train", "--help"),
        command("predict", "--help"),
        command("tune", "--help"),
        command("train", "--cfg", "job"),
        command("train", "--cfg", "job", "algorithm=gpt", "data=text"),
        command("train", "job.dry_run=true", "launcher.workers=2"),
        command("plan", "launcher.workers=2"),
        command("ls"),
    ],
)
def test_what_only_submits_a_job_loads_nothing_heavy(code: str, tmp_path: Path) -> None:
    assert not loaded(code, tmp_path) & set(HEAVY)


@pytest.mark.parametrize("code", ["import trainer", command("--help"), command("train", "--cfg", "job")])
def test_help_and_the_config_do_without_the_terminal_library(code: str, tmp_path: Path) -> None:
    assert "rich" not in loaded(code, tmp_path)


def test_help_does_without_hydra(tmp_path: Path) -> None:
    assert not loaded(command("train", "--help"), tmp_path) & {"hydra", "omegaconf"}


def test_what_everyone_imports_needs_the_standard_library_alone(tmp_path: Path) -> None:
    core = (
        "import trainer.algorithm, trainer.job.directory, trainer.job.checkpoint, trainer.errors, trainer.data.schema"
    )
    extra = loaded(core, tmp_path) - loaded("", tmp_path) - set(sys.stdlib_module_names)
    assert extra == {"trainer"}


def test_a_module_has_at_most_400_lines() -> None:
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    lengths = {str(m.relative_to(ROOT)): len(m.read_text(encoding="utf-8").splitlines()) for m in modules}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_a_package_has_at_most_16_files_and_trainer_16_entries() -> None:
    packages = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    counts = {str(p.relative_to(ROOT)): sum(f.is_file() for f in p.iterdir()) for p in packages}
    assert {name: count for name, count in counts.items() if count > 16} == {}
    # Python leaves what it compiled where packages were that have moved
    held = {
        path.relative_to(ROOT / "trainer").parts[0] for path in (ROOT / "trainer").rglob("*.*") if path.suffix != ".pyc"
    }
    assert len(held - {"__pycache__"}) <= 16


def test_every_promise_has_its_test_and_those_in_bold_are_run_first() -> None:
    table = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    marked = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                test = f"{path.relative_to(ROOT)}::{node.name}"
                if any("promise" in ast.unparse(one) for one in node.decorator_list):
                    marked.add(test)
                table = table.replace(f"`{test}`", "")
    missing = re.findall(r"`(tests/\S+::\w+)`", table)
    assert missing == []
    bold = re.findall(r"\*\*`(tests/\S+::\w+)`\*\*", (ROOT / "tests" / "README.md").read_text(encoding="utf-8"))
    assert marked == set(bold)


def leaves(node: dict[str, Any], prefix: str = "") -> set[str]:
    """The dotted keys of a config file that hold values."""
    found = set()
    for key, value in node.items():
        if not prefix and key in ("defaults", "_target_", "_space_", "hydra"):
            continue
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}"}
    return found


def read(choice: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(choice.read_text(encoding="utf-8"))
    return content


TARGETS = [choice for choice in CHOICES if "_target_" in read(choice)]
SETTINGS = [choice for choice in CHOICES if choice.parent.name != "experiment"]


def name_of(choice: Path) -> str:
    return f"{choice.parent.name}={choice.stem}"


@pytest.mark.parametrize("choice", TARGETS, ids=name_of)
def test_a_choices_target_is_there(choice: Path) -> None:
    module, _, name = read(choice)["_target_"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("choice", SETTINGS, ids=name_of)
def test_help_explains_every_key_of_a_choice(choice: Path) -> None:
    explained = {key.name for key in pages.keys(choice.parent.name, choice.stem) if key.comment}
    assert not leaves(read(choice)) - explained


@pytest.mark.parametrize("choice", CHOICES, ids=name_of)
def test_a_choice_opens_with_what_it_is(choice: Path) -> None:
    assert len(pages.summary(choice.parent.name, choice.stem)) > 10


@pytest.mark.parametrize("choice", sorted((CONF / "experiment").glob("*.yaml")), ids=name_of)
def test_an_experiment_opens_with_its_command(choice: Path) -> None:
    assert f"# headway train +experiment={choice.stem}" in choice.read_text(encoding="utf-8").splitlines()[1]


MODULES = [p for p in (ROOT / "algorithms").iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()]
ALGORITHMS = sorted(p.stem for p in MODULES if p.stem != "__init__")
LAUNCHERS = sorted(p.stem for p in (CONF / "launcher").glob("*.yaml"))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_has_one_name_everywhere(name: str) -> None:
    assert read(CONF / "algorithm" / f"{name}.yaml")["_target_"].startswith(f"algorithms.{name}.")
    assert (ROOT / "tests" / "algorithms" / f"test_{name}.py").is_file()


@pytest.mark.parametrize("choice", sorted((CONF / "algorithm").glob("*.yaml")), ids=name_of)
def test_a_choice_of_algorithm_is_one_or_a_preset_of_one(choice: Path) -> None:
    assert choice.stem in ALGORITHMS or read(choice)["defaults"][0] in ALGORITHMS


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_has_one_name_everywhere(name: str) -> None:
    assert read(CONF / "launcher" / f"{name}.yaml")["_target_"].startswith(f"launchers.{name}.")


ENTRY_POINTS = {"algorithm": "algorithms", "data": "data", "launcher": "launchers", "tracking": "trackers"}


@pytest.mark.parametrize("group", ENTRY_POINTS)
def test_entry_points_and_choices_name_the_same_classes(group: str) -> None:
    installed = PROJECT["entry-points"][f"headway.{ENTRY_POINTS[group]}"]
    chosen = {choice.stem: read(choice)["_target_"] for choice in TARGETS if choice.parent.name == group}
    assert {name: target.replace(":", ".") for name, target in installed.items()} == chosen
