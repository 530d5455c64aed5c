"""Objects on S3, or on a server that speaks it: read, written on a condition, listed, and files carried both ways.

What is carried is cut into parts that travel in parallel, each with a checksum that the server verifies on the way up
and a length and checksum that are verified on the way down. What fails for a moment (5xx, slow-down, resets, bodies that end
too soon) is tried again with backoff. boto3 is imported when the first object is touched: everyone may import this.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from trainer.errors import HeadwayError, UserError

SCHEME = "s3://"
PART = 8 << 20  # bytes carried in one request; S3 takes 5 MiB at least and 10,000 parts at most
MOST_PARTS = 10_000
PARALLEL = 8  # parts under way at once
ATTEMPTS = 10
DOWNLOADS = 3  # of a file whose content arrives damaged
MARK = "headway-write"  # metadata by which a write whose answer got lost is told from another's
DELETES = 1000  # objects in one request, as many as S3 takes

T = TypeVar("T")
R = TypeVar("R")


class Conflict(HeadwayError):
    """A condition of a write doesn't hold: somebody else wrote meanwhile."""


class Missing(HeadwayError):
    """There is no such object."""


class Damaged(HeadwayError):
    """What arrived isn't what was stored, again and again."""


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


def staging(url: str) -> Path:
    """The local folder where the job of this URL is worked on."""
    bucket, key = split(url)
    given = os.environ.get("HEADWAY_CACHE")
    root = Path(given).expanduser() if given else Path.home() / ".cache" / "headway"
    return root.absolute() / "jobs" / bucket / key


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
        self.bucket, self.key = split(url)
        self.url = f"{SCHEME}{self.bucket}/{self.key}"
        self._encryption = (encryption or Encryption()).parameters()
        self._part, self._attempts = part, attempts
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="s3-part")
        self._client = _client(attempts)

    # one object

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Content and ETag; None if there is no such object."""
        try:
            data, answer = self._receive(name)
        except Missing:
            return None
        return data, answer["ETag"]

    def write(self, name: str, data: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        """Writes in one request and returns the ETag. Raises Conflict if the object isn't the one with the ETag
        `if_match`, or `if_absent` and there is one."""
        mark = uuid.uuid4().hex
        condition = {"IfMatch": if_match} if if_match else {"IfNoneMatch": "*"} if if_absent else {}
        try:
            answer = self._call(
                "put_object", name, Body=data, ChecksumAlgorithm="CRC32", **self._marked(mark), **condition
            )
        except (Conflict, Missing) as error:
            return self._landed(name, mark, error)
        return _etag(answer) or self._landed(name, mark, self._cut_off(name))

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
        mark = uuid.uuid4().hex
        created = self._call(
            "create_multipart_upload",
            name,
            ChecksumAlgorithm="CRC32",
            ChecksumType="FULL_OBJECT",
            **self._marked(mark),
        )
        upload = created.get("UploadId")
        if not upload:
            raise self._cut_off(name)

        def send(start: int) -> dict[str, Any]:
            data, number = os.pread(fd, length, start), start // length + 1
            if len(data) != min(length, size - start):
                raise OSError(f"{name} became shorter while it was being uploaded")
            for _ in range(self._attempts):
                sent = self._call(
                    "upload_part", name, UploadId=upload, PartNumber=number, Body=data, ChecksumAlgorithm="CRC32"
                )
                if etag := _etag(sent):
                    return {"PartNumber": number, "ETag": etag, "ChecksumCRC32": _crc32(zlib.crc32(data))}
            raise self._cut_off(name)

        try:
            parts = in_parallel(self._pool, send, range(0, size, length))
            answer = self._call(
                "complete_multipart_upload",
                name,
                UploadId=upload,
                MultipartUpload={"Parts": parts},
                ChecksumType="FULL_OBJECT",
                **({"IfNoneMatch": "*"} if if_absent else {}),
            )
        except BaseException as error:
            if isinstance(error, (Conflict, Missing)):  # an answer that got lost leaves no upload to complete
                with contextlib.suppress(Conflict, Missing):
                    return self._landed(name, mark, error)
            with contextlib.suppress(HeadwayError):
                self._call("abort_multipart_upload", name, UploadId=upload)
            raise
        return _etag(answer) or self._landed(name, mark, self._cut_off(name))

    def download(self, name: str, path: Path) -> None:
        """Carries an object down into a file beside and renames it once all of it has arrived and is on the disk."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
        try:
            for _ in range(DOWNLOADS):
                head = self._call("head_object", name, ChecksumMode="ENABLED")
                with open(beside, "w+b", buffering=0) as file:
                    if self._download_parts(name, head, file.fileno()) and self._is_sound(head, file.fileno()):
                        os.fsync(file.fileno())
                        os.replace(beside, path)
                        return
            raise Damaged(f"{self._where(name)} arrived with another checksum {DOWNLOADS} times")
        finally:
            beside.unlink(missing_ok=True)

    def _download_parts(self, name: str, head: dict[str, Any], fd: int) -> bool:
        """Whether all of it has arrived; not if the head was cut off, and told another size."""
        etag, size = _etag(head), int(head.get("ContentLength", -1))

        def receive(start: int) -> bool:
            end = min(start + self._part, size)
            data, answer = self._receive(name, end - start, Range=f"bytes={start}-{end - 1}", IfMatch=etag)
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
        found: dict[str, int] = {}
        for page in self._pages("list_objects_v2", prefix):
            found |= {item["Key"][len(self.key) + 1 :]: int(item["Size"]) for item in page.get("Contents", ())}
        return found

    def delete(self, names: Iterable[str]) -> None:
        """Deletes objects; one that isn't there is as good as deleted."""
        keys = [{"Key": f"{self.key}/{name}"} for name in names]
        for start in range(0, len(keys), DELETES):
            batch = keys[start : start + DELETES]
            with self._telling(""):
                answer = self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True})
            for error in answer.get("Errors", ()):
                raise HeadwayError(f"{SCHEME}{self.bucket}/{error['Key']}: can't be deleted: {error['Message']}")

    def abort_uploads(self, prefix: str = "") -> None:
        """Ends what was being uploaded in parts when somebody died, or still is."""
        for page in self._pages("list_multipart_uploads", prefix):
            for upload in page.get("Uploads", ()):
                with contextlib.suppress(Missing):
                    name = upload["Key"][len(self.key) + 1 :]
                    self._call("abort_multipart_upload", name, UploadId=upload["UploadId"])

    # underneath

    def _marked(self, mark: str) -> dict[str, Any]:
        return {"Metadata": {MARK: mark}, **self._encryption}

    def _landed(self, name: str, mark: str, error: HeadwayError) -> str:
        """The ETag of what was written although the answer says no: the answer before it got lost, and the second try
        met what the first one wrote. Raises the error if the object is another's."""
        with contextlib.suppress(Missing):
            for _ in range(self._attempts):
                head = self._call("head_object", name)
                found, etag = str(head.get("Metadata", {}).get(MARK, "")), _etag(head)
                if found == mark and etag:
                    return etag
                if len(found) == len(mark) and etag:  # else that answer was cut off, too
                    break
        raise Conflict(str(error)) from error

    def _receive(self, name: str, length: int | None = None, **parameters: Any) -> tuple[bytes, dict[str, Any]]:
        """An object's content, or a range of it, asked for again if it breaks off: boto3 itself tries again only until
        the first byte of the content has arrived."""
        from botocore.exceptions import BotoCoreError

        reason = ""
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(random.random() * min(20.0, 0.05 * 2**attempt))
            answer = self._call("get_object", name, **parameters)
            try:
                data = answer["Body"].read()
            except (BotoCoreError, OSError) as error:  # cut off, reset, too slow, or with another checksum
                reason = str(error)
                continue
            expected = answer.get("ContentLength") if length is None else length
            if len(data) == expected and _etag(answer):
                return data, answer
            reason = f"{len(data)} bytes arrived"
        raise Damaged(f"{self._where(name)} arrived incomplete {self._attempts} times: {reason}")

    def _call(self, operation: str, name: str, **parameters: Any) -> dict[str, Any]:
        for attempt in range(1, self._attempts + 1):
            try:
                with self._telling(name):
                    answer: dict[str, Any] = getattr(self._client, operation)(
                        Bucket=self.bucket, Key=f"{self.key}/{name}", **parameters
                    )
                    return answer
            except Damaged:  # on its way up, as the server noticed: boto3 doesn't try that again
                if attempt == self._attempts:
                    raise
        raise AssertionError

    def _pages(self, operation: str, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator(operation).paginate(Bucket=self.bucket, Prefix=f"{self.key}/{prefix}")
        with self._telling(prefix):
            for page in pages:
                if "IsTruncated" not in page:  # no answer at all must not look like an empty folder
                    raise self._cut_off(prefix)
                yield page

    def _cut_off(self, name: str) -> Damaged:
        return Damaged(f"{self._where(name)}: the server's answer was cut off")

    def _where(self, name: str) -> str:
        return f"{self.url}/{name}".rstrip("/")

    @contextlib.contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        """Makes one line of what boto3 raises, once it has tried often enough."""
        from botocore import exceptions as boto

        where, endpoint = self._where(name), self._client.meta.endpoint_url
        try:
            yield
        except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError) as error:
            hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`"
            raise UserError(f"{where}: no credentials for S3 were found ({error}); {hint}") from None
        except boto.ClientError as error:
            raise _told(error, where, self.bucket, endpoint) from None
        except (boto.HTTPClientError, boto.ConnectionError) as error:
            raise HeadwayError(f"{where}: {endpoint} can't be reached: {error}") from None
        except boto.ParamValidationError as error:  # a bucket's name that can't be one
            raise UserError(f"{where}: {' '.join(str(error).split())}") from None
        except boto.BotoCoreError as error:
            raise HeadwayError(f"{where}: {error}") from None


def _etag(answer: dict[str, Any]) -> str | None:
    """None if it was cut off: Python's HTTP client takes headers that end in the middle for all there are."""
    etag = str(answer.get("ETag", ""))
    return etag if len(etag) > 2 and etag.startswith('"') and etag.endswith('"') else None


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


def _told(error: Any, where: str, bucket: str, endpoint: str) -> HeadwayError:
    code, message = str(error.response["Error"].get("Code")), error.response["Error"].get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code == "NoSuchBucket":
        return UserError(f"{where}: there is no bucket {bucket!r} at {endpoint}")
    if code in ("BadDigest", "XAmzContentSHA256Mismatch"):
        return Damaged(f"{where}: {message or code}")
    if status in (409, 412):
        return Conflict(f"{where}: {message or code}")
    if status == 404:
        return Missing(f"{where}: there is no such object")
    if status in (401, 403):
        name = error.operation_name
        return UserError(f"{where}: {name} is not allowed: {code}: {message}; check the credentials and their rights")
    return HeadwayError(f"{where}: {error.operation_name} failed at {endpoint}: {code}: {message}")


def _client(attempts: int) -> Any:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise UserError("s3:// paths need boto3, which isn't installed: pip install boto3") from None
    own_server = any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"))
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=4 * PARALLEL,
        s3={"addressing_style": "path" if own_server else "auto"},
    )
    try:
        session = boto3.session.Session()
        region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
        return session.client("s3", region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:  # a profile that isn't there, an endpoint that is no URL
        raise UserError(f"S3: {error}") from None
