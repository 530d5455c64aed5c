"""What `headway chaos` takes and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.cli.chaos import page, parse
from trainer.errors import UserError
from trainer.testing.chaos.schedule import KINDS


def test_what_is_the_drills_is_taken_and_the_rest_is_the_jobs(tmp_path: Path) -> None:
    job = ["algorithm=linear", "data=digits", "+algorithm.mine=1", "job.seed=3", "--config-dir", "conf"]
    asked = parse([*job, "faults=1_000", "seed=4", "kinds=hang,s3", f"dir={tmp_path}/drill"])
    assert asked.overrides == job
    assert (asked.faults, asked.seed, asked.kinds, asked.chosen) == (1000, 4, ["hang", "s3"], True)
    assert asked.dir == tmp_path / "drill"


def test_without_a_word_it_is_twenty_faults_of_all_kinds() -> None:
    asked = parse([])
    assert (asked.faults, asked.seed, asked.kinds, asked.chosen) == (20, 0, list(KINDS), False)
    assert asked.dir.parent == Path("chaos").absolute()


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("faults=0", "faults: '0' is not a whole number from 1 up"),
        ("faults=many", "is not a whole number"),
        ("seed=-1", "from 0 up"),
        ("kinds=kil-all", "did you mean 'kill-all'"),
        ("job.dir=x", "dir=FOLDER is the drill's own"),
        ("launcher.nodes=2", "makes the second node itself"),
        ("job.dry_run=true", "a drill runs the job"),
        ("-m", "which is of one job"),
        (f"dir={Path(__file__).parent}", "exists already"),
    ],
)
def test_what_it_cannot_do_is_refused(argument: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse([argument])


def test_its_page_tells_every_kind() -> None:
    assert all(f"  {name} " in page() for name in KINDS)
    assert max(map(len, page().splitlines())) <= 120
