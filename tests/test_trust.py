"""What a stranger's job, study, model, report or checkpoint may do to whoever looks at it, or loads it: nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import trainer
from tests.jobs import end, make_job, start, validate
from tests.tuning.written import written
from trainer.cli.command import main
from trainer.config import known
from trainer.config.compose import compose
from trainer.config.instantiate import build, build_algorithm
from trainer.config.schema import check
from trainer.data.schema import Schema
from trainer.errors import UserError
from trainer.job import submitted
from trainer.job.directory import Job, State, Status, write_json
from trainer.submission import launcher_of

# whatever of it is imported or called leaves a file beside it
CODE = """
import pathlib

from trainer import Estimator

MARKS = pathlib.Path(__file__).parent / "marks"
MARKS.mkdir(exist_ok=True)


def mark(*args, **kwargs):
    (MARKS / "called").touch()


mark()


class Launcher:
    def __init__(self, **kwargs):
        mark()


class Source:
    def __init__(self):
        mark()

    every, name = 1.0, "stranger"

    def poll(self):
        mark()


class Mine(Estimator):
    def __init__(self, **kwargs):
        mark()

    def fit(self, context):
        mark()

    def predict(self, batch):
        return {"prediction": batch.x[:, 0]}

    def load(self, folder):
        mark()
