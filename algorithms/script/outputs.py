"""What the hosts of a script leave in folders of one name, put together as SageMaker does: of each name there is one file, the
first host's.

Nothing of a host's own folders is changed. Links are followed, also those that name a container's folder by /opt/ml.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ML = Path("/opt/ml")
NAMED = 3  # files that clash, as many as are told of by name
LINKS = 40  # that lead from one to the next, as many as the kernel follows


@dataclass
class Gathered:
    """files: where each lies, by its path in the folder. folders: all that there are. lost: what another host has too, and
    differently: the path, and whose it is that doesn't count."""

    first: str
    files: dict[str, Path] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    lost: dict[str, str] = field(default_factory=dict)

    def add(self, host: str, folder: Path, root: Path) -> None:
        """Takes in what a host has; `root` is its container."""
        aside = ""  # a folder that doesn't count, as the first host has a file of that name
        for name, path in _walk(folder, root):
            if aside and name.startswith(aside):
                continue
            known = self.files.get(name)
            if path is None:
                if known is not None:
                    aside = f"{name}/"
                    self.lost[name] = host
                else:
                    self.folders.add(name)
            elif name in self.folders or (known is not None and not _same(known, path)):
                self.lost[name] = host
            elif known is None:
                self.files[name] = path

    def told(self, where: str) -> str:
        """The clash in a line; "" if there is none."""
        names = sorted(self.lost)
        if not names:
            return ""
        shown = ", ".join(f"{where}/{name}" for name in names[:NAMED])
        shown += f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        hosts = ", ".join(sorted(set(self.lost.values())))
        return (
            f"several hosts wrote {shown}: {self.first}'s counts, not that of {hosts}; "
            f"SM_CURRENT_HOST in a file's name keeps each host's"
        )

    def copy(self, target: Path) -> None:
        """Writes it into a folder, without a copy where that can be."""
        for name in sorted(self.folders):
            (target / name).mkdir(parents=True, exist_ok=True)
        for name, path in self.files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target / name)
            except OSError:  # another file system
                shutil.copy2(path, target / name)

    def pack(self, target: Path) -> None:
        """Writes it as a .tar.gz, beside first. A file that has several names is in it once."""
        beside, packed = target.with_name(f".{target.name}.partial"), dict[Path, str]()
        with tarfile.open(beside, "w:gz", compresslevel=1) as archive:
            for name in sorted(self.folders | self.files.keys()):
                path = self.files.get(name)
                if path is None:
                    folder = tarfile.TarInfo(name)
                    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(folder)
                    continue
                if path in packed:
                    twin = archive.gettarinfo(path, name)
                    twin.type, twin.linkname, twin.size = tarfile.LNKTYPE, packed[path], 0
                    archive.addfile(twin)
                    continue
                archive.add(path, arcname=name)
                packed[path] = name
        os.replace(beside, target)


def gather(hosts: Sequence[tuple[str, Path]], inner: str) -> Gathered:
    """What the hosts, each with its container's folder, have in the folder `inner` of it. The first one's counts."""
    found = Gathered(hosts[0][0])
    for host, root in hosts:
        if (root / inner).is_dir():
            found.add(host, root / inner, root)
    return found


def _walk(
    folder: Path, root: Path, prefix: str = "", above: tuple[Path, ...] = ()
) -> Iterator[tuple[str, Path | None]]:
    """Files by their path in the folder; folders, which come before what is in them, with None. What is no file, links that
    lead nowhere and folders in themselves are left out."""
    above = (*above, folder.resolve())
    for entry in sorted(folder.iterdir()):
        path, name = _followed(entry, root), f"{prefix}{entry.name}"
        if path.is_dir() and path.resolve() not in above:
            yield name, None
            yield from _walk(path, root, f"{name}/", above)
        elif path.is_file():
            yield name, path


def _followed(path: Path, root: Path) -> Path:
    """Where a link leads, as its own host sees it."""
    for _ in range(LINKS):
        if not path.is_symlink():
            break
        leads = Path(os.path.normpath(path.parent / os.readlink(path)))
        path = root / leads.relative_to(ML) if leads.is_relative_to(ML) and not leads.exists() else leads
    return path


def _same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return filecmp.cmp(one, other, shallow=False)
    return False
