"""Jobs on S3: carried there beside training, brought back on another machine, and never advanced by two at once."""

from __future__ import annotations

import fcntl
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.jobs import end, make_job, progress, start, validate
from tests.s3 import served
from trainer.job import carried, checkpoint
from trainer.job.carried import Carried
from trainer.job.checkpoint import Retention
from trainer.job.directory import Job, State, append_line, write_json
from trainer.job.remote import mirror_standing
from trainer.job.remote.download import pull, pull_small
from trainer.job.remote.lease import owner
from trainer.job.remote.mirror import Mirror
from trainer.job.result import energy_kwh
from trainer.storage.objects import S3, Encryption
from trainer.testing.chaos.s3 import KINDS, Server

pytestmark = pytest.mark.usefixtures("models_loaded_once")

URL = "s3://bucket/jobs/one"
PREFIX = "jobs/one/"
WAIT = 600.0


@pytest.fixture
def server() -> Iterator[Server]:
    with served(seed=5, page=5) as server:
        yield server


@pytest.fixture
def s3(server: Server) -> S3:
    return S3(URL, attempts=4)


class Watched(Mirror):
    """A mirror that keeps what it says."""

    def __init__(self, folder: Path, storage: S3 | None = None, retention: Retention | None = None) -> None:
        self.said: list[str] = []
        self.taken_over_by: list[str] = []
        super().__init__(
            storage or S3(URL, attempts=4),
            folder,
            on_superseded=self.taken_over_by.append,
            say=self.said.append,
            interval=0.05,
            retention=retention,
        )


@pytest.fixture
def mirror() -> Iterator[Callable[..., Watched]]:
    """Makes a mirror that is at work."""
    made = []

    def make(folder: Path, storage: S3 | None = None, retention: Retention | None = None) -> Watched:
        it = Watched(folder, storage, retention)
        made.append(it)
        it.take_over()
        it.start()
        return it

    yield make
    for it in made:
        it.stop()


def save(job: Job, step: int, *, size: int = 1000, seed: int = 0, **details: object) -> Path:
    """A checkpoint of two workers."""
    root = job.checkpoints
    place = checkpoint.begin(root, step, "a")
    for rank in range(2):
        (place / f"rank-{rank}.safetensors").write_bytes(random.Random(step + rank + seed).randbytes(size))
    files = {path.name: checkpoint.entry(path) for path in sorted(place.iterdir())}
    return checkpoint.commit(root, step, "a", files, details)


def on_s3(server: Server) -> dict[str, bytes]:
    stored = server.stored("bucket")
    return {key.removeprefix(PREFIX): value.data for key, value in stored.items() if not key.endswith("owner.json")}


