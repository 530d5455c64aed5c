"""How much of a job S3 has, as whoever carries it there last knew: a record in the job's local folder, for those who look.

trouble, since: why nothing can be carried just now, and since when, unix seconds; lacking: what was left behind when it ended, None
before that.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.job.directory import read_hint, write_json
from trainer.process.escape import visible
from trainer.process.format import short_path

RECORD = ".carried.json"
NOT_THERE = "not on S3: "  # how what is said of it begins


@dataclass(frozen=True)
class Carried:
    url: str
    trouble: str | None = None
    since: float | None = None
    lacking: tuple[str, ...] | None = None

    def write(self, folder: Path) -> None:
        write_json(folder / RECORD, asdict(self))

    def words(self, folder: Path) -> str:
        """What isn't on S3, in a line; empty if nothing is known to lack."""
        if not self.lacking and not self.trouble:
            return ""
        what = ", ".join(self.lacking) if self.lacking else "what is new"
        why = f" ({self.trouble})" if self.trouble else ""
        return visible(f"{NOT_THERE}{what}; it lies in {short_path(folder)}{why}")


def read(folder: Path) -> Carried | None:
    """None if the job was never carried from here, or nobody can tell."""
    found = read_hint(folder / RECORD)
    url, trouble, since, lacking = (found.get(name) for name in ("url", "trouble", "since", "lacking"))
    if not isinstance(url, str):
        return None
    names = tuple(str(name) for name in lacking) if isinstance(lacking, list) else None
    return Carried(
        url,
        trouble if isinstance(trouble, str) else None,
        since if isinstance(since, float) else None,
        names,
    )


def is_under_way(folder: Path) -> bool:
    """Whether somebody carries the job from here, unless that one has died."""
    known = read(folder)
    return known is not None and known.lacking is None
