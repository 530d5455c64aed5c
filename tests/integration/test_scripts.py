"""Training scripts written for SageMaker, in the styles that are met, run as they are by the real command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.algorithms import open_mpi
from tests.integration.command import headway, start
from tests.integration.test_s3 import Machine
from trainer.job import node_state
from trainer.job.directory import Job, State
from trainer.testing.chaos.s3 import Server

WILD = Path(__file__).parents[1] / "wild"
LOSS = '+algorithm.metrics.loss="loss=([0-9.]+)"'
EPOCH = '+algorithm.metrics.epoch="epoch=([0-9]+)"'
WAIT = 600.0  # at most, for what is bound to come

pytestmark = pytest.mark.slow


def arguments(script: str, *more: str, entry: str = "train.py") -> list[str]:
    return [
        *("train", "algorithm=script", f"algorithm.source_dir={WILD / script}", f"algorithm.entry={entry}"),
        *("job.name=one", *more),
    ]


def run(script: str, *more: str, entry: str = "train.py") -> Job:
    """A job that has completed."""
    done = headway(*arguments(script, *more, entry=entry))
    job = Job(Path("runs/one").absolute())
    logs = "\n".join(path.read_text("utf-8", "replace") for path in job.logs.glob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return job


def files_of(archive: Path) -> list[str]:
    with tarfile.open(archive) as opened:
        return sorted(opened.getnames())


def log(job: Job, attempt: int = 0, rank: int = 0) -> str:
    return job.log_path(attempt, rank).read_text("utf-8", "replace")


def values(job: Job, name: str) -> list[float]:
    return [line["values"][name] for line in job.metrics() if name in line["values"]]


@pytest.fixture
def data(folder: Path) -> Path:
    """A channel's folder."""
    (folder / "data").mkdir()
    (folder / "data" / "rows.csv").write_text("1,2,3\n0,1,2\n", encoding="utf-8")
    return folder / "data"


def test_ddp_trains_over_all_workers(folder: Path) -> None:
    loss = "algorithm.metric_definitions=[{Name: 'train:loss', Regex: 'Train Loss: (.*?);'}]"
    distribution = "algorithm.distribution={torch_distributed: {enabled: true}}"
    job = run("pytorch_ddp", distribution, "launcher.workers=2", loss, "+algorithm.hyperparameters.epochs=4")
    assert files_of(job.dir / "output/model.tar.gz") == ["model.pth"]
    assert (job.model / "model.pth").is_file()
    world = json.loads((job.dir / "opt/ml/output/data/world.json").read_text())
    assert world == {"world_size": 2, "hosts": ["algo-1"]}
    assert [line["step"] for line in job.metrics()] == [1, 2, 3, 4]


def test_ddp_trains_over_all_nodes(folder: Path) -> None:
    job = run("pytorch_ddp", "algorithm.distribution=torch_distributed", "launcher.nodes=2", "launcher.workers=1")
    world = json.loads((job.dir / "opt/algo-1/ml/output/data/world.json").read_text())
    assert world == {"world_size": 2, "hosts": ["algo-1", "algo-2"]}


def test_hosts_find_each_other_by_their_names(data: Path) -> None:
    more = [f"+data.channels.training={data}", "+algorithm.hyperparameters.backend=gloo"]
    job = run("pytorch_mnist_hosts", "launcher.nodes=2", "launcher.workers=1", *more, entry="mnist.py")
    assert files_of(job.dir / "output/model.tar.gz") == ["model-algo-1.pth", "model-algo-2.pth"]
    assert "Average loss: 0.2000" in log(job)


