"""Notices that this node's capacity goes away: where they come from, in one form, and who watches for them.

Sources are polled, each in a thread of its own: the metadata of AWS, GCP and Azure, a file, and what others add under
the entry-point group `headway.notices` or as `package.module:Class`. Signals are the agent's to catch.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from launchers.notices import source_class
from trainer.errors import UserError, did_you_mean

logger = logging.getLogger(__name__)

DMI = Path("/sys/class/dmi/id")
AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
ENDPOINTS = {  # the first two are the clouds' own variables
    "aws": "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "gcp": "GCE_METADATA_HOST",
    "azure": "HEADWAY_AZURE_METADATA",
}
TIMEOUT = 2.0
AZURE_FIRST_TIMEOUT = 150.0  # the first question turns scheduled events on, which takes up to two minutes
SUPERSEDED = "superseded"  # the source of the notice that another live copy has taken the job over
SETTLE_SECONDS = 0.05
MAX_WAIT = 60.0
MAX_BYTES = 1 << 16
STARTED = time.time() - time.monotonic()  # time is told by the clock as it was then, whoever sets it
SLURM_EARLY_SECONDS = 75.0  # by which SLURM's warning of a time limit may come before its time


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Capacity goes away, or (leave=False) may: then the state is saved and the job goes on."""

    source: str
    reason: str
    seconds: float | None = None  # left when it was seen; None: not known
    leave: bool = True
    by_hand: bool = False  # a person's wish: the job is stopped, not interrupted
    seen: float = field(default_factory=time.monotonic, compare=False)  # on this machine: from then on `seconds` count
    time: float = field(default_factory=time.time)
    key: str = ""  # what tells it from the next of the same source; empty: its reason


# what a signal to the agent means, and whether a person sent it
SIGNALS: dict[signal.Signals, tuple[str, bool]] = {
    signal.SIGINT: ("stopped by hand", True),
    signal.SIGQUIT: ("ended by hand, now", True),
    signal.SIGTERM: ("asked to leave", False),
    signal.SIGHUP: ("its terminal or session closed", False),
    signal.SIGUSR1: ("a scheduler's warning", False),
    signal.SIGUSR2: ("a scheduler's warning", False),
}


def of_signal(number: int, *, seconds: float | None = None) -> Notice:
    """The notice that one of `SIGNALS` is. `seconds`: what is left after it, if its sender's ways are known."""
    meaning, by_hand = SIGNALS[signal.Signals(number)]
    reason = f"signal {signal.Signals(number).name}: {meaning}"
    if number in (signal.SIGUSR1, signal.SIGUSR2) and "SLURM_JOB_ID" in os.environ:
        return _of_slurm()
    return Notice(source="signal", reason=reason, seconds=seconds, by_hand=by_hand)


def _of_slurm() -> Notice:
    """SLURM sends one signal for both its reasons, up to a minute before the time that it was asked for."""
    ends, asked = (os.environ.get(name, "") for name in ("SLURM_JOB_END_TIME", "HEADWAY_SLURM_WARNING"))
    left = float(ends) - STARTED - time.monotonic() if ends.isdigit() and asked.isdigit() else None
    if left is not None and left <= 0:  # it would be over: this machine's clock is not the controller's
        left = float(asked)
    if left is not None and left < int(asked) + SLURM_EARLY_SECONDS:
        return Notice(
            source="time limit", reason=f"the time limit comes in {max(0.0, left):.0f} s", seconds=max(0.0, left)
        )
    return Notice(source="preempted", reason="SLURM takes its nodes for others", seconds=None)


class Source(Protocol):
    """Where notices come from. `poll` gives the most urgent one that stands now; it may be slow and may raise."""

    name: str
    every: float  # seconds between polls

    def poll(self) -> Notice | None: ...