def here(folder: Path) -> dict[str, bytes]:
    """What of a folder belongs on S3."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not path.name.startswith(".")}


def steps(server: Server) -> list[int]:
    """The complete checkpoints on S3."""
    return sorted(int(n.split("/")[1][5:]) for n in on_s3(server) if n.endswith("/manifest.json"))


def running(folder: Path) -> Job:
    job = make_job(folder)
    start(job)
    validate(job, 10, train_loss=0.5)
    progress(job, 10)
    (job.logs / "attempt-0-rank-0.log").write_text("hello\n", encoding="utf-8")
    return job


def finish(job: Job) -> None:
    job.model.mkdir()
    (job.model / "model.safetensors").write_bytes(b"weights" * 1000)
    (job.model / "artifact.json").write_text("{}", encoding="utf-8")
    end(job)


def test_a_job_is_on_s3_as_it_is_here_and_goes_on_from_there(
    server: Server, s3: S3, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    job = running(tmp_path / "a")
    save(job, 10, size=9 << 20)
    it = mirror(job.dir)
    assert it.flush(WAIT)
    save(job, 20)
    validate(job, 20, train_loss=0.4)
    write_json(job.gpu_path(0, 0), {"devices": [{"joules": 3.6e6}]})
    assert it.flush(WAIT)
    assert on_s3(server) == here(job.dir)
    other = tmp_path / "b"
    assert pull(s3, other) == []
    assert sorted(here(other)) == sorted(
        n for n in here(job.dir) if "step-00000010" not in n and not n.endswith(".log")
    )
    assert checkpoint.problem(other / "checkpoints" / "step-00000020") is None
    assert Job(other).events() == job.events()
    assert Job(other).metrics() == job.metrics()
    assert energy_kwh(Job(other)) == 1.0  # of the attempts before, wherever they ran


def test_a_reader_sees_a_job_on_s3_as_any_other(s3: S3, mirror: Callable[..., Watched], tmp_path: Path) -> None:
    assert not pull_small(s3, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    job = running(tmp_path / "a")
    it = mirror(job.dir)
    assert it.flush(WAIT)
    assert pull_small(s3, tmp_path / "b", logs=True)
    reader = Job(tmp_path / "b")
    assert (reader.state(), reader.progress(), reader.metrics()) == (job.state(), job.progress(), job.metrics())
    assert (reader.logs / "attempt-0-rank-0.log").read_text(encoding="utf-8") == "hello\n"
    append_line(job.metrics_path, {"step": 11})
    again = {"time": 1.0, "step": 10, "values": {}}
    job.metrics_path.unlink()
    append_line(job.metrics_path, again)  # steps that are done again
    finish(job)
    assert it.flush(WAIT)
    assert pull_small(s3, reader.dir)
    assert (reader.state(), reader.metrics(), reader.result()) == (State.COMPLETED, [again], job.result())
    assert not reader.checkpoints.exists()


def test_who_sees_the_end_finds_the_model_and_the_result(
    server: Server, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    job = running(tmp_path / "a")
    it = mirror(job.dir)
    assert it.flush(WAIT)
    server.requests.clear()
    save(job, 30)
    finish(job)
    assert it.flush(WAIT)
    assert on_s3(server) == here(job.dir)
    order = [r.removeprefix(f"PUT bucket/{PREFIX}") for r in server.requests if r.startswith("PUT")]
    last = ["checkpoints/step-00000030/manifest.json", "model/artifact.json", "result.json", "events.jsonl"]
    assert [name for name in order if name in last] == last
    assert order.index("model/model.safetensors") < order.index("model/artifact.json")


def test_a_result_is_withdrawn_when_the_job_goes_on(
    server: Server, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    job = running(tmp_path / "a")
    end(job, State.INTERRUPTED)
    it = mirror(job.dir)
    assert it.flush(WAIT)
    assert "result.json" in on_s3(server)
    job.result_path.unlink()
    start(job, attempt=1)
    assert it.flush(WAIT)
    assert "result.json" not in on_s3(server)


def test_everything_is_encrypted_as_asked(server: Server, mirror: Callable[..., Watched], tmp_path: Path) -> None:
    job = running(tmp_path / "a")
    save(job, 10, size=9 << 20)
    finish(job)
    assert mirror(job.dir, S3(URL, Encryption("sse-kms", "alias/jobs"))).flush(WAIT)
    assert {stored.encryption for stored in server.stored("bucket").values()} == {("aws:kms", "alias/jobs")}


# checkpoints


def test_what_was_cut_off_before_its_manifest_is_no_checkpoint(
    server: Server, s3: S3, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    job = running(tmp_path / "a")
    save(job, 10)
    it = mirror(job.dir)
    assert it.flush(WAIT)
    server.faults(1.0, ["internal-error"], match="PUT .*step-00000020/manifest.json")
    save(job, 20)
    assert not it.flush(1.0)
    it.stop()
    assert sorted(n for n in on_s3(server) if "step-00000020" in n and "rank" in n)
    pull(s3, tmp_path / "b")
    assert [place.name for place in checkpoint.listing(tmp_path / "b" / "checkpoints")] == ["step-00000010"]
    server.faults(0.0)
    shutil.rmtree(job.checkpoints / "step-00000020")
    save(job, 20, seed=1)  # the next attempt comes there with other bytes
    save(job, 30)
    assert mirror(job.dir).flush(WAIT)
    assert on_s3(server) == here(job.dir)


def test_a_damaged_checkpoint_is_passed_over_and_said(
    server: Server, s3: S3, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    job = running(tmp_path / "a")
    for step in (10, 20, 30, 40):
        save(job, step)
    assert mirror(job.dir).flush(WAIT)
    place = f"{PREFIX}checkpoints/step-000000"
    server.put("bucket", f"{place}40/rank-1.safetensors", bytes(1000))
    server.put("bucket", f"{place}30/manifest.json", b'{"files": {"../../x": {"size": 1}}}')
    s3.delete(["checkpoints/step-00000020/rank-0.safetensors"])
    passed_over = pull(s3, tmp_path / "b")
    assert [line.split(" was passed over: ")[0].rpartition("-")[2] for line in passed_over] == [
        "00000040",
        "00000030",
        "00000020",
    ]
    assert "rank-1.safetensors has another checksum" in passed_over[0]
    assert "manifest is damaged" in passed_over[1]
    assert "rank-0.safetensors: there is no such object" in passed_over[2]
    assert [place.name for place in (tmp_path / "b" / "checkpoints").iterdir()] == ["step-00000010"]


def test_checkpoints_that_were_replaced_here_are_deleted_there(
    server: Server, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    job = running(tmp_path / "a")
    it = mirror(job.dir)
    for step in (10, 20, 30, 40):
        save(job, step)
        checkpoint.retain(job.checkpoints, Retention(newest=2))
        assert it.flush(WAIT)
        assert steps(server) == list(range(max(10, step - 10), step + 1, 10))
    assert on_s3(server) == here(job.dir)
    shutil.rmtree(job.checkpoints)  # nothing newer is up that would replace them
    assert it.flush(WAIT)
    assert steps(server) == [30, 40]


def test_checkpoints_of_other_machines_are_kept_and_deleted_as_ones_own(
    server: Server, s3: S3, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    job = running(tmp_path / "a")
    for step, loss in ((10, 0.1), (20, 0.5), (30, 0.4)):
        save(job, step, metrics={"validation_loss": loss})
    first = mirror(job.dir)
    assert first.flush(WAIT)
    first.stop()
    other = Job(tmp_path / "b")
    it = mirror(other.dir, retention=Retention(newest=2, best=1))
    pull(s3, other.dir)
    save(other, 40, metrics={"validation_loss": 0.6})
    assert it.flush(WAIT)
    assert steps(server) == [10, 30, 40]  # the best, and the newest two


def test_a_checkpoint_written_again_is_carried_again(
    server: Server, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    job = running(tmp_path / "a")
    save(job, 10)
    it = mirror(job.dir)
    assert it.flush(WAIT)
    save(job, 10, seed=1)
    assert it.flush(WAIT)
    assert on_s3(server) == here(job.dir)


def test_a_checkpoint_on_s3_has_the_metrics_up_to_its_step_beside_it(
    server: Server, mirror: Callable[..., Watched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a machine that goes on from there misses what was reported before."""
    job = running(tmp_path / "a")
    it = mirror(job.dir)
    assert it.flush(WAIT)
    monkeypatch.setattr(it, "_send_small", lambda **options: None)  # its turn comes later
    validate(job, 20, train_loss=0.25)
    save(job, 20)
    deadline = time.monotonic() + WAIT
    while steps(server) != [20] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert on_s3(server)["metrics.jsonl"] == job.metrics_path.read_bytes()