def test_scikit_learn_keeps_its_model_with_joblib(data: Path) -> None:
    more = [f"+data.channels.train={data}", "+algorithm.hyperparameters.max_leaf_nodes=5"]
    job = run("sklearn_joblib", *more, entry="iris.py")
    assert "train accuracy: 1.0" in log(job)
    assert files_of(job.dir / "output/model.tar.gz") == ["model.joblib"]
    refused = headway("predict", f"model={job.model}", "data=csv", f"data.test={data}")
    assert refused.returncode == 2
    assert "only code of its own can read it" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_xgboost_reports_its_rounds(folder: Path) -> None:
    for name in ("train", "validation"):
        (folder / name).mkdir()
        rows = "".join(f"{i % 7} 1:{i % 5} 2:{i % 3}\n" for i in range(60))
        (folder / name / "abalone.libsvm").write_text(rows, encoding="utf-8")
    hyperparameters = {"max_depth": 3, "eta": 0.2, "objective": "'reg:squarederror'", "num_round": 8}
    more = [f"+algorithm.hyperparameters.{name}={value}" for name, value in hyperparameters.items()]
    more += ["+data.channels.train=train", "+data.channels.validation=validation"]
    regex = (
        r"algorithm.metric_definitions=[{Name: 'validation:rmse', Regex: '.*\[[0-9]+\].*#011validation-rmse:(\S+)'}]"
    )
    job = run("xgboost_abalone", *more, regex, entry="abalone.py")
    assert len(values(job, "validation:rmse")) == 8
    assert (job.model / "xgboost-model").is_file()
    assert [p.name for p in job.own_state.iterdir()] == ["xgboost-checkpoint.8"]


def test_a_shell_script_is_run_with_quoted_arguments(data: Path) -> None:
    words = "+algorithm.hyperparameters.words='two  words \"q\" $HOME'"
    more = [f"+data.channels.training={data}", words, "+algorithm.hyperparameters.n=3", LOSS]
    job = run("shell_entry", *more, entry="train.sh")
    assert (job.model / "words.txt").read_text() == 'two  words "q" $HOME'
    assert files_of(job.dir / "output/output.tar.gz") == ["files.txt"]
    assert values(job, "loss") == [0.9, 0.8, 0.7]


def test_arguments_of_every_type_are_parsed(folder: Path) -> None:
    given = {
        **{"epochs": "3", "learning-rate": "1e-05", "optimizer": "adam", "shuffle": "true", "literal": "false"},
        **{"layers": "[64,32]", "title": "'a b'", "nothing": "null", "big": "12345678901234567890", "s": "x"},
        "more": "{b: 2, a: 1}",
    }
    job = run("argparse_types", *(f"+algorithm.hyperparameters.{name}={value}" for name, value in given.items()))
    assert json.loads((job.model / "args.json").read_text()) == {
        **{"epochs": 3, "learning_rate": 1e-5, "optimizer": "adam", "shuffle": True, "literal": False},
        **{"layers": [64, 32], "title": "a b", "nothing": "", "big": 12345678901234567890, "s": "x"},
        "unknown": ["--more", "a=1,b=2"],
    }


def test_variables_and_files_tell_the_same(data: Path) -> None:
    (data.parent / "one.txt").write_text("a file alone", encoding="utf-8")
    more = [f"+data.channels.training={data}", "+data.channels.one=one.txt", "+algorithm.hyperparameters.lr=0.1"]
    job = run("reads_hps", *more, "+algorithm.hyperparameters.layers=[1,2]")
    assert json.loads((job.model / "found.json").read_text()) == {
        "hps": {"lr": 0.1, "layers": [1, 2]},
        "channels": {"training": ["rows.csv"], "one": ["one.txt"]},
    }


def test_requirements_are_installed_once(folder: Path) -> None:
    done = headway(*arguments("with_requirements"))
    if "No matching distribution found for tabulate" in done.stderr:
        pytest.skip("needs a package index, to install from")
    assert done.returncode == 0, done.stdout + done.stderr
    job = Job(folder / "runs/one")
    assert "requirements.txt: tabulate==0.9.0\n" in log(job)  # numpy is there
    assert "0.1" in (job.model / "table.txt").read_text()


