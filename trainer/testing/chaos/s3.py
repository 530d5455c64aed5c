"""A small S3 server over HTTP that fails on purpose, for tests and drills on the loopback.

    with Server("bucket", seed=7) as s3:
        os.environ.update(s3.environment())
        s3.faults(rate=0.2)                                       # one request in five meets a fault, of any kind
        s3.fault("reset-response", "PUT .*owner.json")            # the next such request does
        ...
        print(s3.given, s3.stored("bucket"))

What S3 promises and clients rely on is kept: conditional writes, checksums and lengths verified before anything is stored,
multipart uploads with parts of 5 MiB at least, pages of lists, encryption headers remembered and told. Objects live in memory.
Standard library only.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import random
import re
import socket
import struct
import threading
import time
import uuid
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from trainer.testing.chaos.s3_objects import Manners, Refused, Request, Stored, Upload, crc32_of, etag_of

KINDS = (
    "internal-error",  # 500, nothing done
    "unavailable",  # 503, nothing done
    "slow-down",  # 503 SlowDown, nothing done
    "reset-request",  # the connection is reset before the request was read, nothing done
    "reset-response",  # what was asked is done, and the connection reset in the middle of the answer
    "truncated",  # what was asked is done, and the answer ends too soon
    "corrupt",  # a bit of the content is flipped on its way, up or down
    "slow",  # the answer takes its time
)
ERRORS = {
    "internal-error": (500, "InternalError", "We encountered an internal error. Please try again."),
    "unavailable": (503, "ServiceUnavailable", "Service is unable to handle request."),
    "slow-down": (503, "SlowDown", "Please reduce your request rate."),
}
ACCESS_KEY, SECRET_KEY, REGION = "headway-test", "headway-test-secret", "us-east-1"


class Server:
    """The server, on a port of the loopback, while the `with` lasts."""

    NOWHERE_ELSE: ClassVar[Mapping[str, str]] = {  # for a client's process: what else it would find
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }

    def __init__(self, *buckets: str, seed: int = 0, port: int = 0, page: int = 1000) -> None:
        self.buckets: dict[str, dict[str, Stored]] = {bucket: {} for bucket in buckets}
        self.uploads: dict[str, Upload] = {}
        self.page = page  # objects in one answer to a list
        self.given: Counter[str] = Counter()  # faults, by kind
        self.requests: list[str] = []  # "PUT bucket/key?partNumber=1&uploadId=…"
        self.lock = threading.RLock()
        self._random = random.Random(seed)
        self._rate = 0.0
        self._kinds: tuple[str, ...] = KINDS
        self._match = ""
        self._next: list[tuple[str, str]] = []
        self.slow_seconds = 0.2
        self.manners = Manners()
        self._http = _Listener(("127.0.0.1", port), _Handler)
        self._http.s3 = self

    def __enter__(self) -> Server:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True, name="s3-server").start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._http.shutdown()
        self._http.server_close()

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """Nobody listens, and all connections are reset in the middle of what they did, for a while. What was stored stays."""
        port = self._http.server_address[1]
        self.__exit__()
        self._http.reset()
        try:
            yield
        finally:
            self._http = _Listener(("127.0.0.1", port), _Handler)
            self._http.s3 = self
            self.__enter__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def environment(self) -> dict[str, str]:
        """What a client's process needs to come here, and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            **self.NOWHERE_ELSE,
        }

    def faults(self, rate: float, kinds: Iterable[str] = KINDS, match: str = "", slow_seconds: float = 0.2) -> None:
        """From now on a share of the requests meets a fault; `match`: of those in which this pattern is found."""
        with self.lock:
            self._rate, self._kinds, self._match, self.slow_seconds = rate, tuple(kinds), match, slow_seconds
        unknown = set(self._kinds) - set(KINDS)
        if unknown:
            raise ValueError(f"no such kinds of faults: {', '.join(sorted(unknown))}")

    def fault(self, kind: str, match: str = "", times: int = 1) -> None:
        """The next request that matches meets this fault, and so on, `times` in all."""
        with self.lock:
            self._next += [(kind, match)] * times

    def stored(self, bucket: str) -> dict[str, Stored]:
        with self.lock:
            return dict(self.buckets[bucket])

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Stores an object as if a client had."""
        with self.lock:
            self.buckets[bucket][key] = Stored(data, etag_of(data))

    def draw(self, request: str) -> str | None:
        """The fault that this request meets, if any."""
        with self.lock:
            self.requests.append(request)
            kind = None
            for i, (scripted, match) in enumerate(self._next):
                if re.search(match, request):
                    kind = scripted
                    del self._next[i]
                    break
            if kind is None and self._rate and re.search(self._match, request) and self._random.random() < self._rate:
                kind = self._random.choice(self._kinds)
            if kind:
                self.given[kind] += 1
            return kind


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    s3: Server

    def __init__(self, *arguments: Any) -> None:
        self.connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def reset(self) -> None:
        """Resets all connections: what was under way is not answered."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: _Listener
    _headers_buffer: list[bytes]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET

    def _serve(self) -> None:
        s3 = self.server.s3
        address = urlsplit(self.path)
        bucket, _, key = unquote(address.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
        fault = s3.draw(f"{self.command} {bucket}/{key}{address.query and '?'}{address.query}")
        if fault == "reset-request":
            return self._reset()
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return None
        if fault == "corrupt" and body:
            body = _flipped(body)
        if fault == "slow":
            time.sleep(s3.slow_seconds)
        try:
            if fault in ERRORS:
                raise Refused(*ERRORS[fault])
            self._check(body)
            with s3.lock:
                if bucket not in s3.buckets:
                    raise Refused(404, "NoSuchBucket", "The specified bucket does not exist")
                status, headers, content = Request(
                    s3.buckets[bucket], s3.uploads, s3.page, bucket, key, query, self.headers, body, s3.manners
                ).answer(self.command)
        except Refused as no:
            status, headers = no.status, {"Content-Type": "application/xml"}
            text = f"<Error><Code>{no.code}</Code><Message>{escape(no.message)}</Message></Error>"
            content = text.encode()
        return self._answer(status, headers, content, fault)

    def _check(self, body: bytes) -> None:
        """Who asks, and whether what arrived is what was sent."""
        authorization = self.headers.get("Authorization") or ""
        if not authorization:
            raise Refused(403, "AccessDenied", "Access Denied")
        if f"Credential={ACCESS_KEY}/" not in authorization:
            raise Refused(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist")
        crc32 = self.server.s3.manners.crc32
        if crc32 == "refused" and self.headers.get("x-amz-sdk-checksum-algorithm"):
            raise Refused(501, "NotImplemented", "A header you provided implies functionality that is not implemented")
        sums = {
            **({"x-amz-checksum-crc32": crc32_of(body)} if crc32 == "held" else {}),
            "Content-MD5": base64.b64encode(hashlib.md5(body).digest()).decode(),
        }
        for name, digest in sums.items():
            if self.headers.get(name, digest) != digest:
                raise Refused(400, "BadDigest", f"{name} did not match what was received")
        sha = self.headers.get("x-amz-content-sha256") or ""
        if len(sha) == 64 and sha != hashlib.sha256(body).hexdigest():
            raise Refused(400, "XAmzContentSHA256Mismatch")

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes, fault: str | None) -> None:
        self.send_response(status)
        length = headers.get("Content-Length", str(len(content)))
        if "ETag" in headers and not self.server.s3.manners.quotes:
            headers = {**headers, "ETag": headers["ETag"].strip('"')}
        for name, value in {**headers, "Content-Length": length, "x-amz-request-id": uuid.uuid4().hex}.items():
            self.send_header(name, value)
        if self.command == "HEAD":
            content = b""
        if fault == "corrupt" and content and self.command == "GET":
            content = _flipped(content)
        if fault in ("truncated", "reset-response"):
            head = b"".join(self._headers_buffer) + b"\r\n"
            self._headers_buffer = []
            half = content[: len(content) // 2]
            self.wfile.write(head + half if content else head[: len(head) // 2])
            self.close_connection = True
            if fault == "reset-response":
                time.sleep(0.01)  # else the reset overtakes what was sent
                self._reset()
            return
        self.end_headers()
        self.wfile.write(content)

    def _reset(self) -> None:
        """Closes the connection so that the other side meets ECONNRESET."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.close(self.connection.detach())


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
