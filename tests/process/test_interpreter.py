"""What lies beside a person's script hides nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """\
import trainer
from trainer.config.conf_files import choices
trainer.load
from trainer.config import known
import algorithms.linear
print("algorithms.linear.Linear" in known.targets("algorithm"), "digits" in choices("data"))
"""


@pytest.mark.parametrize("packages", [True, False])
def test_a_script_may_lie_beside_folders_that_are_called_as_ours(tmp_path: Path, packages: bool) -> None:
    for name in ("conf", "algorithms", "launchers"):
        (tmp_path / name).mkdir()
        if packages:
            (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not ours')")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True"]