@functools.cache
def _opener() -> Any:
    from urllib import request

    opener = request.OpenerDirector()  # asks whom it is told to ask: no proxy, no redirect
    for handler in (
        request.HTTPHandler,
        request.UnknownHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def ask(url: str, headers: dict[str, str], *, method: str = "GET", timeout: float | None = None) -> str | None:
    """The text at `url`, None if there is none (404). Raises if it can't be asked or answers with an error."""
    from urllib import error, request

    try:
        with _opener().open(request.Request(url, headers=headers, method=method), timeout=timeout or TIMEOUT) as answer:
            text: str = answer.read(MAX_BYTES).decode().strip()
            return text
    except error.HTTPError as answer:
        with answer:
            if answer.code == 404:
                return None
            raise


def _fields(text: str | None) -> dict[str, Any]:
    content = json.loads(text or "")
    if not isinstance(content, dict):
        raise ValueError(f"{text!r} is not a JSON object")
    return content


def _until(text: Any) -> float | None:
    """The seconds from now to a date of ISO 8601 or RFC 1123; None if it is neither, or over by a clock that must be wrong."""
    from email.utils import parsedate_to_datetime

    for parse in (lambda t: datetime.fromisoformat(t.replace("Z", "+00:00")), parsedate_to_datetime):
        try:
            when = parse(str(text))
            left = (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp() - time.time()
            return left if left > 0 else None
        except (ValueError, TypeError, OverflowError):
            continue
    return None


@dataclass
class Metadata:
    """A cloud's metadata service: at its own address, unless a variable names another."""

    name: str
    every: float

    def __post_init__(self) -> None:
        where = os.environ.get(ENDPOINTS[self.name]) or "169.254.169.254"
        self.endpoint = (where if "://" in where else f"http://{where}").rstrip("/")


class Aws(Metadata):
    """EC2, version 2: a spot instance's interruption, and the recommendation to rebalance."""

    def __init__(self) -> None:
        super().__init__("aws", 2.0)  # AWS advises 5 or less
        self._token: str | None = None

    def poll(self) -> Notice | None:
        action = self._get("spot/instance-action")
        if action is not None:
            what = _fields(action)
            reason = f"EC2 spot interruption: {what.get('action')} at {what.get('time')}"
            return Notice(source=self.name, reason=reason, seconds=_until(what.get("time")))
        rebalance = self._get("events/recommendations/rebalance")
        if rebalance is None:
            return None
        reason = f"EC2 rebalance recommendation of {_fields(rebalance).get('noticeTime')}"
        return Notice(source=self.name, reason=reason, leave=False)

    def _get(self, path: str) -> str | None:
        from urllib.error import HTTPError

        known = self._token
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
        self._token = known or ask(f"{self.endpoint}/latest/api/token", lifetime, method="PUT")
        try:
            return ask(f"{self.endpoint}/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": self._token or ""})
        except (HTTPError, ValueError) as error:
            self._token = None
            if known and getattr(error, "code", None) == 401:  # it expired
                return self._get(path)
            raise


class Gcp(Metadata):
    """Compute Engine: a spot instance's preemption, and the host's maintenance."""

    def __init__(self) -> None:
        super().__init__("gcp", 1.0)

    def poll(self) -> Notice | None:
        if self._get("preempted", ("TRUE", "FALSE")) == "TRUE":
            return Notice(source=self.name, reason="GCP preemption", seconds=30.0)
        events = ("NONE", "MIGRATE_ON_HOST_MAINTENANCE", "TERMINATE_ON_HOST_MAINTENANCE")
        event = self._get("maintenance-event", events)
        if event == "NONE":
            return None
        # 60 s is the least: a machine with GPUs is told an hour before it is stopped
        return Notice(source=self.name, reason=f"GCP {event}", seconds=60.0, leave=event.startswith("TERMINATE"))

    def _get(self, key: str, answers: Sequence[str]) -> str:
        text = ask(f"{self.endpoint}/computeMetadata/v1/instance/{key}", {"Metadata-Flavor": "Google"})
        if text not in answers:
            raise ValueError(f"{key} is {str(text)[:80]!r}, none of {', '.join(answers)}")
        return str(text)


class Azure(Metadata):
    """Azure's scheduled events of this machine. One that is only frozen for some seconds stays."""

    def __init__(self) -> None:
        super().__init__("azure", 1.0)
        self._timeout = AZURE_FIRST_TIMEOUT
        self._vm: str | None = None

    def poll(self) -> Notice | None:
        events = _fields(self._get("scheduledevents?api-version=2020-07-01", self._timeout))["Events"]
        self._timeout = TIMEOUT
        notices = [self._notice(event) for event in events if self._is_ours(event)]
        return min(notices, key=lambda n: (not n.leave, n.seconds or 0.0), default=None)

    def _notice(self, event: dict[str, Any]) -> Notice:
        kind, at = event["EventType"], event.get("NotBefore")
        reason = f"Azure {kind} not before {at}" if at else f"Azure {kind}"
        leave = kind in ("Preempt", "Terminate", "Reboot", "Redeploy")
        return Notice(source=self.name, reason=reason, seconds=_until(at), leave=leave, key=event["EventId"])

    def _is_ours(self, event: dict[str, Any]) -> bool:
        """Each machine of an availability or scale set is told the events of all."""
        if not self._vm:
            try:
                self._vm = self._get("instance/compute/name?api-version=2021-02-01&format=text")
            except Exception as error:  # a server may answer anything; the next event asks again
                logger.debug("azure: the name of this machine is not known: %s", error)
        return not self._vm or self._vm.lower() in [name.lower() for name in event["Resources"]]

    def _get(self, path: str, timeout: float = TIMEOUT) -> str | None:
        return ask(f"{self.endpoint}/metadata/{path}", {"Metadata": "true"}, timeout=timeout)


@dataclass
class NoticeFile:
    """A file that is there is a notice: empty, the reason as text, or JSON with `reason`, `seconds`, `leave`.

    Written anew, it is a new notice.
    """

    path: str | Path
    name: str = "file"
    every: float = 0.1
    _last: Notice | None = field(default=None, init=False, repr=False)

    def poll(self) -> Notice | None:
        path = Path(self.path).expanduser().absolute()
        try:
            if self._last is None or self._last.key != self._key(path):
                time.sleep(SETTLE_SECONDS)  # its writer may not be done yet
                self._last = self._read(path, self._key(path))
        except FileNotFoundError:
            self._last = None
        return self._last

    def _key(self, path: Path) -> str:
        return f"{path.stat().st_mtime_ns}-{path.stat().st_ino}"

    def _read(self, path: Path, key: str) -> Notice:
        text, default = "", f"{path} is there"
        with contextlib.suppress(PermissionError, IsADirectoryError), path.open("rb") as file:
            text = file.read(MAX_BYTES).decode(errors="replace")
        reason, seconds, leave = " ".join(text.split()), None, True
        with contextlib.suppress(ValueError, TypeError, RecursionError):  # not JSON, or not of these types: text
            what = _fields(text)
            json_reason, json_seconds, json_leave = what.get("reason", ""), what.get("seconds"), what.get("leave", True)
            known = json_seconds is None or 0 <= json_seconds < 1e9
            if known and isinstance(json_reason, str) and isinstance(json_leave, bool):
                reason, seconds, leave = json_reason, json_seconds, json_leave
        return Notice(source=self.name, reason=reason[:200] or default, seconds=seconds, leave=leave, key=key)


CLOUDS: dict[str, Callable[[], Source]] = {"aws": Aws, "gcp": Gcp, "azure": Azure}


def here() -> list[str]:
    """The clouds this machine is in: its firmware says so, or a variable names an endpoint. Asks no network."""

    def dmi(name: str) -> str:
        try:
            return (DMI / name).read_text(errors="replace").strip()
        except OSError:
            return ""

    found = {
        "aws": dmi("sys_vendor") == "Amazon EC2" or "amazon" in dmi("bios_version").lower(),  # on Nitro, on Xen
        "gcp": dmi("product_name").startswith("Google"),  # the vendor of a Chromebook is Google too
        "azure": dmi("chassis_asset_tag") == AZURE_TAG,
    }
    return [cloud for cloud in CLOUDS if found[cloud] or os.environ.get(ENDPOINTS[cloud])]


def choose(names: Sequence[str]) -> list[Source]:
    """The sources of these names: auto, aws, gcp, azure, file:PATH, a plugin's, package.module:Class.

    Raises UserError for one that there isn't. Asks no network, so that the submitter may check names by it.
    """
    chosen = [each for name in names for each in (here() if name == "auto" else [str(name)])]
    return [_build(name) for name in dict.fromkeys(chosen)]


def problem(names: Sequence[str]) -> str | None:
    """The line that says what is wrong with the names, or None. Runs nothing of a source: whoever looks didn't choose it."""
    return next((wrong for name in names if (wrong := _problem(str(name)))), None)


def _problem(name: str) -> str | None:
    module, _, rest = name.partition(":")
    if name in ("auto", *CLOUDS) or (module == "file" and rest) or name in source_class.plugins():
        return None
    if not (rest and "." in module):
        hint = did_you_mean(name, ("auto", *CLOUDS, "file:PATH", *source_class.plugins()))
        return f"launcher.notices: {name!r} is not a source of notices; {hint}"
    return source_class.problem(module, rest)


def _build(name: str) -> Source:
    module, _, rest = name.partition(":")
    if name in CLOUDS:
        return CLOUDS[name]()
    if module == "file" and rest:
        return NoticeFile(rest)
    if wrong := problem([name]):
        raise UserError(wrong)
    source: Source = source_class.made(name)
    return source


class Watcher:
    """Polls each source in a thread of its own and calls `on_notice`, one call at a time, once for each notice.

    A notice that was withdrawn and is given anew is told anew. After `stop` none is told.
    """

    def __init__(self, sources: Sequence[Source], on_notice: Callable[[Notice], None]) -> None:
        self._sources = sources
        self._on_notice = on_notice
        self._stopped = threading.Event()
        self._telling = threading.RLock()
        self._every = float(os.environ.get("HEADWAY_NOTICE_SECONDS") or 0)  # above 0: in place of each source's own

    def start(self) -> None:
        for source in self._sources:
            threading.Thread(target=self._watch, args=(source,), name=f"notices-{source.name}", daemon=True).start()

    def stop(self) -> None:
        with self._telling:
            self._stopped.set()

    def _watch(self, source: Source) -> None:
        told, failures, wait = None, 0, 0.0
        while not self._stopped.wait(wait):
            wait = self._every or source.every
            try:
                notice = source.poll()
                found = notice and (notice.key or notice.reason, notice.leave)
            except Exception as error:  # whatever it is: the next poll may succeed
                failures += 1
                if failures == 1:
                    logger.warning("%s tells no notices for now: %s: %s", source.name, type(error).__name__, error)
                wait = max(wait, min(MAX_WAIT, wait * 2.0 ** min(failures, 16)))
                continue
            if failures:
                logger.warning("%s tells notices again", source.name)
            failures = 0
            if notice and found != told:
                self._tell(notice)
            told = found

    def _tell(self, notice: Notice) -> None:
        with self._telling:
            if self._stopped.is_set():
                return
            try:
                self._on_notice(notice)
            except Exception:  # whatever it is: the next notice is to be told
                logger.exception("the notice %r was not heeded", notice)
