"""What ModelTrainer of SageMaker's Python SDK, third version, starts a script with: its own drivers, which need nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

VERSION = "1.27.0"
# the drivers name their folders by /opt/ml: here they are told where those are
RUN = """\
import functools, importlib, json, os, pathlib, runpy, shlex, sys
drivers, base = pathlib.Path(sys.argv[1]), sys.argv[2]
sys.path[:0] = [str(drivers), str(drivers / "scripts"), str(drivers / "distributed_drivers")]
common, environment = importlib.import_module("common.utils"), importlib.import_module("environment")
for module in (common, environment):
    for name, value in vars(module).copy().items():
        if isinstance(value, str) and value.startswith("/opt/ml"):
            setattr(module, name, base + value.removeprefix("/opt/ml"))
environment.read_source_code_json = functools.partial(common.read_source_code_json, common.SOURCE_CODE_JSON)
environment.read_distributed_json = functools.partial(common.read_distributed_json, common.DISTRIBUTED_JSON)
environment.logger.disabled = True
told = [json.load(open(f"{base}/input/config/{name}.json")) for name in ("resourceconfig", "inputdataconfig", "hyperparameters")]
environment.set_env(*told, output_file=base + "/told.env")
variables = {}
for line in open(base + "/told.env").read().split("\\nexport "):
    name, _, value = line.removeprefix("export ").rstrip("\\n").partition("=")
    variables[name] = value[1:-1]
os.environ.update(variables)
command = importlib.import_module("basic_script_driver").create_commands()
json.dump({"env": variables, "command": command}, open(base + "/told.json", "w"))
"""


def drivers() -> Path:
    """The folder of the drivers, fetched once on a machine; the test is skipped where it can't be had."""
    folder = Path(tempfile.gettempdir(), f"headway-modeltrainer-{VERSION}")
    found = folder / "sagemaker" / "train" / "container_drivers"
    if not (folder / "ready").is_file():
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade", "--target", str(folder)]
        done = subprocess.run(
            [*install, f"sagemaker-train=={VERSION}"], capture_output=True, text=True, check=False, timeout=280
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            pytest.skip(f"needs sagemaker-train {VERSION}, which can't be installed here: {said}")
        (folder / "ready").touch()
    return found


def run(base: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """The variables and the command of the container whose folders lie at `base`."""
    program = base.parent / "drive.py"
    program.write_text(RUN, encoding="utf-8")
    env = {"PATH": os.environ["PATH"], **environment}
    done = subprocess.run(
        [sys.executable, str(program), str(drivers()), str(base)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((base / "told.json").read_text(encoding="utf-8"))
    return found
