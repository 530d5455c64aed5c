"""A job that is done, or was stopped, is trained further; what it can't be told anew is refused before anything starts."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import trainer
from launchers.agent.warm_pool import of_this_process
from tests.integration.command import start, until
from tests.staying import agent_stays
from trainer.cli.command import main
from trainer.job.directory import Job, State

# without a schedule, what is trained in two parts is what is trained in one
CONSTANT = """\
import torch
from algorithms.linear import Linear
class Constant(Linear):
    def schedule(self, optimizer, steps):
        return None
class Annealed(Linear):
    def schedule(self, optimizer, steps):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
"""


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder of all these tests, with algorithms of the user's own; one agent trains job after job in it."""
    folder = tmp_path_factory.mktemp("resuming")
    (folder / "own.py").write_text(CONSTANT)
    with pytest.MonkeyPatch.context() as patch, agent_stays():
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        yield folder
        of_this_process().end()


@pytest.fixture(scope="module")
def done(folder: Path) -> Path:
    """A job of one epoch, of which tests take copies."""
    train("done", "Constant", 1)
    return Path("runs/done")


def train(name: str, algorithm: str, epochs: int) -> trainer.Result:
    return trainer.train([f"algorithm._target_=own.{algorithm}", f"train.epochs={epochs}", f"job.name={name}"])


def copied(done: Path, name: str) -> Job:
    return Job(Path(shutil.copytree(done, done.with_name(name))))


def weights(name: str) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(f"runs/{name}/model/model.safetensors")


def rates(name: str) -> dict[int, float]:
    return {line["step"]: line["values"]["lr"] for line in Job(Path("runs", name)).metrics() if "lr" in line["values"]}


# These two first: what the agent has loaded for them serves the others too.


def test_without_more_to_do_it_is_left_as_it_is_and_says_what_gives_it_more(capsys: pytest.CaptureFixture[str]) -> None:
    trainer.train(["algorithm=xgboost", "algorithm.rounds=2", "job.name=x"])
    assert main(["resume", "x"]) == 0
    assert "already completed" in (said := capsys.readouterr().out)
    assert "`headway resume x algorithm.rounds=N` trains it further" in said
    assert main(["resume", "x", "algorithm.rounds=2", "launcher.workers=2"]) == 0
    assert "already completed" in capsys.readouterr().out
    assert main(["resume", "x", "algorithm.rounds=1"]) == 2
    assert "algorithm.rounds=1: x has done 2 already" in capsys.readouterr().err


def test_trees_are_added_to_those_that_there_are() -> None:
    common = ["algorithm=xgboost", "algorithm.subsample=0.5"]
    trainer.train([*common, "algorithm.rounds=4", "job.name=whole-trees"])
    trainer.train([*common, "algorithm.rounds=2", "job.name=trees"])
    assert main(["resume", "trees", "algorithm.rounds=4"]) == 0
    whole, parts = (Path("runs", name, "model", "model.ubj").read_bytes() for name in ("whole-trees", "trees"))
    assert parts == whole
    [went_on] = [e for e in Job(Path("runs/trees")).events() if e["state"] == State.RUNNING][1:]
    assert went_on["step"] == 2


def test_a_job_that_is_done_is_trained_further_to_what_it_would_have_been(done: Path) -> None:
    train("whole", "Constant", 2)
    job = copied(done, "parts")
    assert main(["resume", "parts", "train.epochs=2"]) == 0
    for key, value in weights("whole").items():
        np.testing.assert_array_equal(weights("parts")[key], value, err_msg=key)
    result = job.result() or {}
    assert (result["status"], result["steps"], result["epochs"]) == ("Completed", 90, 2)
    assert result["model"]
    assert result["metrics"]["train_loss"] == (Job(Path("runs/whole")).result() or {})["metrics"]["train_loss"]


@pytest.mark.parametrize("algorithm", ["Linear", "Annealed"])
def test_its_schedule_is_laid_out_anew_and_that_is_told(capsys: pytest.CaptureFixture[str], algorithm: str) -> None:
    whole, parts = f"whole-{algorithm}", f"parts-{algorithm}"
    train(whole, algorithm, 4)
    train(parts, algorithm, 2)
    assert main(["resume", parts, "train.epochs=4"]) == 0
    assert "the learning rate goes on at 0.025, of a schedule over 180 steps; it was 0" in capsys.readouterr().out
    later = {step: rate for step, rate in rates(whole).items() if step > 90}
    assert len(later) > 1
    assert {step: rates(parts)[step] for step in later} == pytest.approx(later)


def test_a_setting_of_the_optimizer_that_it_is_told_holds(done: Path) -> None:
    copied(done, "told")
    assert main(["resume", "told", "train.epochs=2", "algorithm.lr=0.001"]) == 0
    found = rates("told")
    assert found[min(found)] == 0.05
    assert found[max(found)] == 0.001


def test_the_time_in_between_is_no_part_of_the_job(done: Path) -> None:
    job = copied(done, "earlier")
    hour_ago = [{**event, "time": event["time"] - 3600, "boot": "another"} for event in job.events()]
    job.events_path.write_text("".join(json.dumps(event) + "\n" for event in hour_ago))
    assert main(["resume", "earlier", "train.epochs=2"]) == 0
    assert (job.result() or {})["seconds"]["wall"] < 600


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["train.epochs=1", "train.early_stopping.patience=10"],
            "train.epochs=1: done has done 1 already; give it more",
        ),
        (["train.epochs=3", "train.max_steps=45"], "train.max_steps=45: done has done 45 already; give it more"),
        (["train.batch_size=64", "train.epochs=2"], "done goes on with what it began with (train.batch_size: 32 there"),
        (["algorithm=xgboost"], "done goes on with what it began with (algorithm._target_: "),
        (["job.seed=3", "train.epochs=2"], "done goes on with what it began with (job.seed: 0 there, 3 here)"),
    ],
)
def test_what_it_can_not_go_on_with_is_refused_and_changes_nothing(
    done: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], says: str
) -> None:
    before = {p: p.read_bytes() for p in done.rglob("*") if p.is_file()}
    assert main(["resume", "done", *overrides]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line
    assert {p: p.read_bytes() for p in done.rglob("*") if p.is_file()} == before


def test_train_with_more_epochs_says_how_to_go_on(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "algorithm._target_=own.Constant", "train.epochs=2", "job.name=done"]) == 2
    assert "or go on with `headway resume done train.epochs=…`" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["linear", "xgboost"])
def test_a_stopped_job_leaves_a_model_and_goes_on(folder: Path, algorithm: str) -> None:
    many = "train.epochs=100000" if algorithm == "linear" else "algorithm.rounds=100000"
    run = start("train", f"algorithm={algorithm}", many, f"job.name={algorithm}")
    job = Job(folder / "runs" / algorithm)
    until(lambda: job.metrics(), job)
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=600)
    assert run.returncode == 130
    result = job.result() or {}
    assert (result["status"], result["model"]) == ("Stopped", str(job.model))
    assert f"model  {Path('runs', algorithm, 'model')}" in said
    assert f"next   headway resume runs/{algorithm}\n       headway predict model=runs/{algorithm}/model" in said
    model = trainer.load(job.model)
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    assert (model.predict(x.astype(np.float32))["prediction"] == y).mean() > 0.6
    done = int(result["steps"])
    more = "train.max_steps" if algorithm == "linear" else "algorithm.rounds"
    assert main(["resume", algorithm, f"{more}={done + 1}"]) == 0
    assert (job.result() or {})["steps"] == done + 1
