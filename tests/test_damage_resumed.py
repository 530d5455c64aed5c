"""A job goes on after a loss of power, or one line names the file that keeps it from going on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.jobs import end, progress, validate
from tests.test_damage import DAMAGES, FEW, FILES, OTHERS
from trainer.cli.command import main
from trainer.config import schema
from trainer.config.compose import compose
from trainer.errors import UserError
from trainer.job.directory import Job, State, write_json
from trainer.submission.plan import Planned
from trainer.submission.resume import resumed
from trainer.submission.run import planned
from trainer.submission.submit import prepare, write

POWER_CUTS = [
    ("events.jsonl", "cut"),
    ("events.jsonl", "zeros at its end"),
    ("metrics.jsonl", "cut"),
    ("metrics.jsonl", "zeros at its end"),
    ("metrics.jsonl", "bad bytes"),
    ("result.json", "empty"),
    ("result.json", "zeroed"),
    ("logs/progress.json", "empty"),
    ("logs/progress.json", "cut"),
    ("logs/node-0.json", "zeroed"),
    ("submission/submission.json", "empty"),
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that was interrupted, with a config as the command writes it."""
    folder = tmp_path_factory.mktemp("resumed")
    config = schema.check(compose(["algorithm=linear", "data=digits", "train.max_steps=20", "tracking=none"]))
    config["job"].update(name="job", dir=str(folder / "job"))
    job = write(Job(folder / "job"), config, is_new=True)
    job.add_event(State.STARTING, attempt=0, workers=1)
    job.add_event(State.RUNNING, attempt=0, step=0, world_size=1, maximize=["accuracy"])
    validate(job, 10, validation_loss=0.5)
    progress(job, 10)
    end(job, State.INTERRUPTED)
    for name in OTHERS:
        write_json(job.dir / name, {"id": "7", "time": 1.0, "what": "go on", "number": 1, "members": [], "code": []})
    return job.dir


@pytest.fixture
def job(folder: Path, template: Path) -> Job:
    shutil.copytree(template, folder / "runs/job")
    return Job(folder / "runs/job")


@pytest.mark.parametrize("name", [*FILES, *OTHERS])
def test_what_keeps_a_job_from_going_on_is_named_in_one_line(name: str, folder: Path, template: Path) -> None:
    for number, how in enumerate(DAMAGES if name in FILES else FEW):
        shutil.copytree(template, folder / f"{number}/job")
        job = Job(folder / f"{number}/job")
        DAMAGES[how](job.dir / name)
        said = problem(job)
        if said is None:
            assert job.state() is State.PENDING, how
            continue
        assert len(said.splitlines()) == 1, how
        assert (name, how) not in POWER_CUTS, said
        assert Path(name).name in said or name == "config.yaml", (how, said)


def problem(job: Job) -> str | None:
    """What keeps it from going on."""
    try:
        if isinstance(one := planned(schema.check(resumed(job, []))), Planned):
            prepare(one)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.slow
def test_after_a_loss_of_power_a_job_goes_on_to_its_end(
    job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launchers.local.AGENT_START_SECONDS", 0.0)  # the power was lost long ago
    for name, how in POWER_CUTS:
        DAMAGES[how](job.dir / name)
    assert main(["resume", "job"]) == 0, capsys.readouterr()
    assert (job.state(), (job.result() or {})["steps"]) == (State.COMPLETED, 20)
    # and once more, after it has ended
    job.result_path.write_text("")
    assert main(["resume", "job"]) == 0, capsys.readouterr()
    assert (job.result() or {})["status"] == "Completed"


@pytest.mark.parametrize("name", ["artifact.json", "schema.json", "model.safetensors"])
@pytest.mark.parametrize(
    "how", ["missing", "empty", "zeroed", "bad bytes", "null", "a list", "an empty record", "cut", "a folder"]
)
def test_a_damaged_model_is_named(
    name: str, how: str, model: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (model / name).exists():
        pytest.skip("the model has no such file")
    shutil.copytree(model, folder / "model")
    DAMAGES[how](folder / "model" / name)
    capsys.readouterr()
    assert main(["predict", f"model={folder}/model", "data=digits"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import trainer

    place = tmp_path_factory.mktemp("model") / "job"
    options = ["algorithm=linear", "data=digits", "train.max_steps=5", "tracking=none", f"job.dir={place}"]
    return Path(str(trainer.train(options).model))
