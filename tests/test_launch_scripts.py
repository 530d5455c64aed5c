"""scripts/launch/: commands to copy, whose values come from the environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

FOLDER = Path(__file__).parents[1] / "scripts" / "launch"


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.sh")), ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "corpus", ["/a/b.txt", "/o'ne, two/x=1.txt", '/a "b" #1 (c) [d] {e} 100%.txt', "/é$HOME\\x.txt"]
)
def test_a_path_reaches_the_command_whatever_stands_in_it(script: Path, corpus: str, tmp_path: Path) -> None:
    command = tmp_path / "headway"
    command.write_text("""#!/bin/bash\nshift\nprintf '%s\\0' "$@"\n""")
    command.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CORPUS": corpus, "PARTITION": "low"}
    said = subprocess.run(["bash", script, "seed=1"], env=env, capture_output=True, text=True, check=True).stdout
    parsed = OverridesParser.create().parse_overrides(said.split("\0")[:-1])
    given = {override.key_or_group: override.value() for override in parsed}
    assert str(given["data.train"]) == corpus
    assert given["seed"] == 1


def test_what_has_to_be_told_is_asked_for() -> None:
    env = {"PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", FOLDER / "ddp.sh"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("CORPUS: a text file on the shared disk\n")
