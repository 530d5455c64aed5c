#!/usr/bin/env bash
# SageMaker's Python SDK, version 3 (PyPI sagemaker-train 1.27.0): text given as a hyperparameter reaches the script as another
# text if it reads as JSON. ModelTrainer writes text without quotes, and its drivers in the container read it as JSON before they
# make arguments of it: the version "2.10" arrives as 2.1, "1e3" as 1000.0. The second version, which quotes text, keeps it.
# Headway's `algorithm.dialect=sdk3` gives a script the same; `framework` keeps text.
#
# Seen: given  {'version': '2.10', 'rate': '1e3', 'name': 'adam'}
#       argv   ['--version', '2.1', '--rate', '1000.0', '--name', 'adam']
# Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-deps sagemaker-train==1.27.0
"$folder/venv/bin/python" - "$folder"/venv/lib/python3*/site-packages/sagemaker/train/container_drivers <<'PYTHON'
import sys

sys.path.insert(0, sys.argv[1])
from common.utils import hyperparameters_to_cli_args, safe_serialize

given = {"version": "2.10", "rate": "1e3", "name": "adam"}
written = {key: safe_serialize(value) for key, value in given.items()}  # as ModelTrainer does: hyperparameters.json
argv = hyperparameters_to_cli_args(written)
print("given ", given)
print("argv  ", argv)
sys.exit(argv != ["--version", "2.1", "--rate", "1000.0", "--name", "adam"])
PYTHON
