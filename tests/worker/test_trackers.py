from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainer.config.code.signature import check
from trainer.errors import UserError
from trainer.job.directory import Job
from trainer.worker import trackers
from trainer.worker.metrics import Reporter
from trainer.worker.trackers import MLflow, NoTracker, TensorBoard, Tracker
from trainer.worker.tracking import tracker_of

CONF = Path(__file__).parents[2] / "conf" / "tracking"
CONFIG = {"algorithm": {"_target_": "algorithms.linear.Linear", "lr": 0.1}, "job": {"name": "first", "tags": ["a"]}}


def track(tracker: Any, job_dir: Path, figures: list[tuple[int, dict[str, float]]], state: str = "Completed") -> None:
    tracker.start(job_dir, CONFIG)
    for step, values in figures:
        tracker.log(step, values)
    tracker.finish({"state": state, "step": figures[-1][0], "reason": None})


def scalars(job_dir: Path, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard itself reads."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(job_dir))
    board.Reload()
    return [(e.step, pytest.approx(e.value)) for e in board.Scalars(tag)]


def test_tensorboard_reads_back_every_figure(tmp_path: Path):
    track(TensorBoard(), tmp_path, [(s, {"train_loss": 1 / s, "lr": 0.1}) for s in range(1, 301)])
    assert scalars(tmp_path, "train/loss") == [(s, 1 / s) for s in range(1, 301)]
    assert len(scalars(tmp_path, "lr")) == 300


def test_tensorboards_hparams_tab_compares_jobs_by_what_was_chosen(tmp_path: Path):
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import plugin_data_pb2

    for name, lr, state in (("one", 0.1, "Completed"), ("two", 0.2, "Failed")):
        tracker = TensorBoard()
        (tmp_path / name).mkdir()
        tracker.start(tmp_path / name, {**CONFIG, "algorithm": {**CONFIG["algorithm"], "lr": lr}})
        tracker.log(1, {"validation_loss": lr})
        tracker.finish({"state": state, "step": 1, "reason": None})
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    found = {}
    for run, tags in multiplexer.PluginRunToTagToContent("hparams").items():
        told = [plugin_data_pb2.HParamsPluginData.FromString(content) for content in tags.values()]
        start = next(one.session_start_info for one in told if one.HasField("session_start_info"))
        end = next(one.session_end_info for one in told if one.HasField("session_end_info"))
        found[run] = (start.hparams["algorithm.lr"].number_value, end.status)
        assert start.hparams["algorithm"].string_value == "linear"
    assert found == {"one": (0.1, 1), "two": (0.2, 2)}
    assert scalars(tmp_path / "two", "validation/loss") == [(1, 0.2)]


def test_tensorboard_sees_a_resumed_job_once(tmp_path: Path):
    track(TensorBoard(), tmp_path, [(s, {"loss": 1.0}) for s in (10, 20, 30)], "Interrupted")
    track(TensorBoard(), tmp_path, [(s, {"loss": 2.0}) for s in (20, 30, 40)])
    assert scalars(tmp_path, "loss") == [(10, 1.0), (20, 2.0), (30, 2.0), (40, 2.0)]
    assert len(Job(tmp_path).event_files) == 2


def test_tensorboard_files_pass_the_library_s_own_checksums(tmp_path: Path):
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    for data in (b"", b"\0" * 8, b"123456789", os.urandom(500)):
        assert int.from_bytes(trackers._checksum(data), "little") == masked_crc32c(data)


def test_figures_that_are_not_numbers_are_kept(tmp_path: Path):
    track(TensorBoard(), tmp_path, [(1, {"loss": math.nan, "norm": math.inf})])
    ((_, _),) = scalars(tmp_path, "loss")
    assert scalars(tmp_path, "norm") == [(1, math.inf)]


def test_figures_can_be_seen_while_the_job_runs(tmp_path: Path):
    tracker = TensorBoard()
    tracker.start(tmp_path, CONFIG)
    tracker.log(1, {"loss": 0.5})
    while b"loss" not in _bytes(tmp_path):
        assert tracker._thread.is_alive()
    assert scalars(tmp_path, "loss") == [(1, 0.5)]
    tracker.finish({"state": "Completed"})


def _bytes(job_dir: Path) -> bytes:
    return b"".join(path.read_bytes() for path in Job(job_dir).event_files)


def test_a_tracker_that_cannot_start_warns_once_and_the_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        track(TensorBoard(), tmp_path / "gone", [(s, {"loss": 1.0}) for s in range(10)])
    (record,) = caplog.records
    assert "TensorBoard stopped tracking; the training goes on" in record.getMessage()


@dataclass
class Failing(Tracker):
    def _open(self, job_dir: Path, config: dict[str, Any]) -> None: ...

    def _write(self, when: float, step: int, values: dict[str, float]) -> None:
        raise ConnectionError(f"step {step}: the server is away\nand more")


def test_a_tracker_that_fails_later_warns_once_too(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        track(Failing(), tmp_path, [(s, {"loss": 1.0}) for s in range(10)])
    (record,) = caplog.records
    assert record.getMessage() == (
        "Failing stopped tracking; the training goes on: ConnectionError: step 0: the server is away"
    )


class Plain:
    """A tracker of the user's own, of three calls, which fails at one of them."""

    def __init__(self, fails: str = "", heard: str = "") -> None:
        self.fails, self.heard = fails, Path(heard)
        self._call("made")

    def _call(self, name: str, *given: Any) -> None:
        if name == self.fails:
            raise ConnectionError(f"no answer at {name}\nand more")
        if given:
            with self.heard.open("a") as file:
                file.write(f"{name} {given}\n")

    def start(self, job_dir: Path, config: dict[str, Any]) -> None:
        self._call("start")

    def log(self, step: int, values: dict[str, float]) -> None:
        self._call("log", step, values)

    def finish(self, result: dict[str, Any]) -> None:
        self._call("finish")


def own(**settings: Any) -> dict[str, Any]:
    return {"tracking": {"_target_": f"{__name__}.Plain", **settings}}


@pytest.mark.parametrize("call", ["made", "start", "log", "finish"])
def test_a_tracker_of_ones_own_that_fails_is_told_once_and_nothing_ends(tmp_path: Path, call: str):
    told: list[str] = []
    tracker = tracker_of(own(fails=call, heard=str(tmp_path / "heard")), told.append)
    track(tracker, tmp_path, [(s, {"loss": 1.0}) for s in range(5)])
    what = f"{__name__}.Plain can't be made; the training goes on without it"
    if call != "made":
        what = "Plain stopped tracking; the training goes on"
    assert told == [f"{what}: ConnectionError: no answer at {call}"]


@dataclass
class Silent(Tracker):
    def _open(self, job_dir: Path, config: dict[str, Any]) -> None:
        threading.Event().wait()


def test_a_tracker_that_does_not_answer_is_waited_for_a_while_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trackers, "FINISH_SECONDS", 0.2)
    told: list[str] = []
    tracker = Silent()
    tracker.tell = told.append
    track(tracker, tmp_path, [(1, {"loss": 1.0})])
    assert told == ["Silent did not finish within 0 s; its last figures may be missing"]


class OwnInit(Failing):
    def __init__(self, server: str) -> None:
        self.server = server


def test_a_constructor_of_ones_own_need_not_call_the_trackers(tmp_path: Path):
    told: list[str] = []
    tracker = tracker_of({"tracking": {"_target_": f"{__name__}.OwnInit", "server": "x"}}, told.append)
    track(tracker, tmp_path, [(1, {"loss": 1.0})])
    assert told == ["OwnInit stopped tracking; the training goes on: ConnectionError: step 1: the server is away"]


def test_a_class_that_is_no_tracker_is_said(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"fractions\.Fraction is not a tracker: derive it from trainer\.worker\.trackers\.Tracker"
    ):
        tracker_of({"tracking": {"_target_": "fractions.Fraction"}}, print)


ODD = {
    "nan": math.nan,
    "inf": math.inf,
    "minus": -math.inf,
    "wide": 1e300,
    "tiny": 1e-300,
    "whole": 2**53 + 1,
    "huge": 10**400,
    "yes": True,
}
HANDED = {**ODD, "whole": 2.0**53, "huge": math.inf, "yes": 1.0}


def reported(folder: Path, tracker: Any) -> None:
    job = Job(folder)
    job.logs.mkdir(parents=True)
    reporter = Reporter(job, tracker, writes=True, maximize=())
    reporter.start(CONFIG)
    reporter.report(1, {**ODD, "none": None}, epoch=0.0, samples=0)  # type: ignore[dict-item]
    reporter.finish({"state": "Completed"})


def test_everyone_is_given_the_same_numbers(tmp_path: Path):
    """In double precision; TensorBoard keeps them in single, where what is out of its range is infinite or 0."""
    reported(tmp_path, tracker_of(own(heard=str(tmp_path / "heard")), print))
    (line,) = Job(tmp_path).metrics()
    assert repr(line["values"]) == repr({**HANDED, "none": None})
    assert (tmp_path / "heard").read_text().splitlines()[0] == f"log {(1, HANDED)}"
    reported(tmp_path / "board", TensorBoard())
    for name in ("inf", "wide", "huge"):
        assert scalars(tmp_path / "board", name) == [(1, math.inf)]
    for name, value in (("minus", -math.inf), ("tiny", 0.0), ("whole", 2.0**53), ("yes", 1.0)):
        assert scalars(tmp_path / "board", name) == [(1, value)]


def test_a_figure_that_is_no_number_is_said(tmp_path: Path):
    with pytest.raises(UserError, match="report: loss is 'low', which is no number"):
        Reporter(Job(tmp_path), NoTracker(), writes=False, maximize=()).report(1, {"loss": "low"}, epoch=0, samples=0)  # type: ignore[dict-item]


@dataclass
class Slow(Tracker):
    def _open(self, job_dir: Path, config: dict[str, Any]) -> None:
        proceed.wait()

    def _write(self, when: float, step: int, values: dict[str, float]) -> None:
        written.append(values["loss"])


proceed = threading.Event()
written: list[float] = []


def test_logging_does_not_wait_for_the_tracker(tmp_path: Path):
    tracker, values = Slow(), {"loss": 1.0}
    tracker.start(tmp_path, CONFIG)
    tracker.log(1, values)
    values["loss"] = 2.0  # the caller may use its dict again
    tracker.log(2, values)
    assert written == []
    proceed.set()
    tracker.finish({"state": "Completed"})
    assert written == [1.0, 2.0]


def test_no_tracker_leaves_nothing(tmp_path: Path):
    track(NoTracker(), tmp_path, [(1, {"loss": 1.0})])
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_fails_before_its_tracker_starts_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    TensorBoard().finish({"state": "Failed"})
    assert list(tmp_path.iterdir()) == []


def test_trackers_cost_no_import_before_they_are_needed():
    code = "import sys, trainer.worker.trackers; assert not {'tensorboard', 'mlflow', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["tensorboard", "none", "mlflow"])
def test_every_choice_of_conf_fits_its_tracker(name: str):
    import yaml

    choice = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert check(choice, choice["_target_"], "tracking") == choice


def test_mlflow_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "meta_path", [])  # nothing more can be found
    for name in [n for n in sys.modules if n.split(".")[0] in ("mlflow", "sqlalchemy", "alembic")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r'tracking=mlflow needs mlflow: pip install "mlflow'):
        MLflow()


