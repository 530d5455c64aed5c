"""Objects on S3, or on a server that speaks it: read, written on a condition, listed, and files carried both ways.

What is carried is cut into parts that travel in parallel, each with a checksum that the server verifies on the way up
and a length and checksum that are verified on the way down. What fails for a moment (5xx, slow-down, resets, bodies that end
too soon) is tried again with backoff. boto3 is imported when the first object is touched: everyone may import this.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from trainer.errors import HeadwayError, UserError
from trainer.process.safe_path import NotBelow, below
from trainer.storage.dialect import of_server
from trainer.storage.s3_client import Client, Conflict, Damaged, Missing, Refused, Unknown, etag_of

SCHEME = "s3://"
PART = 8 << 20  # bytes carried in one request; S3 takes 5 MiB at least and 10,000 parts at most
MOST_PARTS = 10_000
PARALLEL = 8  # parts under way at once
ATTEMPTS = 10
DOWNLOADS = 3  # of a file whose content arrives damaged
MARK = "headway-write"  # metadata by which a write whose answer got lost is told from another's
WAYS = 5  # to ask for one write, at most
DELETES = 1000  # objects in one request, as many as S3 takes

T = TypeVar("T")
R = TypeVar("R")


def is_remote(text: str) -> bool:
    return text.startswith(SCHEME)


def split(url: str) -> tuple[str, str]:
    """`s3://bucket/a/b` as `bucket` and `a/b`. Raises UserError if it can't be a job's directory."""
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    key = key.rstrip("/")
    if not is_remote(url) or not bucket or not key:
        raise UserError(f"{url!r} is not a folder on S3; write {SCHEME}BUCKET/FOLDER")
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise UserError(f"{url!r}: a folder on S3 can't have an empty part, '.' or '..' in its path")
    return bucket, key


def staging(url: str, node: int | None = None) -> Path:
    """The local folder where the job of this URL is worked on. node: by one of several nodes that share no folder."""
    bucket, key = split(url)
    given = os.environ.get("HEADWAY_CACHE")
    root = Path(given).expanduser() if given else Path.home() / ".cache" / "headway"
    return root.absolute() / ("jobs" if node is None else f"node-{node}") / bucket / key


@dataclass(frozen=True)
class Encryption:
    """How the server encrypts what it stores: as the bucket says, with its own keys, or with a key of KMS."""

    kind: Literal["sse-s3", "sse-kms"] | None = None
    kms_key: str | None = None  # id, ARN or alias; none: the account's key for S3

    def __post_init__(self) -> None:
        if self.kind not in (None, "sse-s3", "sse-kms"):
            raise UserError(f"encryption: {self.kind!r} is not one of sse-s3, sse-kms")
        if self.kms_key and self.kind != "sse-kms":
            raise UserError("encryption: a KMS key goes with sse-kms only")

    def parameters(self) -> dict[str, str]:
        if self.kind is None:
            return {}
        if self.kind == "sse-s3":
            return {"ServerSideEncryption": "AES256"}
        key = {"SSEKMSKeyId": self.kms_key} if self.kms_key else {}
        return {"ServerSideEncryption": "aws:kms", **key}


class S3:
    """The objects below one URL; names are relative to it. May be used by several threads at once.

    Raises UserError for what a person must change (bucket, credentials, rights), Conflict, Missing or Damaged as they say, and
    HeadwayError for all else, when trying again didn't help.
    """

    def __init__(
        self, url: str, encryption: Encryption | None = None, *, part: int = PART, attempts: int = ATTEMPTS
    ) -> None:
        self._open(*split(url), encryption, part, attempts)

    def _open(self, bucket: str, key: str, encryption: Encryption | None, part: int, attempts: int) -> None:
        self.bucket, self.key = bucket, key
        self.url = f"{SCHEME}{bucket}/{key}".rstrip("/")
        self.encryption = (encryption or Encryption()).parameters()
        self._part, self._attempts = part, attempts
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="s3-part")
        self._client = Client(self.bucket, self.key, attempts)
        self.dialect = of_server(self._client.endpoint, self.bucket)

    @property
    def endpoint(self) -> str:
        """The server's address."""
        return self._client.endpoint

    @property
    def answered(self) -> float:
        """When it last gave an answer, monotonic."""
        return self._client.answered

    # one object

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Content and ETag; None if there is no such object."""
        try:
            data, answer = self._client.receive(name)
        except Missing:
            return None
        return data, answer["ETag"]

    def write(self, name: str, data: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        """Writes in one request and returns the ETag. Raises Conflict if the object isn't the one with the ETag
        `if_match`, or `if_absent` and there is one."""
        mark = uuid.uuid4().hex
        try:
            answer = self._put(name, data, mark, if_match, if_absent)
        except (Conflict, Missing) as error:
            return self._landed(name, mark, error)
        return etag_of(answer) or self._landed(name, mark, self._client.cut_off(name))

    def _put(self, name: str, data: bytes, mark: str, if_match: str | None, if_absent: bool) -> dict[str, Any]:
        """The answer to a write. What the server can't hold it to is looked up before; and it is asked in another way if it refuses
        the way, not the write."""
        dialect = self.dialect
        for _ in range(WAYS):
            if (if_match and not dialect.holds_match) or (if_absent and not dialect.holds_absent):
                self._check_by_looking(name, if_match)
            condition = dialect.conditions(if_match, if_absent)
            try:
                answer = self._client.call(
                    "put_object", name, Body=data, **self._sums(data, dialect.crc32), **self._marked(mark), **condition
                )
            except (Unknown, Refused) as error:
                if dialect.crc32:
                    dialect.crc32 = False
                elif condition and isinstance(error, Unknown):
                    dialect.holds_match &= "IfMatch" not in condition
                    dialect.holds_absent &= "IfNoneMatch" not in condition
                else:
                    raise
            except Conflict:
                if "IfMatch" not in condition or self._etag(name) != if_match:
                    raise
                dialect.bare = not dialect.bare  # refused, though it is true
            else:
                if etag_of(answer) and "ChecksumCRC32" not in answer:  # whoever checks it says so
                    dialect.crc32 = False
                return answer
        where, endpoint = self._client.where(name), self._client.endpoint
        raise UserError(
            f"{where}: {endpoint} refuses a write whose condition is true (If-Match: {if_match}); use another server"
        )

    def holds(self, name: str, data: bytes, *, if_match: str | None = None, if_absent: bool = False) -> bool:
        """Whether the server refuses a write on this condition, which isn't true."""
        condition = self.dialect.conditions(if_match, if_absent)
        try:
            if condition:
                sums = self._sums(data, self.dialect.crc32)
                self._client.call("put_object", name, Body=data, **sums, **self._marked(""), **condition)
        except (Conflict, Missing):
            return True
        except Unknown:
            pass
        return False

    def _check_by_looking(self, name: str, if_match: str | None) -> None:
        """Raises Conflict unless the object has this ETag; if None, unless there is no object."""
        if self._etag(name) != if_match:
            raise Conflict(f"{self._client.where(name)}: somebody else has written it")

    def _etag(self, name: str) -> str | None:
        """None if there is no such object."""
        try:
            for _ in range(self._attempts):
                if etag := etag_of(self._client.call("head_object", name)):
                    return etag
        except Missing:
            return None
        raise self._client.cut_off(name)

    def _sums(self, data: bytes, crc32: bool) -> dict[str, str]:
        if crc32:
            return {"ChecksumAlgorithm": "CRC32"}
        return {"ContentMD5": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()}

    def upload(self, path: Path, name: str, *, if_absent: bool = False) -> str:
        """Carries a file up, in parts if it is large, and returns the ETag. A part that the file gains meanwhile isn't
        sent. Raises Conflict if `if_absent` and there is one."""
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= self._part:
                return self.write(name, os.pread(file.fileno(), size, 0), if_absent=if_absent)
            return self._upload_parts(file.fileno(), size, name, if_absent)

    def _upload_parts(self, fd: int, size: int, name: str, if_absent: bool) -> str:
        length = max(self._part, -(-size // MOST_PARTS))
        mark, crc32 = uuid.uuid4().hex, self.dialect.crc32
        whole = {"ChecksumType": "FULL_OBJECT"} if crc32 else {}
        algorithm = {"ChecksumAlgorithm": "CRC32"} if crc32 else {}
        created = self._client.call("create_multipart_upload", name, **algorithm, **whole, **self._marked(mark))
        upload = created.get("UploadId")
        if not upload:
            raise self._client.cut_off(name)

        def send(start: int) -> dict[str, Any]:
            data, number = os.pread(fd, length, start), start // length + 1
            if len(data) != min(length, size - start):
                raise OSError(f"{name} became shorter while it was being uploaded")
            for _ in range(self._attempts):
                sent = self._client.call(
                    "upload_part", name, UploadId=upload, PartNumber=number, Body=data, **self._sums(data, crc32)
                )
                if etag := etag_of(sent):
                    told = {"ChecksumCRC32": _crc32(zlib.crc32(data))} if crc32 else {}
                    return {"PartNumber": number, "ETag": etag, **told}
            raise self._client.cut_off(name)

        try:
            parts = in_parallel(self._pool, send, range(0, size, length))
            answer = self._complete(name, if_absent, UploadId=upload, MultipartUpload={"Parts": parts}, **whole)
        except BaseException as error:  # a stop too: parts that no upload ends with would stay there
            if isinstance(error, (Conflict, Missing)):  # an answer that got lost leaves no upload to complete
                with contextlib.suppress(Conflict, Missing):
                    return self._landed(name, mark, error)
            with contextlib.suppress(HeadwayError):
                self._client.call("abort_multipart_upload", name, UploadId=upload)
            raise
        return etag_of(answer) or self._landed(name, mark, self._client.cut_off(name))

    def _complete(self, name: str, if_absent: bool, **parameters: Any) -> dict[str, Any]:
        """Some servers hold a write to its condition, and not this: what is there is looked up as well."""
        if if_absent:
            self._check_by_looking(name, None)
        condition = self.dialect.conditions(None, if_absent)
        try:
            return self._client.call("complete_multipart_upload", name, **parameters, **condition)
        except Unknown:
            return self._client.call("complete_multipart_upload", name, **parameters)

    def bring(self, name: str, folder: Path, to: str | None = None) -> Path:
        """Carries an object down to its name, or `to`, below a folder: into a file beside, renamed once all of it has arrived
        and is on the disk. Returns where it lies. Raises NotBelow if that name is none below the folder."""
        try:
            path = below(folder, name if to is None else to)
        except NotBelow as error:
            raise NotBelow(f"{self.url}: {error}") from None
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{uuid.uuid4().hex}.partial")  # the name may be as long as names can be
        try:
            for _ in range(DOWNLOADS):
                head = self._client.call("head_object", name, ChecksumMode="ENABLED")
                # a conflict: it was replaced meanwhile
                with open(beside, "w+b", buffering=0) as file, contextlib.suppress(Conflict):
                    if self._download_parts(name, head, file.fileno()) and self._is_sound(head, file.fileno()):
                        os.fsync(file.fileno())
                        os.replace(beside, path)
                        return path
            raise Damaged(f"{self._client.where(name)} arrived with another checksum {DOWNLOADS} times")
        finally:
            beside.unlink(missing_ok=True)

    def _download_parts(self, name: str, head: dict[str, Any], fd: int) -> bool:
        """Whether all of it has arrived; not if the head was cut off, and told another size."""
        etag, size = etag_of(head), int(head.get("ContentLength", -1))

        def receive(start: int) -> bool:
            end = min(start + self._part, size)
            data, answer = self._client.receive(name, end - start, Range=f"bytes={start}-{end - 1}", IfMatch=etag)
            os.pwrite(fd, data, start)
            return str(answer.get("ContentRange", "")).endswith(f"/{size}")

        return bool(etag) and size >= 0 and all(in_parallel(self._pool, receive, range(0, size, self._part)))

    def _is_sound(self, head: dict[str, Any], fd: int) -> bool:
        if head.get("ChecksumType") != "FULL_OBJECT" or "ChecksumCRC32" not in head:
            return True  # the server gives none that can be told from the whole
        digest, position = 0, 0
        while data := os.pread(fd, self._part, position):
            digest, position = zlib.crc32(data, digest), position + len(data)
        return _crc32(digest) == head["ChecksumCRC32"]

    # many objects

    def list(self, prefix: str = "") -> dict[str, int]:
        """Names and sizes of the objects whose names begin so."""
        return {name: int(item["Size"]) for name, item in self._objects(prefix)}

    def stamps(self, prefix: str = "") -> dict[str, tuple[str, float]]:
        """As `list`, but with the ETag of each, and when it was written, unix seconds."""
        return {name: (item["ETag"], item["LastModified"].timestamp()) for name, item in self._objects(prefix)}

    def _objects(self, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for page in self._client.pages("list_objects_v2", prefix):
            for item in page.get("Contents", ()):
                name = item["Key"][len(self._client.within) :]
                if name and not name.endswith("/"):  # else it only makes a folder visible in a browser
                    yield name, item

    def delete(self, names: Iterable[str]) -> None:
        """Deletes objects; one that isn't there is as good as deleted."""
        keys = [{"Key": self._client.within + name} for name in names]
        for start in range(0, len(keys), DELETES):
            batch = keys[start : start + DELETES]
            try:
                answer = self._client.call("delete_objects", None, Delete={"Objects": batch, "Quiet": True})
            except Unknown:
                for item in batch:
                    self._client.call("delete_object", item["Key"].removeprefix(f"{self.key}/"))
                continue
            for error in answer.get("Errors", ()):
                where, why = f"{SCHEME}{self.bucket}/{error['Key']}", error.get("Message") or error.get("Code")
                kind = UserError if error.get("Code") == "AccessDenied" else HeadwayError
                raise kind(f"{where}: can't be deleted: {why}")

    def abort_uploads(self, prefix: str = "") -> None:
        """Ends what was being uploaded in parts when somebody died, or still is."""
        for page in self._client.pages("list_multipart_uploads", prefix):
            for upload in page.get("Uploads", ()):
                with contextlib.suppress(Missing):
                    name = upload["Key"][len(self._client.within) :]
                    self._client.call("abort_multipart_upload", name, UploadId=upload["UploadId"])

    # underneath

    def _marked(self, mark: str) -> dict[str, Any]:
        return {"Metadata": {MARK: mark}, **self.encryption}

    def _landed(self, name: str, mark: str, error: HeadwayError) -> str:
        """The ETag of what was written although the answer says no: the answer before it got lost, and the second try
        met what the first one wrote. Raises the error if the object is another's."""
        with contextlib.suppress(Missing):
            for _ in range(self._attempts):
                head = self._client.call("head_object", name)
                found, etag = str(head.get("Metadata", {}).get(MARK, "")), etag_of(head)
                if found == mark and etag:
                    return etag
                if len(found) == len(mark) and etag:  # else that answer was cut off, too
                    break
        raise Conflict(str(error)) from error


def of_job(options: Mapping[str, Any]) -> S3:
    """Where a job lies on S3, written to as its config says. options: that config's `job`."""
    return S3(str(options["dir"]), Encryption(options.get("encryption"), options.get("kms_key")))


def record_in(content: bytes) -> dict[str, Any] | None:
    """The JSON object that was read; None if it is none."""
    try:
        record = json.loads(content)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _crc32(digest: int) -> str:
    return base64.b64encode(digest.to_bytes(4, "big")).decode()


def in_parallel(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """The results in order. After the first failure nothing is begun, and nothing goes on behind the caller's back."""
    futures = [pool.submit(work, item) for item in items]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        for future in futures:
            future.cancel()
        wait(futures)
    for future in futures:
        if not future.cancelled() and (error := future.exception()):
            raise error
    return [future.result() for future in futures]