"""
TARGETS = ("stranger.Launcher", "stranger.mark", "builtins.print", "os.getcwd")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder one works in, with a stranger's code in it, which Python finds."""
    (tmp_path / "stranger.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("stranger", None)


def unmarked(folder: Path) -> bool:
    return not [path for path in folder.rglob("marks") if path.exists()]


def foreign(directory: Path, node: dict[str, Any]) -> Job:
    """A job that seems to run, of whose config somebody has made something else."""
    job = make_job(directory)
    start(job)
    validate(job, 10, validation_loss=1.0)
    (job.logs / "attempt-0-rank-0.log").write_text("a line\n")
    config = yaml.safe_load(job.config_path.read_text())
    job.config_path.write_text(yaml.safe_dump(config | node))
    return job


@pytest.mark.parametrize("target", TARGETS)
def test_looking_at_a_job_builds_no_launcher_that_only_the_job_names(
    target: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign(folder / "runs/theirs", {"launcher": {"_target_": target}})
    for verb in (["ls"], ["ls", "--json"], ["show", "theirs"], ["show", "theirs", "--json"], ["logs", "theirs"]):
        assert main(verb) == 0
        told = " ".join(capsys.readouterr().out.split())
        if verb != ["logs", "theirs"]:
            assert f"as its directory tells: its launcher {target} is not installed here" in told
            assert "Running" in told
    assert main(["report", "theirs"]) == 0
    assert f"its launcher {target} is not installed here" in (folder / "runs/theirs/report.html").read_text()
    assert capsys.readouterr().out == "runs/theirs/report.html\n"
    assert main(["stop", "theirs"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"theirs: its launcher {target} is not installed here" in told
    assert unmarked(folder)


@pytest.mark.parametrize("node", [{}, {"launcher": None}, {"launcher": "x"}, {"launcher": {"workers": 1}}])
def test_a_job_without_a_launcher_is_told_by_its_directory(
    node: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = foreign(folder / "runs/theirs", node)
    if not node:
        config = yaml.safe_load(job.config_path.read_text())
        del config["launcher"]
        job.config_path.write_text(yaml.safe_dump(config))
    assert main(["ls"]) == 0
    assert "its config names no launcher" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("backend", ["local.Local", "slurm.Slurm", "ray.Ray"])
def test_a_known_launcher_runs_nothing_that_the_job_names(
    backend: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"notices": ["package.stranger:Source"]}
    (folder / "package").mkdir()
    (folder / "stranger.py").rename(folder / "package/stranger.py")
    foreign(folder / "runs/theirs", {"launcher": {"_target_": f"launchers.{backend}", **settings}})
    for verb in (["ls"], ["show", "theirs"], ["logs", "theirs"]):
        assert main(verb) == 0
    settings = {"notices": [], "nodes": {"_target_": "package.stranger.mark"}}
    foreign(folder / "runs/nested", {"launcher": {"_target_": f"launchers.{backend}", **settings}})
    assert main(["show", "nested"]) == 0
    assert "damaged: launcher.nodes" in capsys.readouterr().out
    assert unmarked(folder)


def test_who_submits_a_job_asks_his_own_launcher_about_it(folder: Path) -> None:
    class Mine:
        def status(self, job: Job) -> str:
            return "asked"

    job = foreign(folder / "runs/mine", {"launcher": {"_target_": "stranger.Launcher"}})
    submitted.keep(job, Mine())
    assert launcher_of.status_of(job) == "asked"
    submitted._own.clear()


def test_what_lies_in_the_working_folder_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "theirs-1.0.dist-info").mkdir()
    entries = "[headway.launchers]\nx = stranger:Launcher\n[headway.algorithms]\ny = stranger:Mine\n"
    (folder / "theirs-1.0.dist-info/entry_points.txt").write_text(entries)
    assert "stranger.Launcher" not in known.targets("launcher")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    assert "stranger.Launcher" in known.targets("launcher")
    assert "stranger.Mine" in known.targets("algorithm")
    assert "launchers.local.Local" in known.targets("launcher")
    assert "algorithms.linear.Linear" in known.targets("algorithm")


def test_a_config_in_a_job_is_looked_at_as_it_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("A_SECRET", "hunter2")
    node = {"_target_": "algorithms.linear.Linear", "lr": "${oc.env:A_SECRET}"}
    foreign(folder / "runs/theirs", {"algorithm": node})
    for verb in (["ls"], ["show", "theirs"], ["show", "theirs", "--json"]):
        assert main(verb) == 0
        assert "hunter2" not in capsys.readouterr().out


def test_a_job_of_yaml_tags_is_no_job(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = foreign(folder / "runs/theirs", {})
    job.config_path.write_text("launcher: !!python/object/apply:stranger.mark []\n")
    assert main(["show", "theirs"]) == 2
    assert unmarked(folder)


# models


def model(folder: Path, node: dict[str, Any]) -> Path:
    """A stranger's job with a model whose description names something."""
    job = make_job(folder / "runs/theirs")
    end(job)
    (job.dir / "code/theirs").mkdir(parents=True)
    (folder / "stranger.py").rename(job.dir / "code/theirs/stranger.py")
    write_json(job.dir / "submission/submission.json", {"code": [{"folder": "theirs", "paths": ["."], "from": "/"}]})
    schema = Schema().to_dict()
    description = {"format": 1, "algorithm": node, "target": None, "schema": schema, "metrics": {}}
    write_json(job.model / "artifact.json", description)
    return job.model


NODES: dict[str, dict[str, Any]] = {
    "code beside it": {"_target_": "stranger.Mine"},
    "a function beside it": {"_target_": "stranger.mark"},
    "Python's own": {"_target_": "os.getcwd"},
    "a class of a library": {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1},
    "a nested one": {"_target_": "algorithms.linear.Linear", "lr": {"_target_": "stranger.mark"}},
    "nested in a list": {"_target_": "algorithms.linear.Linear", "class_weights": [{"_target_": "stranger.mark"}]},
    "in part": {"_target_": "algorithms.linear.Linear", "_partial_": True},
    "by position": {"_target_": "algorithms.linear.Linear", "_args_": [{"_target_": "stranger.mark"}]},
    "nothing": {},
}


@pytest.mark.parametrize("case", NODES)
def test_a_model_calls_nothing_that_is_not_installed(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model(folder, NODES[case])
    monkeypatch.syspath_prepend(str(path.parent / "code/theirs"))
    assert main(["predict", f"model={path}", "data=digits"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "model.trust_code=true" in told
    with pytest.raises(UserError):
        trainer.load(path)
    assert unmarked(folder)


def test_a_model_whose_code_one_trusts_is_loaded(folder: Path) -> None:
    path = model(folder, {"_target_": "stranger.Mine"})
    trainer.load(path, trust_code=True)
    assert not unmarked(folder)


def test_a_models_settings_are_taken_as_they_are_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "0.5")
    path = model(folder, {"_target_": "algorithms.linear.Linear", "objective": "${oc.env:A_SECRET}"})
    with pytest.raises(Exception) as failed:  # noqa: PT011 - there are no weights
        trainer.load(path)
    assert "0.5" not in str(failed.value)


# configs: what is no algorithm, data source, launcher or tracker is never called


@pytest.mark.parametrize("noun", ["algorithm", "data", "launcher", "tracking"])
@pytest.mark.parametrize("target", ["os.getcwd", "subprocess.Popen", "builtins.print", "importlib.import_module"])
def test_what_is_something_else_is_not_called(noun: str, target: str) -> None:
    what = {"algorithm": "an algorithm", "data": "a data source", "launcher": "a launcher", "tracking": "a tracker"}
    with pytest.raises(UserError, match=rf"^{noun}\._target_: {target} is not {what[noun]}"):
        check(compose([f"{noun}._target_={target}"]))
    with pytest.raises(UserError, match=rf"^{noun}\._target_: {target} is not {what[noun]}"):
        build({"_target_": target}, noun)


@pytest.mark.parametrize("noun", ["data", "launcher", "tracking"])
@pytest.mark.parametrize("name", ["mark", "Mine"])
def test_a_class_of_another_kind_is_not_called(noun: str, name: str, folder: Path) -> None:
    with pytest.raises(UserError, match=rf"^{noun}\._target_: stranger.{name} is not a"):
        check(compose([f"{noun}._target_=stranger.{name}"]))
    assert unmarked(folder)
    with pytest.raises(UserError, match=rf"^{noun}\._target_: stranger.{name} is not a"):
        build({"_target_": f"stranger.{name}"}, noun)


NESTED = {
    "of Headway's own": (
        {"_target_": "algorithms.xgboost.XGBoost", "params": {"a": {"_target_": "stranger.mark"}}},
        "stranger.mark is not called: algorithms.xgboost.XGBoost builds nothing",
    ),
    "of Python's": (
        {"_target_": "stranger.Mine", "a": [{"_target_": "os.getcwd"}]},
        "os.getcwd is not called: Python's own",
    ),
    "in part": ({"_target_": "stranger.Mine", "_partial_": True}, "is to be built whole"),
}


@pytest.mark.parametrize("case", NESTED)
def test_what_settings_name_is_not_called(case: str, folder: Path) -> None:
    node, message = NESTED[case]
    with pytest.raises(UserError, match=message):
        check({**compose([]), "algorithm": node})
    assert unmarked(folder)
    for make in (lambda: build(node, "algorithm"), lambda: build_algorithm(node)):
        with pytest.raises(UserError, match=message):
            make()


def test_ones_own_class_is_given_what_its_settings_name(folder: Path) -> None:
    (folder / "mine_nested.py").write_text(
        "from trainer import Estimator\n\n\nclass Part:\n    def __init__(self, size=1):\n        self.size = size\n\n\n"
        "class Mine(Estimator):\n    def __init__(self, part, later=None):\n        self.part, self.later = part, later\n\n"
        "    def fit(self, context):\n        pass\n\n    def predict(self, batch):\n        return {}\n"
    )
    part = {"_target_": "mine_nested.Part", "size": 3}
    made = build({"_target_": "mine_nested.Mine", "part": part, "later": {**part, "_partial_": True}}, "algorithm")
    assert made.part.size == made.later().size == 3


@pytest.mark.parametrize("source", ["package.stranger:mark", "os.path:join", "package.stranger:Nothing"])
def test_a_source_of_notices_that_is_none_is_not_called(source: str, folder: Path) -> None:
    from launchers.notices.notices import choose, problem

    (folder / "package").mkdir()
    (folder / "stranger.py").rename(folder / "package/stranger.py")
    assert "gives no source" in str(problem([source]))
    with pytest.raises(UserError, match="gives no source"):
        choose([source])
    assert unmarked(folder)


def test_hydras_own_targets_are_refused_in_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for key in ("hydra.launcher._target_", "hydra.sweeper._target_"):
        assert main(["train", "-m", f"{key}=stranger.mark", "job.dry_run=true"]) == 2
        told = capsys.readouterr().err
        assert "stranger.mark" in told
        assert told.count("\n") == 1
    assert unmarked(folder)


def test_hydra_finds_no_plugins_in_the_working_folder(folder: Path) -> None:
    import subprocess

    (folder / "hydra_plugins").mkdir()
    (folder / "stranger.py").rename(folder / "hydra_plugins/stranger.py")
    command = [sys.executable, "-m", "trainer", "predict", "model=nowhere", "data=digits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2, done.stderr
    assert unmarked(folder)


def test_json_is_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign(folder / "runs/theirs", {"launcher": {"_target_": "stranger.Launcher"}})
    main(["ls", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["state"] == "Running"


# studies, checkpoints, and what a directory tells of processes


def test_looking_at_a_study_builds_no_launcher_of_its_trials(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(folder / "studies/theirs")
    for path in (folder / "studies/theirs/trials").glob("*/config.yaml"):
        config = yaml.safe_load(path.read_text()) or {}
        path.write_text(yaml.safe_dump({**config, "launcher": {"_target_": "stranger.Launcher"}}))
    text = (folder / "studies/theirs/study.yaml").read_text()
    (folder / "studies/theirs/study.yaml").write_text(text + "notes: ['<script>mark()</script>']\n")
    for verb in (["show", "theirs"], ["show", "theirs", "--json"], ["report", "theirs"]):
        assert main(["tune", *verb]) == 0
    assert "<script>mark()" not in (folder / "studies/theirs/report.html").read_text()
    given = ["tune", "algorithm=linear", "data=digits", "tune.warm_start=[theirs]", "study.dry_run=true"]
    assert main([*given, "algorithm.lr=tag(log,interval(1e-4,1))"]) in (0, 2)  # whatever it finds there
    assert unmarked(folder)


def test_a_study_of_yaml_tags_is_no_study(folder: Path) -> None:
    written(folder / "studies/theirs")
    (folder / "studies/theirs/study.yaml").write_text("name: !!python/object/apply:stranger.mark []\n")
    assert main(["tune", "show", "theirs"]) == 2
    assert unmarked(folder)


class Marked:
    """Leaves a file when it is read as a pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_checkpoint_is_read_without_running_anything(folder: Path) -> None:
    import io

    import torch

    from trainer.job import checkpoint
    from trainer.worker.checkpointing.state import read_small

    place = checkpoint.begin(folder, 1)
    held = io.BytesIO()
    torch.save({"torch": Marked(folder / "marks")}, held)
    (place / "rank-0.pt").write_bytes(held.getvalue())
    whole = checkpoint.commit(folder, 1, "", {"rank-0.pt": checkpoint.entry(place / "rank-0.pt")})
    with pytest.raises(ValueError, match=r"rank-0\.pt"):
        read_small(whole, checkpoint.read_manifest(whole), "rank-0.pt")
    assert unmarked(folder)


def test_only_an_agent_is_told_to_stop(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl
    import subprocess

    job = foreign(folder / "runs/theirs", {})
    other = subprocess.Popen(["sleep", "60"])
    job.add_event(State.RUNNING, step=0, pid=other.pid)
    with open(job.events_path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(["stop", "theirs", "--now"]) == 2
    assert other.poll() is None
    other.kill()
    other.wait()
    assert "theirs" in capsys.readouterr().err


def test_only_a_number_is_a_batch_job(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from launchers.slurm import launcher, queue

    job = foreign(folder / "runs/theirs", {"launcher": {"_target_": "launchers.slurm.Slurm"}})
    write_json(job.dir / "slurm.json", {"id": "--user=somebody", "time": 9e9})
    asked: list[Any] = []
    monkeypatch.setattr(queue, "scancel", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(launcher.Slurm, "status", lambda self, job: Status(State.RUNNING, True))
    with pytest.raises(UserError, match="is no batch job's number"):
        launcher.Slurm().stop(job)
    assert not asked
