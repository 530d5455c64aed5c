"""What a node that doesn't lead carries to S3, where the nodes of a job have no common folder: its workers' share of each
checkpoint, and their logs. The leading node's mirror carries the rest, and says when a checkpoint is complete."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from trainer.job import checkpoint
from trainer.job.checkpoint import MANIFEST
from trainer.job.remote.lease import owner
from trainer.job.remote.mirror import Mirror
from trainer.storage.objects import S3


class PartMirror(Mirror):
    """leader: the id of the leading node's mirror; once another copy has the job, nothing more is carried."""

    def __init__(self, storage: S3, folder: Path, leader: str) -> None:
        super().__init__(storage, folder, on_superseded=lambda who: None)
        self.leader = leader
        self._sent_parts: set[str] = set()

    def _pass(self, *, everything: bool) -> None:
        if (owner(self._storage) or {}).get("id") != self.leader:
            return
        for path in sorted(p for p in self._job.logs.rglob("*") if p.is_file()):
            if path != self._job.progress_path and self._is_due(path, everything):
                self._send(path)
        for place in reversed(checkpoint.listing(self._job.checkpoints)):
            with contextlib.suppress(FileNotFoundError):  # replaced by newer ones meanwhile
                self._send_part(place)

    def _lacking_there(self) -> list[str]:
        return []  # the leading node knows what there must be

    def _send_part(self, place: Path) -> None:
        told = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        if checkpoint.PARTS not in told:
            return
        prefix = f"checkpoints/{place.name}/"
        mine = {prefix + checkpoint.name_on_s3(told, n): place / n for n in checkpoint.held(place, told["files"])}
        if mine.keys() - self._sent_parts:
            self._sent_parts |= self._storage.list(prefix).keys()  # of this very attempt, as their names say
        for name in sorted(mine.keys() - self._sent_parts):
            self._storage.upload(mine[name], name)
            self._sent_parts.add(name)
