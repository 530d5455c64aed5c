"""Main memory as the kernel gives it to this process: of the machine, and of the control group (a container, a SLURM job)
that it lives in. Standard library only.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
NO_LIMIT = 1 << 60  # what the first version of control groups says where there is none


def free() -> int:
    """Bytes that can still be taken: of the machine, under every limit of the control groups, under `ulimit -v`."""
    found = [_line("/proc/meminfo", "MemAvailable:") * 1024]
    for group in _groups():
        limit = _limit(group)
        if limit is not None:
            found.append(max(0, limit - _used(group)))
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        found.append(max(0, limit - _line("/proc/self/status", "VmSize:") * 1024))
    return min(found)


def limit() -> int | None:
    """The least limit of the control groups, in bytes; None if there is none."""
    return min((found for group in _groups() if (found := _limit(group)) is not None), default=None)


def taken_at_most() -> int:
    """Bytes of main memory that this process has had at once."""
    return _line("/proc/self/status", "VmHWM:") * 1024


def kills() -> int:
    """Processes of this control group that the kernel has ended so far because memory was out."""
    for group in _groups():
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                return _line(group / name, "oom_kill")
    return 0


def _groups() -> Iterator[Path]:
    """The folders of this process's control group and those around it, as far as they can be seen here."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kinds, place = line.split(":", 2)
            if kinds and "memory" not in kinds.split(","):
                continue
            root = GROUPS / "memory" if kinds else GROUPS
            own = Path(place.lstrip("/"))
            for path in [root / own, *(root / parent for parent in own.parents)] if place != "/" else [root]:
                if path.is_dir():
                    yield path


def _limit(group: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            found = int((group / name).read_text(encoding="ascii"))
            return found if found < NO_LIMIT else None
    return None


def _used(group: Path) -> int:
    """Without files that were read and can be dropped."""
    for name, dropped in (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")):
        with contextlib.suppress(OSError):
            return int((group / name).read_text(encoding="ascii")) - _line(group / "memory.stat", dropped)
    return 0


def _line(path: str | Path, key: str) -> int:
    """The number behind a key of a file of lines; 0 if there is none."""
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words and words[0] == key:
            return int(words[1])
    return 0
