"""All objects of a bucket on S3, to be read: names are whole keys."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.storage.objects import ATTEMPTS, PART, S3, Missing
from trainer.storage.s3_client import etag_of


class Bucket(S3):
    def __init__(self, name: str) -> None:
        self._open(name, "", None, PART, ATTEMPTS)

    def stamp(self, name: str) -> tuple[str, float] | None:
        """As `stamps` tells of one object; None if there is no such object."""
        try:
            head = self._client.call("head_object", name)
        except Missing:
            return None
        return str(head.get("ETag", "")), head["LastModified"].timestamp()

    def stream(self, name: str) -> Iterator[bytes]:
        """An object's content, part by part, without a file. Raises Missing, and Conflict if it is replaced meanwhile."""
        head = self._client.call("head_object", name)
        etag, size = etag_of(head), int(head.get("ContentLength", -1))
        if not etag or size < 0:
            raise self._client.cut_off(name)
        for start in range(0, size, self._part):
            end = min(start + self._part, size)
            data, _ = self._client.receive(name, end - start, Range=f"bytes={start}-{end - 1}", IfMatch=etag)
            yield data
