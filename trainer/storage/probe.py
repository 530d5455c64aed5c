"""What is tried once with a server before a job relies on it: that it keeps what is written, and holds writes to conditions.

Six requests on an object of its own below the job's key: written if absent, read back, written again on the ETag it has, refused on an ETag
it hasn't and as it is there, deleted.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid

from trainer.errors import HeadwayError, UserError
from trainer.storage.objects import S3
from trainer.storage.s3_client import Conflict, Unknown

_tried: set[tuple[str, str, str]] = set()


def shake(storage: S3) -> str | None:
    """A line for whoever starts the job, if two live copies of it may not notice one another. Raises UserError for what a job can't do
    without, HeadwayError if the server can't be reached.

    Asks once a process: jobs of one place share the answer.
    """
    about = (storage.endpoint, storage.bucket, str(storage.encryption))
    if about not in _tried:
        try:
            _try(storage)
        except Unknown as error:
            raise UserError(str(error)) from None
        except UserError as error:
            if not storage.encryption:
                raise
            raise UserError(f"{error} (asked to encrypt: {', '.join(storage.encryption.values())})") from None
        _tried.add(about)
    if storage.dialect.holds_all:
        return None
    return (
        f"{storage.url}: {storage.endpoint} doesn't hold a write to its condition; two live copies of this job may not notice each other: "
        "start it in one place"
    )


def _try(storage: S3) -> None:
    name, content = f".headway-{uuid.uuid4().hex}", [_content() for _ in range(4)]
    try:
        etag = storage.write(name, content[0], if_absent=True)
        if not _is_kept(storage, name, content[0]):  # the checksum behind it was taken for a part of it
            storage.dialect.crc32 = False
            etag = storage.write(name, content[0])
            if not _is_kept(storage, name, content[0]):
                raise UserError(f"{storage.url}: {storage.endpoint} gives back something else than what was written")
        stale, _ = etag, storage.write(name, content[1], if_match=etag)
        storage.dialect.holds_match = storage.holds(name, content[2], if_match=stale)
        storage.dialect.holds_absent = storage.holds(name, content[3], if_absent=True)
    except Conflict as error:
        raise UserError(
            f"{error}; {storage.endpoint} refuses a write whose condition is true; use another server"
        ) from None
    except BaseException:  # a stop too
        with contextlib.suppress(HeadwayError):
            storage.delete([name])
        raise
    storage.delete([name])


def _is_kept(storage: S3, name: str, content: bytes) -> bool:
    found = storage.read(name)
    return found is not None and found[0] == content


def _content() -> bytes:
    return json.dumps({"headway": "tries this server, and deletes this", "id": os.urandom(16).hex()}).encode()
