"""A user's mistake gets one line that says what, where and what to do, exit code 2, and no worker starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.cli.command import main

CSV = "age,city,price\n31,Rome,10\n45,Oslo,12\n27,Rome,11\n52,Oslo,15\n"


@pytest.fixture(autouse=True)
def files(folder: Path) -> Path:
    (folder / "good.csv").write_text(CSV)
    (folder / "empty.csv").write_text("")
    (folder / "latin.txt").write_bytes("caf\xe9 ".encode("latin-1") * 2000)
    (folder / "short.txt").write_text("too short")
    (folder / "cell.csv").write_text(CSV + "abc,Rome,13\n")
    (folder / "hole.csv").write_text(CSV + ",Rome,13\n")
    (folder / "ragged.csv").write_text(CSV + "1,Rome\n")
    (folder / "one_class.csv").write_text("a,b\n1,x\n2,x\n3,x\n")
    (folder / "mixed").mkdir()
    (folder / "mixed/a.csv").write_text(CSV)
    (folder / "mixed/b.jsonl").write_text("{}\n")
    (folder / "fake.parquet").write_text(CSV)
    (folder / "file").write_text("not a folder")
    return folder


BEFORE_A_JOB = {
    "unknown verb": (["trian"], ["'trian'", "did you mean 'train'"]),
    "unknown choice": (["train", "algorithm=linaer"], ["algorithm=linaer", "did you mean 'linear'"]),
    "unknown group": (["train", "algoritm=linear"], ["algoritm", "did you mean 'algorithm'"]),
    "unknown key": (["train", "train.epoch=3"], ["train.epoch", "did you mean 'train.epochs'"]),
    "unknown setting": (["train", "algorithm.lrr=3"], ["algorithm.lrr", "algorithm.lr"]),
    "a key like no other": (["train", "zzz=3"], ["zzz: there is no such key; there is algorithm, checkpoint"]),
    "a variable that is not set": (["train", "algorithm.lr=${oc.env:NOT_SET}"], ["algorithm.lr", "NOT_SET is not set"]),
    "a reference to nothing": (["train", "algorithm.lr=${nope}"], ["algorithm.lr: it refers to nope", "no such key"]),
    "a reference to itself": (["train", "algorithm.lr=${algorithm.lr}"], ["algorithm.lr: it refers to itself"]),
    "a variable of a study": (["tune", "algorithm.lr=${oc.env:NOT_SET}"], ["algorithm.lr", "NOT_SET is not set"]),
    "a reference of a prediction": (["predict", "model=${nope}", "data=digits"], ["it refers to nope"]),
    "a flag for a setting": (["train", "--lr", "0.1", "data=digits"], ["--lr", "write algorithm.lr=0.1"]),
    "a flag with its value": (["train", "data=digits", "--epochs=3"], ["--epochs=3", "write train.epochs=3"]),
    "a flag like no other": (["train", "--zzz"], ["--zzz: settings are overrides without dashes"]),
    "Hydra's place for configs": (["train", "--config-path=conf"], ["--config-path=conf", "--config-dir FOLDER"]),
    "Hydra's folder of a run": (["train", "hydra.run.dir=here"], ["hydra.run.dir", "job.dir"]),
    "Hydra's folder of a sweep": (["train", "-m", "hydra.sweep.dir=here", "seed=1,2"], ["hydra.sweep.dir", "job.dir"]),
    "a sweep's values in Hydra's node": (
        ["train", "-m", "+hydra.sweeper.params={job.seed: '1,2'}"],
        ["hydra.sweeper.params is for config files", "-m KEY=A,B"],
    ),
    "a value in Hydra's node": (
        ["train", "-m", "+hydra.sweeper.params.algorithm.lr='1,2'"],
        ["hydra.sweeper.params is for config files"],
    ),
    "several trackers": (["train", "tracking=[tensorboard,mlflow]"], ["tracking=[tensorboard,mlflow]", "one"]),
    "a word of Lightning's": (["train", "trainer.max_epochs=3"], ["trainer.max_epochs", "here it is train.epochs"]),
    "a word of the template's": (["train", "logger=csv"], ["logger", "tracking=tensorboard"]),
    "an experiment without its plus": (["train", "experiment=x"], ["experiment", "+experiment=NAME"]),
    "where to go on from": (["train", "ckpt_path=last.ckpt"], ["ckpt_path", "headway resume JOB"]),
    "several values for one job": (["train", "seed=1,2"], ["job.seed=1,2", "-m", "job.seed=[1,2]"]),
    "a key without its group": (["train", "max_steps=3"], ["max_steps", "did you mean 'train.max_steps'"]),
    "new keys of a mapping": (["train", "algorithm=xgboost", "algorithm.params={a: 1}"], ["+algorithm.params=…"]),
    "a space of a key without its group": (["tune", "lr=interval(0,1)"], ["lr", "did you mean 'algorithm.lr'"]),
    "a space that the schema contradicts": (["tune", "algorithm.lr=interval(-1,1)"], ["algorithm.lr", "-1"]),
    "a key that is fixed and searched": (["tune", "algorithm.lr=0.1", "algorithm.lr=0.1,0.2"], ["algorithm.lr"]),
    "an unknown search": (["tune", "search=bays"], ["search=bays", "did you mean 'bayes'"]),
    "an unknown scheduler": (["tune", "scheduler=ahsa"], ["scheduler=ahsa", "did you mean 'asha'"]),
    "an unknown key of a study": (["tune", "tune.trails=3"], ["tune.trails", "did you mean 'tune.trials'"]),
    "a goal that is none": (["tune", "tune.goal=maximum"], ["tune.goal", "'maximum'", "max"]),
    "no trials": (["tune", "tune.trials=0"], ["tune.trials", "more than 0"]),
    "a grid without an end": (["tune", "search=grid", "algorithm.lr=interval(0.1,1)"], ["search=grid", "bayes"]),
    "several metrics and a scheduler": (
        ["tune", "scheduler=asha", "tune.metric=[validation_loss,train_loss]"],
        ["scheduler=asha", "one metric"],
    ),
    "a constraint that nothing keeps": (
        ["tune", "algorithm.lr=interval(0.1,1)", "tune.constraints=['algorithm.lr > 2']"],
        ["algorithm.lr > 2"],
    ),
    "a point outside of the space": (
        ["tune", "algorithm.lr=interval(0.1,1)", "tune.start_from=[{algorithm.lr: 2}]"],
        ["algorithm.lr", "2"],
    ),
    "a study in a bucket": (["tune", "study.dir=s3://bucket/a"], ["study.dir", "local"]),
    "no such earlier study": (["tune", "tune.warm_start=[nothing]"], ["'nothing'"]),
    "no such study": (["tune", "resume", "nothing"], ["'nothing'"]),
    "wrong type": (["train", "train.batch_size=many"], ["train.batch_size", "'many'", "whole number", "auto"]),
    "half a sample": (["train", "train.batch_size=1.5"], ["train.batch_size", "1.5", "whole number"]),
    "wrong type of a setting": (["train", "algorithm.lr=fast"], ["algorithm.lr", "'fast'", "number"]),
    "out of range": (["train", "train.batch_size=0"], ["train.batch_size", "more than 0"]),
    "setting out of range": (["train", "algorithm.lr=-1"], ["algorithm.lr", "-1"]),
    "not a choice": (["train", "train.precision=bf61"], ["train.precision", "did you mean 'bf16'"]),
    "no duration": (["train", "train.max_time=soon"], ["train.max_time", "'soon'", "2h"]),
    "not an override": (["train", "epochs"], ["epochs"]),
    "a plus too many": (["train", "+algorithm.lr=3"], ["algorithm.lr", "without the +"]),
    "a delimiter for the grammar": (
        ["train", "data=csv", "data.delimiter=;"],
        ["data.delimiter=;: such a value needs quotes of its own: write 'data.delimiter=\";\"'"],
    ),
    "a label with brackets": (
        ["train", "data=csv", "data.label=price (USD)"],
        ["""write 'data.label="price (USD)"'"""],
    ),
    "a column with an umlaut": (
        ["train", "data=csv", "data.columns=[größe,a b,it's]"],
        ["write", """data.columns=["größe",a b,"it"""],
    ),
    "a name that is too long for a folder": (
        ["train", f"job.name='{'ü' * 200}'"],
        ["job.name: üüü", "has 400 bytes, and a folder's name can have 255"],
    ),
    "a folder that is too long": (["train", f"job.dir=/tmp/{'x' * 300}/job"], ["job.dir: xxx", "300 bytes"]),
    "a path that is too long": (["train", "job.dir=/tmp/" + "x/" * 2000], ["job.dir: /tmp/x/x", "give a shorter one"]),
    "a place on S3 that is too long": (
        ["train", f"job.dir=s3://bucket/{'x' * 900}"],
        ["job.dir: s3://bucket/xxx", "768 can be"],
    ),
    "a study's name that is too long": (["tune", f"study.name={'x' * 256}"], ["study.name: xxx", "256 bytes"]),
    "broken override": (["train", "+x=[1"], ["'+x=[1'", "KEY=VALUE"]),
    "no such class": (["train", "algorithm._target_=algorithms.linear.Linaer"], ["Linaer", "did you mean 'Linear'"]),
    "no such module": (["train", "algorithm._target_=nowhere.Mine"], ["nowhere"]),
    "no file": (["train", "data=csv", "data.train=god.csv", "data.label=price"], ["god.csv", "good.csv"]),
    "no path": (["train", "data=csv", "data.label=price"], ["data.train"]),
    "empty file": (["train", "data=csv", "data.train=empty.csv", "data.label=x"], ["empty.csv", "empty"]),
    "no label column": (
        ["train", "data=csv", "data.train=good.csv", "data.label=prize"],
        ["prize", "did you mean 'price'"],
    ),
    "no label given": (["train", "data=csv", "data.train=good.csv"], ["data.label"]),
    "mixed formats": (["train", "data=csv", "data.train=mixed", "data.label=price"], ["mixed"]),
    "not parquet": (["train", "data=parquet", "data.train=fake.parquet", "data.label=price"], ["fake.parquet"]),
    "not utf-8": (["train", "algorithm=gpt", "data=text", "data.train=latin.txt"], ["latin.txt", "UTF-8", "byte 3"]),
    "bad workers": (["train", "launcher.workers=0"], ["launcher.workers", "0"]),
    "single for two": (["train", "strategy=single", "launcher.workers=2", "job.dry_run=true"], ["strategy"]),
    "job name with slash": (["train", "job.name=a/b"], ["job.name", "job.dir"]),
    "job folder of another": (["train", "job.dir=mixed"], ["mixed"]),
    "job folder is a file": (["train", "job.dir=file"], ["file"]),
    "unwritable": (["train", "job.dir=/proc/nothing/here"], ["job.dir"]),
    "no job": (["show", "nothing"], ["nothing"]),
    "unknown flag": (["ls", "--jsn"], ["--jsn"]),
    "no model": (["predict", "model=nothing", "data=digits"], ["nothing"]),
    "model not given": (["predict", "data=digits"], ["model"]),
    "nothing to predict": (["predict", "model=x"], ["prompt"]),
    "an output for a prompt": (["predict", "model=x", "prompt=a", "output=x.csv"], ["output", "leave it out"]),
    "columns kept of a prompt": (
        ["predict", "model=x", "prompt=a", "predict.keep=[id]"],
        ["predict.keep", "leave it out"],
    ),
    "a prompt's options for rows": (
        ["predict", "model=x", "data=digits", "+generate.tokens=3"],
        ["generate.tokens", "prompt"],
    ),
    "rows to train on": (
        ["predict", "model=x", "data=csv", "data.train=x.csv", "data.test=x.csv"],
        ["data.train", "data.test"],
    ),
    "a label that has its place": (
        ["predict", "model=x", "data=libsvm", "data.test=x", "data.label=0"],
        ["data=libsvm doesn't use data.label"],
    ),
    "a trial's own name": (["tune", "job.name=x"], ["job.name", "study.name"]),
    "a trial's own folder": (["tune", "job.dir=x"], ["job.dir", "study.dir"]),
    "a dry run of trials": (["tune", "job.dry_run=true"], ["job.dry_run", "study.dry_run"]),
    "a study that is left": (["tune", "job.detach=true"], ["job.detach", "leave it out"]),
    "unknown output": (["predict", "model=x", "data=digits", "output=x.xls"], ["x.xls", ".csv"]),
}


