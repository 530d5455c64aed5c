"""`data.test` is scored at the end of a training, as the validation is; what can't be scored is said, or refused at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import trainer
from trainer.cli.command import main
from trainer.job.directory import Job

Write = Callable[..., str]


@pytest.fixture
def folder(warm_folder: Path) -> Path:
    return warm_folder


@pytest.fixture
def rows(folder: Path) -> Write:
    """Writes `n` rows of y = 3a - b."""

    def write(name: str, n: int, *, label: bool = True, classes: bool = False, header: bool = True) -> str:
        table = np.random.default_rng(len(name)).random((n, 2))
        lines = [["a", "b", *(["y"] if label else [])]] if header else []
        for a, b in table.tolist():
            y = 3 * a - b
            cells: list[object] = [a, b, *([("high" if y > 1 else "low") if classes else y] if label else [])]
            lines.append([str(cell) for cell in cells])
        (folder / name).write_text("".join(",".join(line) + "\n" for line in lines))
        return name

    return write


def scores(name: str) -> dict[str, float]:
    metrics = (Job(Path("runs", name)).result() or {})["metrics"]
    return {key: figure["last"]["value"] for key, figure in metrics.items() if key.startswith("test_")}


@pytest.mark.parametrize("algorithm", ["linear", "xgboost"])
@pytest.mark.parametrize("classes", [False, True])
def test_the_model_is_scored_on_the_test_rows(rows: Write, algorithm: str, classes: bool) -> None:
    given = {"train": rows("train.csv", 300, classes=classes), "test": rows("test.csv", 80, classes=classes)}
    result = trainer.train(
        ["data=csv", "data.label=y", f"algorithm={algorithm}", "job.name=a", "launcher.workers=2"],
        **{f"data.{role}": name for role, name in given.items()},
    )
    assert result.model
    model = trainer.load(result.model)
    table = [line.split(",") for line in Path("test.csv").read_text().splitlines()[1:]]
    x = {"a": [float(a) for a, _, _ in table], "b": [float(b) for _, b, _ in table]}
    found, label = model.predict(x)["prediction"], np.array([y for _, _, y in table])
    told = scores("a")
    if classes:
        assert told["test_accuracy"] == pytest.approx((found == label).mean())
    else:
        assert told["test_rmse"] == pytest.approx(np.sqrt(np.mean((found - label.astype(float)) ** 2)), rel=1e-5)
    assert model.metrics["test_loss"] == told["test_loss"]
    validated = {name.removeprefix("validation_") for name in result.metrics if name.startswith("validation_")}
    assert {name.removeprefix("test_") for name in told} == validated


def test_it_stands_where_figures_stand(rows: Write, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["data=csv", "data.label=y", f"data.train={rows('train.csv', 100)}", f"data.test={rows('test.csv', 30)}"]
    assert main(["train", *common, "train.epochs=2", "job.name=a"]) == 0
    said = capsys.readouterr().out
    assert "90 samples × 2 columns, 10 to validate, 30 to test" in said
    assert "test_rmse" in said.partition("Completed")[2]
    assert main(["show", "a"]) == 0
    assert "test_rmse" in capsys.readouterr().out


def test_rows_without_the_label_are_not_scored_and_that_is_told(
    rows: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["data=csv", "data.label=y", "train.epochs=1", f"data.train={rows('train.csv', 100)}", "job.name=a"]
    assert main(["train", *common, f"data.test={rows('bare.csv', 30, label=False)}"]) == 0
    assert "data.test has no column 'y', so nothing is scored on it" in capsys.readouterr().out
    assert scores("a") == {}
    # of a job that is done, it is scored later
    assert main(["resume", "a", f"data.test={rows('test.csv', 30)}"]) == 0
    assert "test_rmse" in scores("a")


def test_without_names_a_narrower_file_is_one_without_the_label(
    rows: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    train, bare = rows("train.csv", 100, header=False), rows("bare.csv", 30, label=False, header=False)
    common = ["data=csv", "data.header=false", "data.label=0", f"data.train={train}", "train.epochs=1"]
    assert main(["train", *common, f"data.test={bare}"]) == 0
    assert "data.test has no column '0', so nothing is scored on it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ("a,c,y\n1,2,3\n", "test.csv has no column 'b', which the training data has: there is a, c, y"),
        (None, "test.csv: there is no such file"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_there_is_a_job(
    rows: Write, capsys: pytest.CaptureFixture[str], test: str | None, says: str
) -> None:
    if test is not None:
        Path("test.csv").write_text(test)
    common = ["data=csv", "data.label=y", f"data.train={rows('train.csv', 50)}", "data.test=test.csv", "job.name=a"]
    assert main(["train", *common]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line
    assert not Path("runs").exists()


def test_a_class_that_training_has_not_is_refused(rows: Write) -> None:
    Path("test.csv").write_text("a,b,y\n1,2,high\n1,2,middling\n")
    with pytest.raises(trainer.HeadwayError, match="'middling' is no class of the training data"):
        trainer.train(
            ["data=csv", "data.label=y", f"data.train={rows('train.csv', 99, classes=True)}", "data.test=test.csv"]
        )


def test_data_that_a_library_ships_has_no_test_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "data=digits", "data.test=test.csv"]) == 2
    assert "takes no paths" in capsys.readouterr().err


def test_text_is_scored(folder: Path) -> None:
    Path("train.txt").write_text("the cat sat on the mat. " * 200)
    Path("test.txt").write_text("the mat sat on the cat. " * 20)
    small = ["algorithm.layers=1", "algorithm.width=16", "algorithm.heads=1", "algorithm.context=16"]
    data = ["data=text", "data.train=train.txt", "data.test=test.txt"]
    trainer.train(["algorithm=gpt", *small, *data, "train.max_steps=5", "job.name=a"])
    assert {"test_loss", "test_perplexity"} <= scores("a").keys()


OWN = """\
import numpy as np
from trainer import Estimator
class Mean(Estimator):
    def fit(self, context):
        self.mean = float(np.mean(np.concatenate([y for _, y in context.train.chunks()])))
        context.report(1, {"train_loss": 0.0})
    def predict(self, batch):
        return {"prediction": np.full(len(batch.x), self.mean)}
"""


def test_an_estimator_of_ones_own_is_scored_by_what_it_predicts(rows: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own.py").write_text(OWN)
    monkeypatch.syspath_prepend(".")
    data = ["data=csv", "data.label=y", f"data.train={rows('train.csv', 100)}", f"data.test={rows('test.csv', 30)}"]
    trainer.train(["algorithm._target_=own.Mean", *data, "data.validation=null", "job.name=a"])
    y = np.array([float(line.split(",")[2]) for line in Path("test.csv").read_text().splitlines()[1:]])
    mean = np.mean([float(line.split(",")[2]) for line in Path("train.csv").read_text().splitlines()[1:]])
    found = scores("a")
    assert found["test_rmse"] == pytest.approx(np.sqrt(np.mean((y - mean) ** 2)), rel=1e-5)
    assert found["test_mae"] == pytest.approx(np.mean(np.abs(y - mean)), rel=1e-5)
    assert found["test_r2"] == pytest.approx(1 - np.mean((y - mean) ** 2) / np.var(y), abs=1e-5)