# two copies of one job


def test_of_two_live_copies_the_older_one_stops_and_says_so(
    server: Server, s3: S3, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    job = running(tmp_path / "a")
    save(job, 10)
    older = mirror(job.dir)
    assert older.flush(WAIT)
    other = Job(tmp_path / "b")
    newer = mirror(other.dir)
    pull(s3, other.dir)
    save(job, 20, seed=1)
    validate(job, 20, train_loss=9.9)
    assert not older.flush(WAIT)
    assert older.superseded
    assert len(older.taken_over_by) == 1
    assert older.taken_over_by[0].startswith("process ")
    assert "uploads nothing more" in older.said[-1]
    assert steps(server) == [10]
    save(other, 20)
    assert newer.flush(WAIT)
    assert not newer.superseded
    assert on_s3(server) == {**here(other.dir), **{n: c for n, c in on_s3(server).items() if n.endswith(".log")}}
    assert owner(s3)


def test_of_two_that_start_at_once_one_remains(server: Server, s3: S3, tmp_path: Path) -> None:
    copies = [Watched(running(tmp_path / name).dir) for name in "abcd"]
    threads = [threading.Thread(target=copy.take_over) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for copy in copies:
        copy.start()
    assert sum(copy.flush(WAIT) for copy in copies) == 1
    assert sum(copy.superseded for copy in copies) == 3
    for copy in copies:
        copy.stop()


def test_a_copy_that_slept_through_the_takeover_commits_nothing(
    server: Server, s3: S3, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    """It has said that the job is its own, sleeps, and wakes when the other has committed the same step."""
    job = running(tmp_path / "a")
    older = mirror(job.dir)
    assert older.flush(WAIT)
    other = Job(tmp_path / "b")
    server.faults(1.0, ["slow"], match="PUT .*00000020/manifest", slow_seconds=1.5)
    save(job, 20, seed=1)
    while not any("00000020/manifest" in request for request in server.requests):
        time.sleep(0.01)
    server.faults(0.0)
    newer = mirror(other.dir)
    pull(s3, other.dir)
    save(other, 20)
    assert newer.flush(WAIT)
    while not older.superseded:
        time.sleep(0.01)
    assert not newer.superseded
    pull(s3, tmp_path / "c")
    (place,) = (tmp_path / "c" / "checkpoints").iterdir()
    assert here(place) == here(other.checkpoints / "step-00000020")


@pytest.mark.parametrize("kind", ["reset-response", "truncated"])
def test_a_lost_answer_about_whose_job_it_is_costs_nothing(
    server: Server, mirror: Callable[..., Watched], tmp_path: Path, kind: str
) -> None:
    job = running(tmp_path / "a")
    server.fault(kind, "PUT .*owner.json", times=3)
    it = mirror(job.dir)
    for step in (10, 20, 30):
        save(job, step)
        server.fault(kind, "PUT .*(owner|manifest).json", times=3)
        assert it.flush(WAIT)
    assert not it.superseded
    assert steps(server) == [20, 30] or steps(server) == [10, 20, 30]


# faults


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_arrives_whole_whatever_the_server_does(
    server: Server, mirror: Callable[..., Watched], tmp_path: Path, kind: str
) -> None:
    job = running(tmp_path / "a")
    server.faults(0.04 if kind == "slow-down" else 0.25, [kind], slow_seconds=0.03)
    it = mirror(job.dir)
    for step in (10, 20):
        save(job, step, size=300_000)
        validate(job, step, train_loss=0.1)
        assert it.flush(WAIT)
    finish(job)
    assert it.flush(WAIT)
    assert server.given[kind] > 0
    assert not it.superseded
    assert on_s3(server) == here(job.dir)
    other = tmp_path / "b"
    assert pull(S3(URL), other) == []
    assert checkpoint.problem(other / "checkpoints" / "step-00000020") is None


def test_training_goes_on_while_s3_is_away(server: Server, mirror: Callable[..., Watched], tmp_path: Path) -> None:
    job = running(tmp_path / "a")
    it = mirror(job.dir)
    assert it.flush(WAIT)
    server.faults(1.0, ["reset-request", "unavailable"])
    save(job, 10)
    started = time.monotonic()
    assert not it.flush(0.5)
    assert time.monotonic() - started < 1.0
    save(job, 20)
    assert not it.flush(1.0)
    assert len(it.said) == 1
    assert "stays local" in it.said[0]
    server.faults(0.0)
    assert it.flush(WAIT)
    assert it.said[1:] == [f"{URL} is up to date again"]
    assert on_s3(server) == here(job.dir)


def test_a_server_that_gives_no_answer_is_told_too(
    server: Server, mirror: Callable[..., Watched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_standing, "SILENCE", 0.2)
    job = running(tmp_path / "a")
    it = mirror(job.dir)
    assert it.flush(WAIT)
    server.faults(1.0, ["slow"], match="PUT", slow_seconds=3.0)
    save(job, 10)
    end_of_wait = time.monotonic() + WAIT
    while (carried.read(job.dir) or Carried("")).trouble != f"{URL}: no answer for 0 s":
        assert time.monotonic() < end_of_wait
        time.sleep(0.01)
    server.faults(0.0)
    assert it.flush(WAIT)
    assert carried.read(job.dir) == Carried(URL)


def test_what_was_left_behind_is_on_record(
    server: Server, s3: S3, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    job = running(tmp_path / "a")
    save(job, 10)
    it = mirror(job.dir)
    assert it.flush(WAIT)
    server.faults(1.0, ["unavailable"])
    save(job, 20)
    finish(job)
    assert not it.flush(0.5)
    it.stop()
    known = carried.read(job.dir)
    assert known is not None
    assert known.lacking == ("model", "checkpoints/step-00000020", "result.json", "events.jsonl")
    assert known.words(job.dir).startswith(
        "not on S3: model, checkpoints/step-00000020, result.json, events.jsonl; it lies in"
    )
    assert (job.result() or {})["model"] == str(job.model)
    server.faults(0.0)
    again = mirror(job.dir)
    assert again.flush(WAIT)
    assert (job.result() or {})["model"] == f"{URL}/model"
    assert on_s3(server) == here(job.dir)
    again.stop()
    assert carried.read(job.dir) == Carried(URL, lacking=())
    known.write(job.dir)  # as it is on the machine that left it behind, if another one brought the job to its end
    assert pull_small(s3, job.dir)
    assert carried.read(job.dir) is None


# what is here already


def test_a_machine_that_comes_back_keeps_what_it_was_ahead(
    server: Server, s3: S3, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    job = running(tmp_path / "a")
    save(job, 10)
    it = mirror(job.dir)
    assert it.flush(WAIT)
    it.stop()
    save(job, 20)
    validate(job, 20, train_loss=0.3)
    before = here(job.dir)
    assert Watched(job.dir).take_over()
    assert pull(s3, job.dir) == []
    assert pull_small(s3, job.dir)
    assert here(job.dir) == before


def test_a_machine_that_comes_back_takes_what_others_did_meanwhile(
    server: Server, s3: S3, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    job = running(tmp_path / "a")
    save(job, 10)
    mirror(job.dir).flush(WAIT)
    job.add_event(State.INTERRUPTED, reason="never told")
    other = Job(tmp_path / "b")
    it = mirror(other.dir)
    pull(s3, other.dir)
    start(other, attempt=1)
    save(other, 20)
    end(other, State.STOPPED)
    assert it.flush(WAIT)
    with open(job.events_path, "a") as lock:  # the agent holds it
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert pull(s3, job.dir) == []
        assert job.events() == other.events()
        assert lock.tell() >= 0
        assert job.events_path.stat().st_ino == Path(f"/proc/self/fd/{lock.fileno()}").stat().st_ino
    assert job.result() == other.result()
    assert checkpoint.newest(job.checkpoints).checkpoint == job.checkpoints / "step-00000020"


def test_files_of_a_job_that_was_deleted_on_s3_are_not_taken_for_another(
    server: Server, s3: S3, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    job = running(tmp_path / "a")
    save(job, 50)
    mirror(job.dir).flush(WAIT)
    it = mirror(job.dir)
    it.stop()
    s3.delete(s3.list())
    assert not pull_small(s3, job.dir)
    assert not job.dir.exists()
    job = running(tmp_path / "a")
    save(job, 50)
    mirror(job.dir).flush(WAIT)
    s3.delete(s3.list())
    other = running(tmp_path / "b")
    save(other, 10)
    assert mirror(other.dir).flush(WAIT)
    assert pull_small(s3, job.dir)
    assert job.events() == other.events()
    assert not job.checkpoints.exists()


def test_who_looks_leaves_a_job_alone_that_is_at_work_here(
    s3: S3, mirror: Callable[..., Watched], tmp_path: Path
) -> None:
    job = running(tmp_path / "a")
    mirror(job.dir).flush(WAIT)
    job.metrics_path.write_text("", encoding="utf-8")
    with open(job.events_path, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert pull_small(s3, job.dir)
        assert job.metrics() == []