def test_a_requirement_that_can_not_be_had_is_one_line(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "train.py").touch()
    (folder / "src" / "requirements.txt").write_text("numpy==0.0.1\n", encoding="utf-8")
    done = headway("train", "algorithm=script", "algorithm.source_dir=src")
    assert done.returncode == 2
    assert "requirements.txt: Could not find a version that satisfies the requirement numpy==0.0.1" in done.stderr


def test_a_package_runs_as_a_module(folder: Path) -> None:
    job = run("package_entry", entry="my_training.train")
    assert (job.model / "words.txt").read_text() == "from a package"


def test_a_script_that_knows_only_opt_ml_finds_it(data: Path) -> None:
    if os.geteuid() and not Path("/opt/ml").exists():
        pytest.skip("needs root, or a kernel that lets users mount")
    before = Path("/opt/ml").exists()
    more = [f"+data.channels.training={data}", "+algorithm.hyperparameters.depth=3"]
    job = run("hard_coded_paths", *more)
    assert json.loads((job.model / "seen.json").read_text()) == {"depth": 3, "files": ["rows.csv"]}
    assert (job.own_state / "last.txt").read_text() == "1"
    assert Path("/opt/ml").exists() == before  # for nobody else


def test_a_program_of_an_image_finds_plain_text_in_its_files(data: Path) -> None:
    more = [f"+data.channels.training={data}", "algorithm.container_arguments=[train]"]
    more += ["+algorithm.hyperparameters.max_depth=3", "+algorithm.hyperparameters.criterion=entropy"]
    job = run("image_program", *more, entry="train")
    told = {"criterion": "entropy", "depth": 3, "rows": 2, "params": ["criterion", "max_depth"]}
    assert json.loads((job.model / "tree.json").read_text()) == told


def test_a_script_for_modeltrainer_is_known_by_its_variables(folder: Path) -> None:
    given = {
        "shuffle": "true",
        "layers": "[64,32]",
        "optimizer": "{name: adam}",
        "name": "'a b'",
        "learning-rate": "0.1",
    }
    more = [f"+algorithm.hyperparameters.{name}={value}" for name, value in given.items()]
    job = run("modeltrainer", *more, "algorithm.distribution=torch_distributed", "launcher.workers=2")
    assert json.loads((job.model / "told.json").read_text()) == {
        **{"shuffle": True, "layers": [64, 32], "optimizer": {"name": "adam"}, "name": "a b", "learning_rate": 0.1},
        **{"processes": 2, "hosts": 1, "entry": "train.py"},
    }
    assert "[headway] dialect sdk3: train.py reads SM_" in log(job)


def test_the_failure_file_says_why(folder: Path) -> None:
    done = headway(*arguments("writes_failure"))
    assert done.returncode == 1
    error = (Job(folder / "runs/one").result() or {})["error"]
    assert error["type"] == "ExecuteUserScriptError"
    assert error["message"].startswith("Exception during training: the label column 'target' is missing")
    assert len(error["message"]) <= 1024
    assert "Traceback" in (folder / "runs/one/output/failure").read_text()


def test_a_script_that_writes_no_failure_file_fails_with_its_error_and_where(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "train.py").write_text("def go():\n    raise KeyError('label')\n\ngo()\n", encoding="utf-8")
    done = headway("train", "algorithm=script", "algorithm.source_dir=src", "job.name=one")
    assert done.returncode == 1
    error = (Job(folder / "runs/one").result() or {})["error"]
    assert error["message"] == "train.py ended with exit code 1: KeyError: 'label' (train.py:2 in go)"
    text = (folder / "runs/one/output/failure").read_text()
    assert text.startswith("ExecuteUserScriptError:\nExitCode 1\nErrorMessage \"KeyError: 'label'\"\nCommand ")


def test_a_script_out_of_memory_is_told_so(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "train.py").write_text("import os\nos.kill(os.getpid(), 9)\n", encoding="utf-8")
    done = headway("train", "algorithm=script", "algorithm.source_dir=src", "job.name=one")
    assert done.returncode == 1
    assert "exit code 137" in (Job(folder / "runs/one").result() or {})["error"]["message"]
    assert "OutOfMemory" in (folder / "runs/one/output/failure").read_text()


