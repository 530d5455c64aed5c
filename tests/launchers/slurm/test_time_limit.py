"""A SLURM time limit leaves time to train in before its warning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launchers.slurm import time_limit
from launchers.slurm.launcher import Slurm
from launchers.slurm.time_limit import limit, of_partition, seconds_of, warning_of
from trainer.errors import HeadwayError, UserError
from trainer.job.directory import Job

CLUSTER = """\
PartitionName=short AllowGroups=ALL Default=NO MaxNodes=UNLIMITED MaxTime=00:04:00 DefaultTime=NONE State=UP
PartitionName=normal AllowGroups=ALL Default=YES DefaultTime=00:01:00 MaxTime=1-00:00:00 State=UP
PartitionName=long AllowGroups=ALL Default=NO DefaultTime=NONE MaxTime=UNLIMITED State=UP
"""


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What scontrol tells here."""

    def told(*arguments: str) -> str:
        name = arguments[2] if arguments[2] != "--oneliner" else None
        lines = [line for line in CLUSTER.splitlines() if name is None or f"PartitionName={name} " in line]
        if not lines:
            raise HeadwayError(f"Partition {name} not found")
        return "\n".join(lines)

    monkeypatch.setattr(time_limit, "scontrol", told)
    of_partition.cache_clear()
    yield
    of_partition.cache_clear()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 300),
        ("5:30", 330),
        ("1:02:03", 3723),
        ("2-3", 2 * 86400 + 3 * 3600),
        ("1-02:30", 86400 + 9000),
        ("1-02:03:04", 86400 + 7384),
        ("UNLIMITED", None),
        ("INFINITE", None),
        ("NONE", None),
    ],
)
def test_limits_are_read_as_slurm_writes_them(text: str, seconds: int | None) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("given", ["UNLIMITED", "unlimited", "INFINITE", "0", 0])
def test_a_job_may_ask_for_no_limit(given: Any) -> None:
    assert limit(given) == "UNLIMITED"
    assert warning_of("auto", given, "normal") == 120


@pytest.mark.parametrize("given", ["5:30", "1:02:03", "2-3", "1-02:30", "1-02:03:04"])
def test_a_limit_in_slurms_own_words_is_taken(given: str) -> None:
    assert limit(given) == given


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"launcher\.time: 0:00 is no time at all"):
        limit("0:00")


@pytest.mark.parametrize(
    ("time", "partition", "warning"),
    [
        ("4h", None, 120),
        ("8m", None, 120),
        ("2m", None, 30),
        ("1m", None, 15),
        ("1:00", None, 15),
        (None, None, 15),  # of the cluster's own choice
        (None, "short", 60),
        (None, "long", 120),
        (None, "nowhere", 120),
    ],
)
def test_the_warning_takes_a_quarter_of_a_short_limit(time: str | None, partition: str | None, warning: int) -> None:
    assert warning_of("auto", time, partition) == warning
    text = next(iter(Slurm(time=time, partition=partition).plan(Job(Path("/shared/job"))).files.values()))
    assert f"#SBATCH --signal=USR1@{warning}\n" in text


@pytest.mark.parametrize(
    ("time", "partition", "warning", "named"),
    [
        ("2m", None, "2m", "launcher.time=2m"),
        ("1m", None, 90, "launcher.time=1m"),
        (None, "short", "5m", "partition's"),
    ],
)
def test_a_warning_that_leaves_no_time_is_refused_at_submission(
    time: str | None, partition: str | None, warning: Any, named: str
) -> None:
    launcher = Slurm(time=time, partition=partition, warning=warning)
    with pytest.raises(UserError, match=rf"launcher\.warning: .*{named}"):
        launcher.plan(Job(Path("/shared/job")))


def test_a_warning_that_fits_is_taken_as_it_is() -> None:
    assert warning_of("40s", "1m", None) == 40
    assert warning_of("2h", None, "long") == 7200
