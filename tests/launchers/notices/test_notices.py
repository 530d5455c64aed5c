"""What a job hears of capacity that goes away, from the clouds' own services over HTTP, from a file, from signals."""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from launchers.notices import notices
from launchers.notices.notices import (
    SIGNALS,
    Aws,
    Azure,
    Gcp,
    Notice,
    NoticeFile,
    Source,
    Watcher,
    choose,
    of_signal,
    problem,
)
from trainer.errors import UserError
from trainer.testing.chaos.metadata import MetadataServer

SECONDS = 5.0  # to wait for what comes at once


@pytest.fixture(autouse=True)
def _on_no_cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test leaves this machine or depends on where it runs."""
    connect = socket.create_connection

    def loopback_only(address: tuple[str, int], *args: object, **options: object) -> socket.socket:
        assert address[0] == "127.0.0.1", f"a test would have asked {address}"
        return connect(address, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "create_connection", loopback_only)
    monkeypatch.setattr(notices, "DMI", tmp_path / "dmi")
    monkeypatch.setenv("HEADWAY_NOTICE_SECONDS", "0.01")
    for name in notices.ENDPOINTS.values():
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[MetadataServer]:
    with MetadataServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


class Listener:
    """Watches sources and keeps what it is told."""

    def __init__(self) -> None:
        self.told: queue.Queue[Notice] = queue.Queue()
        self.watchers: list[Watcher] = []

    def __call__(self, *sources: Source) -> Watcher:
        watcher = Watcher(sources, self.told.put)
        self.watchers.append(watcher)
        watcher.start()
        return watcher

    def next(self) -> Notice:
        return self.told.get(timeout=SECONDS)


@pytest.fixture
def watch() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    for watcher in listener.watchers:
        watcher.stop()


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def some_polls(server: MetadataServer, path: str) -> None:
    """Waits until a path was asked for three times more, so that the second was begun after what came before."""
    before = list(server.requests).count(path)
    until(lambda: list(server.requests).count(path) >= before + 3)


ACTION = "GET /latest/meta-data/spot/instance-action"
REBALANCE = "GET /latest/meta-data/events/recommendations/rebalance"
MAINTENANCE = "GET /computeMetadata/v1/instance/maintenance-event"
EVENTS = "GET /metadata/scheduledevents"
TOKEN = "PUT /latest/api/token"


# --- AWS


def test_a_spot_instance_that_goes_is_told_with_the_time_left(cloud: MetadataServer) -> None:
    source = Aws()
    assert source.poll() is None
    cloud.give("aws", "terminate", seconds=120)
    notice = source.poll()
    assert notice is not None
    assert (notice.source, notice.leave, notice.by_hand) == ("aws", True, False)
    assert notice.seconds == pytest.approx(119, abs=3)
    assert "terminate" in notice.reason
    assert notice.time == pytest.approx(time.time(), abs=3)


def test_a_rebalance_recommendation_is_only_a_warning(cloud: MetadataServer) -> None:
    cloud.give("aws", "rebalance")
    notice = Aws().poll()
    assert notice is not None
    assert not notice.leave
    assert notice.seconds is None


def test_an_interruption_goes_before_a_rebalance_recommendation(cloud: MetadataServer, watch: Listener) -> None:
    cloud.give("aws", "rebalance")
    watch(Aws())
    assert not watch.next().leave
    cloud.give("aws")
    assert watch.next().leave


def test_a_token_of_aws_is_asked_for_once(cloud: MetadataServer) -> None:
    source = Aws()
    for _ in range(5):
        source.poll()
    assert list(cloud.requests).count(TOKEN) == 1
    assert list(cloud.requests).count(ACTION) == 5


def test_a_token_that_expired_is_renewed_within_the_poll(cloud: MetadataServer) -> None:
    source = Aws()
    source.poll()
    cloud.expire_tokens()
    cloud.give("aws")
    assert source.poll() is not None
    assert list(cloud.requests).count(TOKEN) == 2


def test_aws_without_a_token_answers_401(cloud: MetadataServer) -> None:
    from urllib.error import HTTPError

    with pytest.raises(HTTPError) as error:
        notices.ask(f"http://127.0.0.1:{cloud.port}/latest/meta-data/spot/instance-action", {})
    error.value.close()
    assert error.value.code == 401


# --- GCP


def test_a_preempted_instance_has_thirty_seconds(cloud: MetadataServer) -> None:
    source = Gcp()
    assert source.poll() is None
    cloud.give("gcp")
    notice = source.poll()
    assert notice is not None
    assert notice.leave
    assert notice.seconds == 30.0


@pytest.mark.parametrize(("event", "leave"), [("MIGRATE", False), ("TERMINATE", True)])
def test_host_maintenance_is_left_only_where_it_ends_the_machine(
    cloud: MetadataServer, event: str, leave: bool
) -> None:
    cloud.give("gcp", f"{event}_ON_HOST_MAINTENANCE")
    notice = Gcp().poll()
    assert notice is not None
    assert notice.leave is leave
    assert event in notice.reason


# --- Azure


@pytest.mark.parametrize(
    ("event", "leave"),
    [("Preempt", True), ("Terminate", True), ("Reboot", True), ("Redeploy", True), ("Freeze", False)],
)
def test_a_scheduled_event_is_left_unless_the_machine_is_only_frozen(
    cloud: MetadataServer, event: str, leave: bool
) -> None:
    cloud.give("azure", event, seconds=40)
    notice = Azure().poll()
    assert notice is not None
    assert notice.leave is leave
    assert notice.seconds == pytest.approx(39, abs=3)
    assert event in notice.reason


def test_an_event_of_another_machine_of_the_set_is_none_of_ours(cloud: MetadataServer) -> None:
    cloud.give("azure", vm="vm-1")
    source = Azure()
    assert source.poll() is None
    cloud.give("azure", vm="VM-0")  # names in Azure don't depend on case
    assert source.poll() is not None


def test_an_event_counts_where_the_machine_does_not_know_its_name(cloud: MetadataServer) -> None:
    cloud.vm = ""
    cloud.give("azure", vm="vm-1")
    assert Azure().poll() is not None


def test_an_event_that_has_started_is_the_same_event(cloud: MetadataServer, watch: Listener) -> None:
    watch(Azure())
    cloud.give("azure", "Freeze", id="one")
    assert watch.next().seconds is not None
    cloud.give("azure", "Freeze", id="one")  # its NotBefore is now empty
    some_polls(cloud, EVENTS)
    assert watch.told.empty()


def test_of_several_events_the_one_that_ends_the_machine_is_told(cloud: MetadataServer) -> None:
    cloud.give("azure", "Freeze", seconds=5)
    cloud.give("azure", "Reboot", seconds=900)
    cloud.give("azure", "Preempt", seconds=30)
    notice = Azure().poll()
    assert notice is not None
    assert "Preempt" in notice.reason


def test_the_first_question_of_azure_may_take_long(cloud: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "TIMEOUT", 0.05)
    cloud.fail("hang", "azure")
    threading.Timer(0.3, cloud.clear, ["azure"]).start()
    with pytest.raises(OSError, match="500"):  # an answer at last, no time-out
        Azure().poll()


# --- a file


def test_a_file_that_appears_is_a_notice(tmp_path: Path, watch: Listener) -> None:
    path = tmp_path / "leave"
    watch(NoticeFile(path))
    path.touch()
    notice = watch.next()
    assert (notice.source, notice.leave, notice.seconds) == ("file", True, None)
    assert str(path) in notice.reason


def test_a_file_says_why_when_and_whether_to_leave(tmp_path: Path) -> None:
    path = tmp_path / "leave"
    path.write_text('{"reason": "the cooling", "seconds": 90, "leave": false, "ticket": 7}')
    notice = NoticeFile(path).poll()
    assert notice is not None
    assert (notice.reason, notice.seconds, notice.leave) == ("the cooling", 90, False)


@pytest.mark.parametrize(
    "text",
    [
        "maintenance\nof the racks",
        '{"reason": "cut o',
        '{"seconds": "soon"}',
        '{"leave": "no"}',
        '{"seconds": NaN}',
        '{"seconds": -1}',
        '{"reason": 5}',
        "[1, 2]",
        "17",
        "[" * 60_000,
        "\0\ufffd",
    ],
)
def test_whatever_is_in_the_file_it_counts_and_is_the_reason(tmp_path: Path, text: str) -> None:
    path = tmp_path / "leave"
    path.write_text(text)
    notice = NoticeFile(path).poll()
    assert notice is not None
    assert notice.reason == " ".join(text.split())[:200]
    assert notice.leave
    assert notice.seconds is None


def test_a_folder_in_its_place_counts_too(tmp_path: Path) -> None:
    notice = NoticeFile(tmp_path).poll()
    assert notice is not None
    assert notice.leave


def test_a_file_is_told_once_and_again_when_it_is_written_anew(tmp_path: Path, watch: Listener) -> None:
    path = tmp_path / "leave"
    path.write_text("first")
    source = NoticeFile(path)
    polls = []
    poll = source.poll
    source.poll = lambda: (polls.append(1), poll())[1]  # type: ignore[method-assign]
    watch(source)
    assert watch.next().reason == "first"
    until(lambda: len(polls) > 3)
    assert watch.told.empty()
    (tmp_path / "new").write_text("second")
    os.replace(tmp_path / "new", path)
    assert watch.next().reason == "second"
    path.unlink()
    path.write_text("second")
    assert watch.next().reason == "second"


def test_a_warning_is_not_taken_for_more_while_it_is_being_written(
    tmp_path: Path, watch: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "SETTLE_SECONDS", 0.3)
    path = tmp_path / "leave"
    watch(NoticeFile(path))
    with path.open("w") as file:
        file.write('{"reason": "soft",')
        file.flush()
        time.sleep(0.015)
        file.write(' "leave": false}')
    assert not watch.next().leave


# --- watching


def test_a_notice_is_told_once(cloud: MetadataServer, watch: Listener) -> None:
    cloud.give("gcp")
    watch(Gcp())
    watch.next()
    some_polls(cloud, "GET /computeMetadata/v1/instance/preempted")
    assert watch.told.empty()


def test_a_notice_that_was_withdrawn_and_is_given_anew_is_told_anew(cloud: MetadataServer, watch: Listener) -> None:
    watch(Gcp())
    for _ in range(2):
        cloud.give("gcp", "MIGRATE_ON_HOST_MAINTENANCE")
        watch.next()
        cloud.clear()
        some_polls(cloud, MAINTENANCE)
    assert watch.told.empty()


def test_a_notice_outlives_a_failure_of_its_source(cloud: MetadataServer, watch: Listener) -> None:
    cloud.give("gcp", "MIGRATE_ON_HOST_MAINTENANCE")
    watch(Gcp())
    watch.next()
    cloud.fail("error", "gcp")
    some_polls(cloud, "GET /computeMetadata/v1/instance/preempted")
    cloud.clear()
    cloud.give("gcp", "MIGRATE_ON_HOST_MAINTENANCE")
    some_polls(cloud, MAINTENANCE)
    assert watch.told.empty()


@pytest.mark.parametrize("how", ["error", "hang", "garbage"])
@pytest.mark.parametrize("source", [Aws, Gcp, Azure])
def test_a_service_that_fails_is_said_once_and_watched_on(
    cloud: MetadataServer,
    watch: Listener,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    source: Callable[[], Source],
    how: str,
) -> None:
    monkeypatch.setattr(notices, "TIMEOUT", 0.05)
    monkeypatch.setattr(notices, "AZURE_FIRST_TIMEOUT", 0.05)
    monkeypatch.setattr(notices, "MAX_WAIT", 0.02)
    cloud.fail(how)
    watched = source()
    watch(watched)
    until(lambda: len(cloud.requests) >= 4)
    cloud.clear()
    cloud.give(watched.name)
    assert watch.next().leave
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 2
    assert said[0].startswith(f"{watched.name} tells no notices for now")
    assert said[1] == f"{watched.name} tells notices again"


def test_a_service_that_is_not_there_is_asked_ever_more_seldom(
    watch: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refused
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{nobody.getsockname()[1]}")
        source = Gcp()
        times: list[float] = []
        poll = source.poll
        source.poll = lambda: (times.append(time.monotonic()), poll())[1]  # type: ignore[method-assign]
        watch(source)
        until(lambda: len(times) == 5)
    assert times[4] - times[0] >= 0.02 + 0.04 + 0.08 + 0.16


def test_a_slow_service_does_not_delay_another(
    cloud: MetadataServer, watch: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "TIMEOUT", 10 * SECONDS)
    cloud.fail("hang", "aws")
    watch(Aws(), NoticeFile(tmp_path / "leave"), Gcp())
    until(lambda: TOKEN in cloud.requests)
    (tmp_path / "leave").touch()
    cloud.give("gcp")
    assert {watch.next().source, watch.next().source} == {"file", "gcp"}


def test_no_proxy_stands_between(cloud: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://192.0.2.1:3128")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    cloud.give("gcp")
    assert Gcp().poll() is not None


class Broken:
    name = "broken"
    every = 0.01

    def __init__(self) -> None:
        self.polls = 0

    def poll(self) -> Notice | None:
        self.polls += 1
        if self.polls < 3:
            raise RecursionError("a plugin's own")
        return Notice(source="broken", reason=f"notice {self.polls}")


def test_neither_a_plugin_nor_who_is_told_can_end_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    heard: queue.Queue[str] = queue.Queue()

    def heed(notice: Notice) -> None:
        heard.put(notice.reason)
        raise ValueError("not heeded")

    watcher = Watcher([Broken()], heed)
    watcher.start()
    try:
        assert [heard.get(timeout=SECONDS) for _ in range(2)] == ["notice 3", "notice 4"]
    finally:
        watcher.stop()
    assert "was not heeded" in caplog.text


def test_after_stop_nothing_is_told(cloud: MetadataServer, watch: Listener) -> None:
    watch(Gcp()).stop()
    until(lambda: not any(thread.name == "notices-gcp" for thread in threading.enumerate()))
    cloud.give("gcp")
    assert watch.told.empty()


def test_who_is_told_may_stop_the_watch() -> None:
    stopped = threading.Event()

    def heed(notice: Notice) -> None:
        watcher.stop()
        stopped.set()

    watcher = Watcher([Broken()], heed)
    watcher.start()
    assert stopped.wait(SECONDS)


# --- which sources


def names(sources: Sequence[Source]) -> list[str]:
    return [source.name for source in sources]


def machine(**dmi: str) -> None:
    notices.DMI.mkdir()
    for name, value in dmi.items():
        (notices.DMI / name).write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("dmi", "clouds"),
    [
        ({"sys_vendor": "Amazon EC2", "product_name": "p5.48xlarge"}, ["aws"]),
        ({"sys_vendor": "Xen", "bios_version": "4.11.amazon"}, ["aws"]),
        ({"sys_vendor": "Google", "product_name": "Google Compute Engine"}, ["gcp"]),
        ({"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": notices.AZURE_TAG}, ["azure"]),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine", "chassis_asset_tag": "None"}, []),
        ({"sys_vendor": "Google", "product_name": "Eve"}, []),
        ({"sys_vendor": "LENOVO"}, []),
    ],
)
def test_auto_takes_the_cloud_that_the_firmware_names(dmi: dict[str, str], clouds: list[str]) -> None:
    machine(**dmi)
    assert names(choose(["auto"])) == clouds


def test_outside_a_cloud_nothing_is_watched() -> None:
    assert choose(["auto"]) == []
    assert choose([]) == []


def test_auto_takes_the_cloud_whose_endpoint_is_set_and_asks_it_nothing(
    cloud: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert names(choose(["auto"])) == ["aws", "gcp", "azure"]
    monkeypatch.delenv("AWS_EC2_METADATA_SERVICE_ENDPOINT")
    monkeypatch.delenv("HEADWAY_AZURE_METADATA")
    assert names(choose(["auto"])) == ["gcp"]
    assert not cloud.requests


def test_a_source_is_watched_once_however_often_it_is_named(cloud: MetadataServer) -> None:
    assert names(choose(["aws", "auto", "file:/run/leave", "aws"])) == ["aws", "gcp", "azure", "file"]


def test_a_misspelt_source_is_answered_with_the_right_one() -> None:
    with pytest.raises(UserError, match=r"launcher\.notices: 'azur' is not a source of notices; did you mean 'azure'"):
        choose(["auto", "azur"])
    assert problem(["auto", "aws", "gcp", "azure", "file:/run/leave"]) is None
    for wrong in ("AWS!", "file:", "", "nothing:here", "trainer.nothing:Source", "launchers.notices.notices:Nothing"):
        assert (problem([wrong]) or "").startswith(f"launcher.notices: {wrong!r}")


def test_others_add_sources_by_their_class_or_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "house.py").write_text("from tests.launchers.notices.test_notices import Broken as Cooling\n")
    (tmp_path / "house-1.0.dist-info").mkdir()
    (tmp_path / "house-1.0.dist-info" / "METADATA").write_text("Name: house\nVersion: 1.0\n")
    (tmp_path / "house-1.0.dist-info" / "entry_points.txt").write_text("[headway.notices]\ncooling = house:Cooling\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert names(choose(["cooling", f"{__name__}:Broken"])) == ["broken", "broken"]
    assert "did you mean 'cooling'" in (problem(["coolin"]) or "")
    assert "gives no source" in (problem(["json.decoder:JSONDecoder"]) or "")


# --- signals


def test_a_signal_by_hand_stops_and_any_other_interrupts() -> None:
    by_hand = {number for number in SIGNALS if of_signal(number).by_hand}
    assert by_hand == {signal.SIGINT, signal.SIGQUIT}
    assert set(SIGNALS) - by_hand == {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
    assert all(of_signal(number).leave for number in SIGNALS)


def test_a_signals_notice_names_it() -> None:
    notice = of_signal(int(signal.SIGUSR1), seconds=60)
    assert notice.source == "signal"
    assert notice.seconds == 60
    assert notice.reason.startswith("signal SIGUSR1")
