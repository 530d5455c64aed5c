"""From the command line, and from Python, to a trained model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import trainer
from tests.integration.command import FAULTY, headway, start, until
from trainer.job.directory import Job


def curve(job: Path, name: str = "train_loss") -> list[float]:
    return [line["values"][name] for line in Job(job).metrics() if name in line["values"]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[int, trainer.Result]:
    """The same training with 1, 2 and 3 workers; 1,438 samples in batches of 100 leave an uneven last one."""
    root = tmp_path_factory.mktemp("trained")
    common = ["algorithm=linear", "data=digits", "train.epochs=3", "train.batch_size=100", "train.log_every=1"]
    return {w: trainer.train([*common, f"launcher.workers={w}", f"job.dir={root}/w{w}"]) for w in (1, 2, 3)}


@pytest.mark.parametrize("workers", [2, 3])
def test_the_loss_curve_is_that_of_one_worker(trained: dict[int, trainer.Result], workers: int) -> None:
    one, many = curve(Path(trained[1].dir)), curve(Path(trained[workers].dir))
    assert len(one) == 45
    np.testing.assert_allclose(many, one, rtol=1e-5)


def test_the_result_says_how_it_went(trained: dict[int, trainer.Result]) -> None:
    result = json.loads((Path(trained[2].dir) / "result.json").read_text())
    assert result["status"] == "Completed"
    assert result["steps"] == 45
    assert result["epochs"] == 3
    assert result["samples"] == 3 * 1438
    assert result["world_size"] == 2
    assert result["error"] is None
    assert result["seconds"]["wall"] > result["seconds"]["training"] > 0
    assert result["samples_per_second"] > 0
    accuracy = result["metrics"]["validation_accuracy"]
    assert accuracy["last"]["step"] == 45
    assert accuracy["best"]["value"] >= accuracy["last"]["value"] > 0.85
    loss = result["metrics"]["train_loss"]
    assert loss["best"]["value"] == min(curve(Path(trained[2].dir)))


def test_the_job_directory_is_the_designs(trained: dict[int, trainer.Result]) -> None:
    job = Path(trained[2].dir)
    names = {p.name for p in job.iterdir() if p not in Job(job).event_files}
    assert names == {
        "config.yaml",
        "events.jsonl",
        "metrics.jsonl",
        "checkpoints",
        "model",
        "logs",
        "result.json",
        "submission",
    }
    assert {"attempt-0-rank-0.log", "attempt-0-rank-1.log"} <= {p.name for p in (job / "logs").iterdir()}
    assert [e["state"] for e in Job(job).events()] == ["Pending", "Starting", "Running", "Completed"]


def test_a_model_predicts_from_python(trained: dict[int, trainer.Result]) -> None:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    assert trained[2].model is not None
    model = trainer.load(trained[2].model)
    columns = model.predict(x.astype(np.float32))
    assert (columns["prediction"] == y).mean() > 0.9


def test_a_finished_job_is_never_overwritten(trained: dict[int, trainer.Result]) -> None:
    job = Path(trained[1].dir)
    common = ["data=digits", "train.epochs=3", "train.batch_size=100", "train.log_every=1", f"job.dir={job}"]
    before = {p: p.read_bytes() for p in job.rglob("*") if p.is_file()}
    same = headway("train", *common)
    assert same.returncode == 0
    assert "already completed" in same.stdout
    other = headway("train", *common, "algorithm.lr=0.5")
    assert other.returncode == 2
    assert "algorithm.lr" in other.stderr
    assert len(other.stderr.strip().splitlines()) == 1
    assert {p: p.read_bytes() for p in job.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_gradient_accumulation_changes_nothing_but_memory(folder: Path) -> None:
    common = ["train.epochs=1", "train.batch_size=64", "train.log_every=1"]
    whole = trainer.train([*common, "job.name=whole"])
    parts = trainer.train([*common, "job.name=parts", "train.gradient_accumulation=3", "launcher.workers=2"])
    np.testing.assert_allclose(curve(Path(parts.dir)), curve(Path(whole.dir)), rtol=1e-5)


def test_a_batch_smaller_than_the_workers_is_trained_and_reported(folder: Path) -> None:
    (folder / "mini.csv").write_text("x,y\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(20)))
    result = trainer.train(
        [
            "data=csv",
            "data.train=mini.csv",
            "data.label=y",
            "launcher.workers=2",
            "train.batch_size=1",
            "train.epochs=2",
        ]
    )
    assert result.steps == 36
    assert result.samples == 36


def test_a_conf_folder_of_the_users_hides_nothing(folder: Path) -> None:
    (folder / "conf").mkdir()
    done = headway("train", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "algorithms.linear.Linear" in done.stdout


def test_early_stopping_ends_training_when_nothing_improves(folder: Path) -> None:
    common = [FAULTY, "algorithm.lr=0.0", "train.epochs=20", "train.early_stopping.patience=2"]
    done = headway("train", *common, "job.name=still")
    assert done.returncode == 0, done.stderr
    result = Job(folder / "runs/still").result()
    assert result is not None
    assert result["epochs"] == 3


@pytest.mark.slow
def test_max_time_ends_training_with_a_model(folder: Path) -> None:
    done = headway(
        "train", FAULTY, "+algorithm.seconds=0.01", "train.max_time=1s", "launcher.workers=2", "job.name=short"
    )
    assert done.returncode == 0, done.stderr
    result = Job(folder / "runs/short").result()
    assert result is not None
    assert result["status"] == "Completed"
    assert 5 < result["steps"] < 500
    assert result["model"]


@pytest.mark.slow
def test_a_sweep_trains_each_value_and_survives_a_failure(folder: Path) -> None:
    done = headway("train", "-m", FAULTY, "+algorithm.how=raise,none", "+algorithm.rank=0", "train.epochs=1")
    assert done.returncode == 1
    states = sorted(str((Job(p).result() or {})["status"]) for p in (folder / "runs").glob("*/how=*"))
    assert states == ["Completed", "Failed"]


def test_predictions_of_the_command_are_those_of_python(trained: dict[int, trainer.Result], folder: Path) -> None:
    import pyarrow.parquet as pq

    done = headway("predict", f"model={trained[1].model}", "data=digits", "output=out.parquet")
    assert done.returncode == 0, done.stderr
    table = pq.read_table(folder / "out.parquet")
    from sklearn.datasets import load_digits

    x, _ = load_digits(return_X_y=True)
    assert trained[1].model is not None
    expected = trainer.load(trained[1].model).predict(x.astype(np.float32))["prediction"]
    assert table["prediction"].to_pylist() == expected.tolist()


@pytest.mark.slow
def test_a_batch_left_to_us_is_told_and_kept_when_the_job_goes_on(folder: Path) -> None:
    common = ["train", "algorithm=linear", "data=digits", "train.batch_size=auto", "train.log_every=1"]
    whole = headway(*common, "train.max_steps=40", "job.name=whole", "launcher.workers=2")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert "batch  64 samples (auto: more would leave fewer than 16 steps an epoch)" in whole.stdout
    assert "ddp (auto: 2 workers, 650 parameters fit each)" in whole.stdout
    job = Job(folder / "runs/whole")
    assert (job.result() or {})["batch_size"] == 64
    assert (job.result() or {})["samples"] > 0
    config = job.config_path.read_text()
    assert "batch_size: auto" in config


def test_predictions_carry_what_is_kept_and_the_probabilities_of_all_classes(folder: Path) -> None:
    rows = [f"r{i},{i % 7},{'ab'[i % 2]},{'xyz'[i % 3]}\n" for i in range(90)]
    Path("rows.csv").write_text("id,a,c,y\n" + "".join(rows))
    overrides = [
        "algorithm=linear",
        "data=csv",
        "data.label=y",
        "data.drop=[id]",
        "data.train=rows.csv",
        "train.epochs=1",
    ]
    model = trainer.train([*overrides, "job.name=one"]).model
    Path("new.csv").write_text("id,a,c\n" + "".join(f"n{i},{i % 7},{'aq'[i % 2]}\n" for i in range(5000)))
    told = headway(
        "predict", f"model={model}", "data=csv", "data.test=new.csv", "predict.keep=[id,2]", "output=out.csv"
    )
    assert told.returncode == 0
    assert "note: column 'c': 50% of the cells hold what training never saw, such as 'q'" in told.stderr
    lines = Path("out.csv").read_text().splitlines()
    assert lines[0] == '"id","c","prediction","probability_x","probability_y","probability_z"'
    assert [line.split(",")[0] for line in lines[1:]] == [f'"n{i}"' for i in range(5000)]
    wrong = headway("predict", f"model={model}", "data=csv", "data.test=new.csv", "predict.keep=[idd]")
    assert "new.csv has no column 'idd' (predict.keep): did you mean 'id'?" in wrong.stderr


def test_a_job_does_not_go_on_with_other_rows_unless_told_to(folder: Path) -> None:
    rows = [f"{i % 7},{i % 5},{i % 2}\n" for i in range(400)]
    Path("rows.csv").write_text("".join(rows))
    overrides = ["algorithm=linear", "data=csv", "data.header=false", "data.label=2", "data.train=rows.csv"]
    overrides += [
        "job.name=one",
        "train.epochs=40",
        "train.batch_size=4",
        "checkpoint.every=50",
        "launcher.notices=[file:leave]",
    ]
    running = start("train", *overrides)
    job = Job(folder / "runs/one")
    until(lambda: any(job.checkpoints.glob("step-*")), job)
    Path("leave").touch()
    assert running.wait(600) == 75
    Path("leave").unlink()
    Path("rows.csv").write_text("".join([*rows[1:], rows[0]]))
    refused = headway("resume", "one")
    assert refused.returncode == 2
    assert "data: the files hold something else than when the job began" in refused.stderr
    assert headway("resume", "one", "data.changed=accept").returncode == 0
