"""What S3 does with one request: objects, conditions, multipart uploads, lists. Knows nothing of connections and faults."""

from __future__ import annotations

import base64
import hashlib
import re
import time
import uuid
import xml.etree.ElementTree as ElementTree
import zlib
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import formatdate
from typing import Any
from xml.sax.saxutils import escape

SMALLEST_PART = 5 << 20
UNMET = "At least one of the pre-conditions you specified did not hold"
Answer = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class Stored:
    """An object."""

    data: bytes
    etag: str
    headers: dict[str, str] = field(default_factory=dict)  # metadata and encryption, as they were asked for
    checksum_type: str = "FULL_OBJECT"
    modified: float = field(default_factory=time.time)  # unix seconds

    @property
    def encryption(self) -> tuple[str | None, str | None]:
        """Algorithm and KMS key."""
        prefix = "x-amz-server-side-encryption"
        return self.headers.get(prefix), self.headers.get(f"{prefix}-aws-kms-key-id")


@dataclass
class Upload:
    """A multipart upload under way."""

    bucket: str
    key: str
    headers: dict[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)


class Refused(Exception):
    """An answer that says no."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message or code


@dataclass(frozen=True)
class Manners:
    """How a server takes what AWS takes: `held`, or
    match: `bare` (an ETag without quotes), `refused` (also what is true), `ignored`, `unknown` (501).
    absent, on_completion (of an upload in parts): `ignored`, `unknown`.
    crc32: `ignored`, `refused`. lists: `first` (the version). deletes: `single`. quotes: whether ETags have them.
    """

    match: str = "held"
    absent: str = "held"
    on_completion: str = "held"
    crc32: str = "held"
    lists: str = "second"
    deletes: str = "many"
    quotes: bool = True


@dataclass
class Request:
    """One request, under the server's lock."""

    objects: dict[str, Stored]
    uploads: dict[str, Upload]
    page: int
    bucket: str
    key: str
    query: dict[str, str]
    headers: Any
    body: bytes
    manners: Manners = Manners()

    def answer(self, method: str) -> Answer:
        """Status, headers and content. Raises Refused."""
        query = self.query
        if not self.key:
            if method == "POST" and "delete" in query and self.manners.deletes == "many":
                return self._delete_many()
            if method == "GET":
                return self._list_uploads() if "uploads" in query else self._list()
        elif method in ("GET", "HEAD"):
            return self._get()
        elif method == "PUT":
            return (
                self._put_part()
                if "partNumber" in query
                else self._put(self.body, etag_of(self.body), _kept(self.headers))
            )
        elif method == "POST" and "uploads" in query:
            return self._begin()
        elif method == "POST" and "uploadId" in query:
            return self._complete()
        elif method == "DELETE" and "uploadId" in query:
            self._upload()
            del self.uploads[query["uploadId"]]
            return 204, {}, b""
        elif method == "DELETE":
            self.objects.pop(self.key, None)
            return 204, {}, b""
        raise Refused(501, "NotImplemented", f"{method} {sorted(query)}")

    def _found(self) -> Stored:
        if self.key not in self.objects:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        return self.objects[self.key]

    def _get(self) -> Answer:
        found = self._found()
        if self.headers.get("If-Match", found.etag).strip('"') != found.etag.strip('"'):
            raise Refused(412, "PreconditionFailed", UNMET)
        told = {**found.headers, "ETag": found.etag, "Last-Modified": formatdate(usegmt=True), "Accept-Ranges": "bytes"}
        told["Content-Type"] = "binary/octet-stream"
        size, data = len(found.data), found.data
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if asked:
            start, end = int(asked[1]), min(int(asked[2]), size - 1)
            if start >= size:
                raise Refused(416, "InvalidRange", "The requested range is not satisfiable")
            data = data[start : end + 1]
            return 206, {**told, "Content-Range": f"bytes {start}-{end}/{size}", "Content-Length": str(len(data))}, data
        checked = found.checksum_type == "FULL_OBJECT" and self.manners.crc32 == "held"
        if self.headers.get("x-amz-checksum-mode") == "ENABLED" and checked:
            told |= {"x-amz-checksum-crc32": crc32_of(data), "x-amz-checksum-type": "FULL_OBJECT"}
        return 200, {**told, "Content-Length": str(size)}, data

    def _put(self, data: bytes, etag: str, kept: dict[str, str], checksum_type: str = "FULL_OBJECT") -> Answer:
        self._check_conditions()
        self.objects[self.key] = Stored(data, etag, kept, checksum_type)
        told = {name: value for name, value in kept.items() if name.startswith("x-amz-server-side")}
        return 200, {**told, "ETag": etag, **self._sum(data)}, b""

    def _check_conditions(self) -> None:
        """Of a write. Raises Refused."""
        known, match, absent = self.objects.get(self.key), self.manners.match, self.manners.absent
        if "uploadId" in self.query and self.manners.on_completion != "held":
            absent = self.manners.on_completion
        if (asked := self.headers.get("If-Match")) and match != "ignored":
            if match == "unknown":
                raise Refused(
                    501, "NotImplemented", "A header you provided implies functionality that is not implemented"
                )
            if known is None:
                raise Refused(404, "NoSuchKey", "The specified key does not exist.")
            if match == "refused" or asked != (known.etag.strip('"') if match == "bare" else known.etag):
                raise Refused(412, "PreconditionFailed", UNMET)
        if self.headers.get("If-None-Match") == "*" and absent != "ignored":
            if absent == "unknown":
                raise Refused(
                    501, "NotImplemented", "A header you provided implies functionality that is not implemented"
                )
            if known is not None:
                raise Refused(412, "PreconditionFailed", UNMET)

    def _sum(self, data: bytes) -> dict[str, str]:
        return {"x-amz-checksum-crc32": crc32_of(data)} if self.manners.crc32 == "held" else {}

    def _upload(self) -> Upload:
        upload = self.uploads.get(self.query["uploadId"])
        if upload is None or (upload.bucket, upload.key) != (self.bucket, self.key):
            raise Refused(404, "NoSuchUpload", "The specified multipart upload does not exist.")
        return upload

    def _begin(self) -> Answer:
        name = uuid.uuid4().hex
        kept = _kept(self.headers)
        kept["x-amz-checksum-type"] = self.headers.get("x-amz-checksum-type") or "COMPOSITE"
        self.uploads[name] = Upload(self.bucket, self.key, kept)
        return _xml("InitiateMultipartUploadResult", f"<UploadId>{name}</UploadId>")

    def _put_part(self) -> Answer:
        self._upload().parts[int(self.query["partNumber"])] = self.body
        return 200, {"ETag": etag_of(self.body), **self._sum(self.body)}, b""

    def _complete(self) -> Answer:
        upload = self._upload()
        asked = [{_name(item): item.text or "" for item in part} for part in ElementTree.fromstring(self.body)]
        parts = []
        for part in asked:
            data = upload.parts.get(int(part["PartNumber"]))
            sums = {} if data is None else {"ETag": etag_of(data).strip('"'), "ChecksumCRC32": crc32_of(data)}
            part["ETag"] = part["ETag"].strip('"')
            if data is None or any(part.get(name, value) != value for name, value in sums.items()):
                raise Refused(400, "InvalidPart", f"part {part['PartNumber']} is not the one that was uploaded")
            parts.append(data)
        if any(len(data) < SMALLEST_PART for data in parts[:-1]):
            raise Refused(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
        sums_of_parts = b"".join(hashlib.md5(data).digest() for data in parts)
        etag = f'"{hashlib.md5(sums_of_parts).hexdigest()}-{len(parts)}"'
        kept = dict(upload.headers)
        self._put(b"".join(parts), etag, kept, kept.pop("x-amz-checksum-type"))
        del self.uploads[self.query["uploadId"]]
        return _xml("CompleteMultipartUploadResult", f"<Key>{escape(self.key)}</Key><ETag>{escape(etag)}</ETag>")

    def _list(self) -> Answer:
        first = self.manners.lists == "first"
        prefix, after = self.query.get("prefix", ""), self.query.get("marker" if first else "continuation-token", "")
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        shown = keys[: min(self.page, int(self.query.get("max-keys", 1000)))]
        content = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(found.data)}</Size><ETag>{escape(found.etag)}</ETag>"
            f"<LastModified>{datetime.fromtimestamp(found.modified, timezone.utc).isoformat()}</LastModified></Contents>"
            for key, found in ((key, self.objects[key]) for key in shown)
        )
        more = len(shown) < len(keys)
        token = f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>" if more and not first else ""
        return _xml("ListBucketResult", f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{content}")

    def _list_uploads(self) -> Answer:
        shown = [
            f"<Upload><Key>{escape(upload.key)}</Key><UploadId>{name}</UploadId></Upload>"
            for name, upload in self.uploads.items()
            if upload.bucket == self.bucket and upload.key.startswith(self.query.get("prefix", ""))
        ]
        return _xml("ListMultipartUploadsResult", f"<IsTruncated>false</IsTruncated>{''.join(shown)}")

    def _delete_many(self) -> Answer:
        for item in ElementTree.fromstring(self.body).iter():
            if _name(item) == "Key":
                self.objects.pop(item.text or "", None)
        return _xml("DeleteResult", "")


def _kept(headers: Any) -> dict[str, str]:
    prefixes = ("x-amz-meta-", "x-amz-server-side-encryption")
    return {name.lower(): value for name, value in headers.items() if name.lower().startswith(prefixes)}


def _name(item: ElementTree.Element) -> str:
    return item.tag.rpartition("}")[2]


def etag_of(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def crc32_of(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def _xml(root: str, content: str) -> Answer:
    return 200, {"Content-Type": "application/xml"}, f"<{root}>{content}</{root}>".encode()
