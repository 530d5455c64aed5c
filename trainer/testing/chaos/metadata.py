"""The clouds' metadata services on this machine: what AWS, GCP and Azure answer, given and withdrawn at will.

with MetadataServer() as server:
    environment = {**os.environ, **server.environment("aws")}
    server.give("aws", seconds=120)  # a process with that environment is told that its spot instance goes
"""

from __future__ import annotations

import json
import secrets
import socketserver
import threading
from collections import deque
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

CLOUDS = ("aws", "gcp", "azure")
# what each can be given, the first if nothing is said, and the seconds it leaves
NOTICES: dict[str, dict[str, float | None]] = {
    "aws": {"terminate": 120, "stop": 120, "hibernate": 0, "rebalance": None},
    "gcp": {"preempted": 30, "MIGRATE_ON_HOST_MAINTENANCE": 60, "TERMINATE_ON_HOST_MAINTENANCE": 60},
    "azure": {"Preempt": 30, "Terminate": 300, "Reboot": 900, "Redeploy": 600, "Freeze": 900},
}
FAILURES = ("error", "hang", "garbage")
HANG_SECONDS = 60.0


class MetadataServer:
    """A real HTTP server on the loopback that speaks for all three clouds."""

    def __init__(self, vm: str = "vm-0") -> None:
        self.vm = vm
        self.requests: deque[str] = deque(maxlen=10_000)  # "GET /path" of each, in order
        self._lock = threading.RLock()
        self._given: dict[str, dict[str, Any]] = {cloud: {} for cloud in CLOUDS}
        self._failing: dict[str, str] = {}
        self._tokens: set[str] = set()
        self._changes = 0
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.metadata = self
        self.port = int(self._server.server_address[1])

    def start(self) -> MetadataServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="metadata", daemon=True).start()
        return self

    def stop(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> MetadataServer:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def environment(self, *clouds: str) -> dict[str, str]:
        """The variables that point a process at this server, for these clouds or for all."""
        where = f"127.0.0.1:{self.port}"
        variables = {
            "aws": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{where}"},
            "gcp": {"GCE_METADATA_HOST": where},
            "azure": {"HEADWAY_AZURE_METADATA": f"http://{where}"},
        }
        return {name: value for cloud in clouds or CLOUDS for name, value in variables[cloud].items()}

    def give(
        self, cloud: str, what: str = "", *, seconds: float | None = None, vm: str | None = None, id: str = ""
    ) -> None:
        """Gives a cloud's notice: one of `NOTICES`, by default that of lost spot capacity.

        seconds: left from now; by default what the cloud usually leaves.
        vm, id: of Azure, the machine it is for, and the event it is: the same one given again has started.
        """
        what = what or next(iter(NOTICES[cloud]))
        left = NOTICES[cloud][what] if seconds is None else seconds
        with self._lock:
            given, now = self._given[cloud], datetime.now(timezone.utc)
            at = now + timedelta(seconds=left or 0)
            self._changes += 1
            if cloud == "aws" and what == "rebalance":
                given["rebalance"] = {"noticeTime": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
            elif cloud == "aws":
                given["action"] = {"action": what, "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
            elif cloud == "gcp":
                given.update({"preempted": "TRUE"} if what == "preempted" else {"maintenance-event": what})
            else:
                id = id or f"event-{self._changes}"
                started = id in given
                given[id] = {
                    "EventId": id,
                    "EventStatus": "Started" if started else "Scheduled",
                    "EventType": what,
                    "ResourceType": "VirtualMachine",
                    "Resources": [vm or self.vm],
                    "NotBefore": "" if started else format_datetime(at, usegmt=True),
                    "Description": "",
                    "EventSource": "Platform",
                    "DurationInSeconds": 5 if what == "Freeze" else -1,
                }

    def clear(self, *clouds: str) -> None:
        """Withdraws all notices and failures of these clouds or of all."""
        with self._lock:
            for cloud in clouds or CLOUDS:
                self._given[cloud].clear()
                self._failing.pop(cloud, None)
                self._changes += 1
            self._released.set()
            self._released = threading.Event()

    def fail(self, how: str, *clouds: str) -> None:
        """Makes these clouds or all fail until `clear`: error (500), hang (no answer), garbage (200 and nonsense)."""
        if how not in FAILURES:
            raise ValueError(f"{how!r} is none of {', '.join(FAILURES)}")
        with self._lock:
            self._failing.update(dict.fromkeys(clouds or CLOUDS, how))

    def expire_tokens(self) -> None:
        """Makes every token of AWS that was given so far invalid."""
        with self._lock:
            self._tokens.clear()

    def _answer(self, method: str, target: str, headers: Any) -> tuple[int, str]:
        url = urlsplit(target)
        version = parse_qs(url.query).get("api-version", [""])[0]
        cloud = {"latest": "aws", "computeMetadata": "gcp", "metadata": "azure"}.get(url.path.split("/")[1], "")
        with self._lock:
            self.requests.append(f"{method} {url.path}")
            failing, released = self._failing.get(cloud), self._released
        if failing == "hang":
            released.wait(HANG_SECONDS)
        if failing:
            return (200, "<html>\0 what is this</html>") if failing == "garbage" else (500, "")
        with self._lock:
            if cloud == "aws":
                return self._aws(method, url.path.removeprefix("/latest/"), headers)
            if method == "GET" and cloud == "gcp":
                return self._gcp(url.path.removeprefix("/computeMetadata/v1/instance/"), headers)
            if method == "GET" and cloud == "azure":
                return self._azure(url.path.removeprefix("/metadata/"), version, headers)
            return 404, ""

    def _aws(self, method: str, path: str, headers: Any) -> tuple[int, str]:
        if method == "PUT" and path == "api/token":
            ttl = headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            if not (ttl.isdecimal() and 1 <= int(ttl) <= 21600):
                return 400, ""
            token = secrets.token_urlsafe(40)
            self._tokens.add(token)
            return 200, token
        if method != "GET":
            return 405, ""
        if headers.get("X-aws-ec2-metadata-token") not in self._tokens:
            return 401, ""
        paths = {"meta-data/spot/instance-action": "action", "meta-data/events/recommendations/rebalance": "rebalance"}
        found = self._given["aws"].get(paths.get(path, ""))
        return (200, json.dumps(found)) if found else (404, "")

    def _gcp(self, key: str, headers: Any) -> tuple[int, str]:
        if headers.get("Metadata-Flavor") != "Google":
            return 403, ""
        values = {"preempted": "FALSE", "maintenance-event": "NONE", **self._given["gcp"]}
        return (200, values[key]) if key in values else (404, "")

    def _azure(self, path: str, version: str, headers: Any) -> tuple[int, str]:
        if headers.get("Metadata", "").lower() != "true" or not version:
            return 400, json.dumps({"error": "Bad request. Required metadata header or api-version not specified"})
        if path == "instance/compute/name":
            return 200, self.vm
        if path != "scheduledevents":
            return 404, ""
        events = list(self._given["azure"].values())
        return 200, json.dumps({"DocumentIncarnation": self._changes, "Events": events})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    metadata: MetadataServer

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's looks this machine's name up, which may take long
        self.server_name, self.server_port = "localhost", int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has hung up is none of our business."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        status, text = self.server.metadata._answer(self.command, self.path, self.headers)
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""