def test_figures_are_read_from_the_log_whatever_draws_over_it(folder: Path) -> None:
    definitions = (
        r"algorithm.metric_definitions=[{Name: 'validation:auc', Regex: '.*\[[0-9]+\].*#011validation-auc:(\S+)'},"
        "{Name: loss, Regex: 'loss: (.*?) '},{Name: val_accuracy, Regex: 'val_accuracy: (.*?);'}]"
    )
    job = run("metric_regexes", definitions)
    assert [line["step"] for line in job.metrics()] == [1, 2, 3, 4, 5]
    assert values(job, "val_accuracy") == pytest.approx([0.55, 0.6, 0.65, 0.7, 0.75])
    assert len(values(job, "loss")) == len(values(job, "validation:auc")) == 5


# interruptions


def wait_for(what: str, job: Job, condition: Callable[[], object]) -> None:
    until = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < until, f"{what} did not come: {job.dir}"
        time.sleep(0.1)


@pytest.mark.promise
def test_a_script_goes_on_from_its_checkpoints(folder: Path) -> None:
    given = arguments("checkpoints", "+algorithm.hyperparameters.epochs=15", LOSS, EPOCH)
    process, job = start(*given), Job(folder / "runs/one")
    wait_for("a report", job, lambda: len(job.metrics()) >= 3)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 130, output
    assert job.state() is State.STOPPED
    assert "keeps nothing" not in output
    run("checkpoints", "+algorithm.hyperparameters.epochs=15", LOSS, EPOCH)
    state = json.loads((job.model / "state.json").read_text())
    assert state == {"epoch": 15, "sessions": 2}
    assert [line["step"] for line in job.metrics()] == list(range(1, 16))
    assert "Checkpoint file found!" in log(job, attempt=1)


def test_a_worker_that_dies_takes_its_script_along_and_both_are_started_again(folder: Path) -> None:
    given = arguments("checkpoints", "+algorithm.hyperparameters.epochs=20", LOSS, EPOCH)
    process, job = start(*given), Job(folder / "runs/one")
    wait_for("a report", job, lambda: len(job.metrics()) >= 3)
    (worker,) = job.workers()
    children = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _root_of(int(p.name)) == job.dir]
    os.kill(worker, signal.SIGKILL)
    wait_for("the end of its script", job, lambda: not any(node_state.process_lives(pid) for pid in children))
    process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert json.loads((job.model / "state.json").read_text())["epoch"] == 20
    assert (job.result() or {})["attempts"] == 2


def _root_of(pid: int) -> Path | None:
    """The job of a script's process."""
    try:
        lines = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    told = [os.fsdecode(line.partition(b"=")[2]) for line in lines if line.startswith(b"SAGEMAKER_BASE_DIR=")]
    return Path(told[0]).parents[1] if told else None


def test_a_script_that_keeps_nothing_is_named_when_it_is_interrupted(folder: Path) -> None:
    process, job = start(*arguments("ignores_checkpoints", LOSS)), Job(folder / "runs/one")
    wait_for("a report", job, lambda: len(job.metrics()) >= 3)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 130, output
    assert "train.py keeps nothing in its checkpoint folder" in output
    assert [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and _root_of(int(pid.name)) == job.dir] == []


def test_sigterm_comes_first_and_a_script_that_then_ends_well_is_still_stopped(folder: Path) -> None:
    (folder / "src").mkdir()
    text = (
        "import os, signal, sys, time\n"
        "def leave(*_):\n"
        "    open(os.environ['SM_MODEL_DIR'] + '/last', 'w').write('saved')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "for _ in range(600):\n"
        "    print('loss=1', flush=True)\n"
        "    time.sleep(0.1)\n"
    )
    (folder / "src" / "train.py").write_text(text, encoding="utf-8")
    process = start("train", "algorithm=script", "algorithm.source_dir=src", LOSS, "job.name=one")
    job = Job(folder / "runs/one")
    wait_for("a report", job, lambda: job.metrics())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=WAIT)
    assert job.state() is State.STOPPED
    assert files_of(job.dir / "output/model.tar.gz") == ["last"]