@pytest.mark.slow
def test_mlflow_keeps_config_figures_and_the_end_and_a_resumed_job_goes_on_with_its_run(tmp_path: Path):
    tracking = pytest.importorskip("mlflow.tracking", reason="the mlflow extra is not installed")
    pytest.importorskip("alembic", reason="the mlflow extra is not installed")
    job_dir = tmp_path / "first"
    track(MLflow(), job_dir, [(1, {"loss": 0.5}), (2, {"loss": math.nan})], "Interrupted")
    client = tracking.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("headway")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    track(MLflow(), job_dir, [(3, {"loss": 0.25})])
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "first"
    assert run.info.status == "FINISHED"
    assert run.data.params["algorithm.lr"] == "0.1"
    assert run.data.params["job.name"] == "first"
    assert run.data.tags["headway.state"] == "Completed"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "loss")] == [1, 2, 3]
    assert run.data.metrics["loss"] == 0.25


@pytest.mark.slow
def test_mlflow_is_given_the_same_numbers_and_a_store_that_it_refuses_is_told(tmp_path: Path):
    """Its database has no infinities. Of a store in files it says by itself, since 3.17, that it takes none."""
    tracking = pytest.importorskip("mlflow.tracking", reason="the mlflow extra is not installed")
    pytest.importorskip("alembic", reason="the mlflow extra is not installed")
    reported(tmp_path / "job", MLflow())
    client = tracking.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("headway").experiment_id])
    kept = run.data.metrics
    assert math.isnan(kept["nan"])
    assert (kept["inf"], kept["minus"]) == (sys.float_info.max, -sys.float_info.max)
    assert (kept["wide"], kept["whole"], kept["yes"]) == (1e300, 2.0**53, 1.0)
    told: list[str] = []
    config = {"_target_": "trainer.worker.trackers.MLflow", "uri": f"file:{tmp_path / 'store'}"}
    track(tracker_of({"tracking": config}, told.append), tmp_path, [(1, {"loss": 1.0})])
    assert all("MLFLOW_ALLOW_FILE_STORE" in words for words in told)
    assert told or (tmp_path / "store").is_dir()