@pytest.mark.parametrize("case", BEFORE_A_JOB)
def test_a_mistake_is_said_in_one_line_before_there_is_a_job(
    case: str, files: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, says = BEFORE_A_JOB[case]
    assert main(arguments) == 2
    output, errors = capfd.readouterr()
    lines = errors.strip().splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    for words in says:
        assert words in lines[0]
    assert not output.strip()
    assert not (files / "runs").exists()
    assert not (files / "studies").exists()


WHEN_THE_DATA_IS_READ = {
    "not a number": (["data.train=cell.csv", "data.label=price"], ["cell.csv", "6", "'age'", "'abc'"]),
    "missing cell": (["data.train=hole.csv", "data.label=price"], ["hole.csv", "6", "'age'", "missing"]),
    "ragged row": (["data.train=ragged.csv", "data.label=price"], ["ragged.csv", "6"]),
    "single class": (["data.train=one_class.csv", "data.label=b"], ["'b'", "'x'"]),
    "fewer samples than workers": (
        ["data.train=good.csv", "data.label=price", "launcher.workers=4", "data.validation=0.25"],
        ["3", "4 workers", "launcher.workers"],
    ),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.slow] if at > 1 else []) for at, case in enumerate(WHEN_THE_DATA_IS_READ)],
)
@pytest.mark.slow
def test_a_mistake_found_while_reading_fails_the_job_with_the_same_line(
    case: str, files: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from trainer.job.directory import Job

    overrides, says = WHEN_THE_DATA_IS_READ[case]
    assert main(["train", "data=csv", *overrides, "job.name=bad"]) == 2
    output, errors = capfd.readouterr()
    last = (errors.strip() or output.strip()).splitlines()[-1]
    result = Job(files / "runs/bad").result()
    assert result is not None
    assert result["status"] == "Failed"
    for words in says:
        assert words in last
        assert words in result["error"]["message"]
    assert "Traceback" not in output + errors


def test_more_gpus_than_there_are(
    files: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert main(["train", "launcher.workers=3"]) == 2
    assert "launcher.workers: 3 workers need as many GPUs, and this machine has 2" in capfd.readouterr().err
    assert not (files / "runs").exists()