def test_what_was_submitted_goes_on_though_its_folder_is_gone(folder: Path) -> None:
    (folder / "src").mkdir()
    text = (WILD / "checkpoints" / "train.py").read_text(encoding="utf-8")
    (folder / "src" / "train.py").write_text(text, encoding="utf-8")
    given = [LOSS, EPOCH, "+algorithm.hyperparameters.epochs=12", "job.name=one"]
    process = start("train", "algorithm=script", "algorithm.source_dir=src", *given)
    job = Job(folder / "runs/one")
    wait_for("a report", job, lambda: job.metrics())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=WAIT)
    (folder / "src" / "train.py").unlink()
    (folder / "src").rmdir()
    done = headway("resume", "one")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((job.model / "state.json").read_text())["epoch"] == 12


# with the rest of Headway


def test_training_stops_early_by_a_figure_of_the_log(folder: Path) -> None:
    early = [
        "train.early_stopping.metric=loss",
        "train.early_stopping.patience=3",
        "train.early_stopping.min_delta=0.1",
    ]
    job = run("ignores_checkpoints", LOSS, *early)
    assert job.last_event()["reason"] == "stopped early"
    assert len(values(job, "loss")) < 50


def test_a_search_tunes_a_scripts_hyperparameters(folder: Path) -> None:
    loss = "algorithm.metric_definitions=[{Name: loss, Regex: 'loss: (.*?) '}]"
    done = headway(
        *("tune", "algorithm=script", f"algorithm.source_dir={WILD / 'metric_regexes'}", loss, "tune.metric=loss"),
        *("algorithm.hyperparameters.lr=interval(0,1)", "tune.trials=4", "scheduler=asha", "study.name=one"),
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trials = [Job(path) for path in sorted(Path("studies/one/trials").iterdir())]
    assert len(trials) == 4
    assert len({json.dumps(values(job, "loss")) for job in trials}) == 4


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["algorithm.entry=trian.py"], "algorithm.entry: there is no trian.py in"),
        (["algorithm.source_dir=nowhere"], "algorithm.source_dir: there is no folder"),
        (["+data.channels.train=nowhere"], "data.channels.train: there is no file or folder"),
        (['+algorithm.metrics.loss="loss=(.*"'], "is no regular expression"),
        (["data=csv"], "script takes data=channels"),
        (["+data.train=x.csv"], "data.train: data=channels has none; write +data.channels.train="),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(folder: Path, more: list[str], words: str) -> None:
    done = headway(*arguments("checkpoints"), *more)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("runs").exists()


def test_a_scripts_checkpoints_are_on_s3_and_brought_to_another_machine(tmp_path: Path) -> None:
    url = "s3://bucket/jobs/one"
    with Server("bucket", seed=1) as s3:
        one, other = Machine(s3, tmp_path / "one"), Machine(s3, tmp_path / "other")
        channel = ["+data.channels.training=s3://bucket/in/data", "+data.channels.one=s3://bucket/in/data/rows.csv"]
        channel.append(f"job.dir={url}")
        s3.put("bucket", "in/data/rows.csv", b"1,2\n")
        script = ["algorithm=script", f"algorithm.source_dir={WILD / 'checkpoints'}", LOSS, EPOCH]
        slow = ["+algorithm.hyperparameters.epochs=60", "+algorithm.hyperparameters.sleep=0.4"]
        process = one.start("train", *script, *slow, *channel)
        until = time.monotonic() + WAIT
        while "jobs/one/opt/ml/checkpoints.json" not in s3.stored("bucket"):
            assert time.monotonic() < until
            time.sleep(0.1)
        agent = json.loads((one.staged / "logs/node-0.json").read_text())["agent"]
        os.kill(agent, signal.SIGKILL)
        process.communicate(timeout=WAIT)
        shutil.rmtree(one.staged)
        other.headway("resume", url)
        state = json.loads(s3.stored("bucket")["jobs/one/model/state.json"].data)
        assert state == {"epoch": 60, "sessions": 2}
        assert "jobs/one/output/model.tar.gz" in s3.stored("bucket")
        for name in ("training", "one"):
            assert (other.staged / "opt/ml/input/data" / name / "rows.csv").read_text() == "1,2\n"


