"""Text of users in a batch script: as sbatch and bash read it, or refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from launchers.slurm.launcher import Slurm
from launchers.slurm.script import array_script, asked
from trainer.errors import UserError
from trainer.job.directory import Job


def text(place: str = "/shared/runs/one", **options: Any) -> str:
    [found] = Slurm(**options).plan(Job(Path(place))).files.values()
    return found


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("try", "--comment=try"),
        ("a try", '--comment="a try"'),
        ("tr#1", '--comment="tr#1"'),
        ("it's", '--comment="it\'s"'),
        ('"so"', r'--comment="\"so\""'),
        ("a\\b", r'--comment="a\\b"'),
        ("$HOME", '--comment="$HOME"'),
        ("100%", "--comment=100%"),
        ("größer", '--comment="größer"'),
        ("[rack1|rack2]", '--comment="[rack1|rack2]"'),
        (True, "--comment"),
    ],
)
def test_an_option_is_written_as_sbatch_reads_it(value: Any, line: str) -> None:
    assert asked("comment", value) == f"#SBATCH {line}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"extra": {"comment": "a\nb"}}, r"launcher: sbatch's --comment can't hold 'a\nb', which has a line break"),
        ({"account": "lab\n#SBATCH --uid=0"}, "launcher: sbatch's --account can't hold"),
        ({"extra": {"com ment": "x"}}, "launcher.extra: 'com ment' is no option"),
        ({"srun": {"--mpi": "pmix"}}, "launcher.srun: '--mpi' is no option"),
        ({"extra": {"comment": ["x"]}}, "launcher.extra.comment: ['x'] is no value of an option"),
        ({"setup": ["echo 'it"]}, "launcher.setup: bash can't read it: unexpected EOF while looking for matching"),
    ],
)
def test_what_a_script_can_t_hold_is_refused_in_a_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refused:
        text(**options)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_lines_of_setup_are_the_users_own() -> None:
    lines = ["shopt -s extglob", "rm -f !(kept)", "export A='${B} %s {c}'", "cat <<X\ntwo\nX"]
    assert "\n".join(lines) in text(setup=lines)


def test_a_folder_named_like_a_pattern_of_slurms_is_that_folder() -> None:
    script = text("/shared/100%j/o'ne")
    assert '#SBATCH --output="/shared/100%%j/o\'ne/logs/slurm-%j.log"' in script
    assert "'--output=/shared/100%%j/o'\"'\"'ne/logs/node-%n.log'" in script
    with pytest.raises(UserError, match=r"job\.dir: .*backslash"):
        text("/shared/a\\b")


def test_a_job_whose_name_has_a_line_break_adds_no_line_to_the_script() -> None:
    with pytest.raises(UserError, match="line break"):
        text("/shared/one\n#SBATCH --uid=0")


def test_an_array_is_named_as_its_sweep_is() -> None:
    script = text("/shared/my sweep/a b")
    whole = array_script('my "sweep"', [("/shared/my sweep/a b/job.sbatch", script)], 1)
    assert r'#SBATCH --job-name="my \"sweep\""' in whole
    assert "'/shared/my sweep/a b/job.sbatch'" in whole


def test_a_script_that_is_started_without_its_secrets_says_so() -> None:
    line = next(line for line in text(setup=["export A=$HEADWAY_SECRET_A"]).splitlines() if line.startswith(": "))
    done = subprocess.run(["bash", "-c", f"{line}; echo on"], env={}, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "HEADWAY_SECRET_A: it is a secret, of which the job keeps no copy" in done.stderr
    given = {"HEADWAY_SECRET_A": "x"}
    assert (
        subprocess.run(["bash", "-c", f"{line}; echo on"], env=given, capture_output=True, check=False).stdout
        == b"on\n"
    )