def test_of_several_hosts_the_one_that_failed_is_told(folder: Path) -> None:
    (folder / "src").mkdir()
    text = (
        "import os, time\n"
        "time.sleep(0.5)\n"
        "if os.environ['SM_CURRENT_HOST'] == 'algo-2':\n"
        "    raise RuntimeError('a bad host')\n"
        "time.sleep(60)\n"
    )
    (folder / "src" / "train.py").write_text(text, encoding="utf-8")
    nodes = ["launcher.nodes=2", "launcher.workers=2"]
    done = headway("train", "algorithm=script", "algorithm.source_dir=src", "job.name=one", *nodes)
    assert done.returncode == 1
    job = Job(folder / "runs/one")
    error = (job.result() or {})["error"]
    assert error["message"] == "train.py ended with exit code 1: RuntimeError: a bad host (train.py:4)"
    assert "keeps nothing" not in log(job)


def test_a_node_that_is_done_first_is_not_taken_for_lost(folder: Path) -> None:
    text = """
import time
from trainer import Estimator

class Slow(Estimator):
    supervised = False
    def fit(self, context):
        context.report(1, {"loss": 1.0})
    def predict(self, batch):
        return {}
    def save(self, folder):
        time.sleep(3)
"""
    (folder / "slow.py").write_text(text, encoding="utf-8")
    done = headway("train", "algorithm._target_=slow.Slow", "launcher.nodes=2", "launcher.workers=1", "job.name=one")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (Job(folder / "runs/one").result() or {})["attempts"] == 1


def test_mpi_spreads_a_script_over_all_nodes(folder: Path) -> None:
    open_mpi.needed()
    (folder / "src").mkdir()
    text = (
        "import os\n"
        "rank, size = os.environ['OMPI_COMM_WORLD_RANK'], os.environ['OMPI_COMM_WORLD_SIZE']\n"
        "open(os.environ['SM_MODEL_DIR'] + f'/rank-{rank}', 'w').write(f\"{size} {os.environ['SM_CURRENT_HOST']}\")\n"
        "print('loss=0.5', flush=True)\n"
    )
    (folder / "src" / "train.py").write_text(text, encoding="utf-8")
    options = 'custom_mpi_options: "--tag-output -x LETTER=A"'
    mpi = f"algorithm.distribution={{mpi: {{enabled: true, processes_per_host: 2, {options}}}}}"
    given = ["algorithm=script", "algorithm.source_dir=src", mpi, LOSS, "launcher.nodes=2", "launcher.workers=1"]
    done = headway("train", *given, "job.name=one")
    job = Job(folder / "runs/one")
    assert done.returncode == 0, done.stdout + done.stderr + log(job)
    ranks = {path.name: path.read_text() for path in job.model.glob("rank-*")}
    assert ranks == {"rank-0": "4 algo-1", "rank-1": "4 algo-1", "rank-2": "4 algo-2", "rank-3": "4 algo-2"}
    assert len(values(job, "loss")) == 1


def test_channels_are_shared_out_streamed_and_described(data: Path) -> None:
    for name in ("a", "b", "c"):
        (data / name).write_text(f"{name}\n", encoding="utf-8")
    (data.parent / "src").mkdir()
    text = (
        "import json, os\n"
        "channels = {name: os.environ['SM_CHANNEL_' + name.upper()] for name in json.loads(os.environ['SM_CHANNELS'])}\n"
        "told = {'shared': sorted(os.listdir(channels['shared']))}\n"
        "told['stream'] = [open(channels['stream'] + f'_{epoch}').read() for epoch in (0, 1)]\n"
        "told['config'] = json.load(open(os.environ['SM_INPUT_CONFIG_DIR'] + '/inputdataconfig.json'))\n"
        "with open(f\"{os.environ['SM_MODEL_DIR']}/{os.environ['SM_CURRENT_HOST']}.json\", 'w') as file:\n"
        "    json.dump(told, file)\n"
    )
    (data.parent / "src" / "train.py").write_text(text, encoding="utf-8")
    given = ["algorithm=script", "algorithm.source_dir=src", "launcher.nodes=2", "launcher.workers=1", "job.name=one"]
    shared = "+data.channels.shared={s3_data: data, distribution: ShardedByS3Key, content_type: text/csv}"
    stream = "+data.channels.stream={s3_data: data, input_mode: Pipe, distribution: ShardedByS3Key}"
    done = headway("train", *given, shared, stream)
    job = Job(data.parent / "runs/one")
    assert done.returncode == 0, done.stdout + done.stderr + log(job)
    one, other = (json.loads((job.model / f"algo-{number}.json").read_text()) for number in (1, 2))
    assert (one["shared"], other["shared"]) == (["a", "c"], ["b", "rows.csv"])
    assert (one["stream"], other["stream"]) == (["a\nc\n"] * 2, ["b\n1,2,3\n0,1,2\n"] * 2)
    assert one["config"] == {
        "shared": {"ContentType": "text/csv", "TrainingInputMode": "File", "S3DistributionType": "ShardedByS3Key"}
        | {"RecordWrapperType": "None"},
        "stream": {"TrainingInputMode": "Pipe", "S3DistributionType": "ShardedByS3Key", "RecordWrapperType": "None"},
    }


def test_checkpoints_and_intermediate_output_are_on_s3_while_the_script_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid():
        pytest.skip("needs root, to show the script a folder where it looks for it")
    text = (
        "import json, os, sys, time\n"
        "kept = json.load(open(os.environ['SM_INPUT_CONFIG_DIR'] + '/checkpointconfig.json'))\n"
        "print(kept, os.listdir(kept['LocalPath']), flush=True)\n"
        "open(kept['LocalPath'] + '/two', 'w').write('2')\n"
        "open(os.environ['SM_OUTPUT_INTERMEDIATE_DIR'] + '/seen', 'w').write('so far')\n"
        "time.sleep(1)\n"
        "os.remove(kept['LocalPath'] + '/one')\n"
        "open(os.environ['SM_OUTPUT_INTERMEDIATE_DIR'] + '/last', 'w').write('at the end')\n"
    )
    (folder / "src").mkdir()
    (folder / "src" / "train.py").write_text(text, encoding="utf-8")
    with Server("bucket", seed=1) as s3:
        for name, value in s3.environment().items():
            monkeypatch.setenv(name, value)
        s3.put("bucket", "kept/one", b"1")
        given = [
            "algorithm=script",
            "algorithm.source_dir=src",
            "job.name=one",
            "algorithm.checkpoint_s3_uri=s3://bucket/kept",
        ]
        given += ["algorithm.checkpoint_local_path=/srv/there/checkpoints"]
        done = headway("train", *given, "+algorithm.hyperparameters.sagemaker_s3_output=s3://bucket/out")
        job = Job(folder / "runs/one")
        assert done.returncode == 0, done.stdout + done.stderr + log(job)
        stored = {key: one.data for key, one in s3.stored("bucket").items()}
    assert "{'LocalPath': '/srv/there/checkpoints', 'S3Uri': 's3://bucket/kept'} ['one']" in log(job)
    below = "out/one/output/intermediate"
    assert stored == {"kept/two": b"2", f"{below}/seen": b"so far", f"{below}/last": b"at the end"}
    assert (job.own_state / "two").read_text() == "2"
    assert not Path("/srv/there").exists()
    assert (job.dir / "opt/ml/output/success").read_bytes() == (job.dir / "output/success").read_bytes() == b""
