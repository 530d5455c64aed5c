"""A script sees what it would see on SageMaker: compared with the open training toolkit, and in detail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from algorithms.script import Script, keeping, starting
from algorithms.script.contract import Container, arguments, driver_variables, variables
from algorithms.script.distribution import TORCHRUN, Distribution
from algorithms.script.figures import Heard, Metric
from algorithms.script.process import Process, failure_text, last_words, leave
from algorithms.script.starting import Host, command, remove, surroundings
from tests.algorithms import toolkit
from trainer.errors import UserError
from trainer.job import node_state
from trainer.job.result import more_is_better

OF_EVERY_TYPE: dict[str, Any] = {
    "epochs": 10,
    "lr": 1e-5,
    "momentum": 0.9,
    "big": 12345678901234567890,
    "negative": -3,
    "on": True,
    "off": False,
    "nothing": None,
    "layers": [64, 32],
    "mixed": [1, "two", None, True, 2.5],
    "nested": {"b": {"c": [1]}, "a": "x y"},
    "empty_list": [],
    "empty_dict": {},
    "empty": "",
    "words": "two  words",
    "quotes": 'she said "it\'s" $HOME `x` \\',
    "lines": "one\ntwo",
    "number-like": "0.10",
    "json-like": "[1, 2]",
    "true-like": "true",
    "batch-size": 32,
    "Under_Score": "Yes",
    "k": "one letter",
    "é": "ünïcödé ☃",
    "mp_parameters": {"partitions": 2},
    "sagemaker_instance_type": "ml.m5.xlarge",
    "_tuning_objective_metric": "validation:auc",
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    source = tmp_path / "ml" / "code"
    source.mkdir(parents=True)
    (source / "train.py").write_text(toolkit.PROBE, encoding="utf-8")
    return tmp_path / "ml"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "distributed"), [((), False), (("training", "my-val", "Test2"), False), (("train",), True)]
)
def test_a_script_gets_the_arguments_and_variables_that_the_toolkit_gives(
    base: Path, channels: tuple[str, ...], distributed: bool
) -> None:
    gpus = len([name for name in os.listdir("/dev") if name.startswith("nvidia") and name[6:].isdigit()])
    container = Container(
        base,
        "train.py",
        OF_EVERY_TYPE,
        channels,
        hosts=("localhost", "127.0.0.1") if distributed else ("localhost",),
        current_host="localhost",
        job_name="a-job",
        cpus=os.cpu_count() or 1,
        gpus=gpus,
        distribution=Distribution(TORCHRUN if distributed else None).parameters(1),
        region="eu-west-1",
    )
    container.write()
    theirs = toolkit.run(base, {"TRAINING_JOB_NAME": "a-job"})
    ours = variables(container)

    told = {name: value for name, value in theirs["env"].items() if name.startswith("SM_")}
    assert {name: value for name, value in ours.items() if name.startswith("SM_")} == told
    of_job = ("SAGEMAKER_BASE_DIR", "SAGEMAKER_JOB_NAME", "SAGEMAKER_REGION", "TRAINING_JOB_NAME", "CURRENT_HOST")
    assert {name: ours[name] for name in of_job} == {name: theirs["env"][name] for name in of_job}
    assert theirs["cwd"] == str(container.code)

    line = command(container)
    env = {**os.environ, **ours, "PROBE": str(base.parent / "ours.json")}
    subprocess.run(line, cwd=container.code, env=env, check=True)
    mine = json.loads((base.parent / "ours.json").read_text(encoding="utf-8"))
    assert mine["argv"] == theirs["argv"]
    assert mine["cwd"] == theirs["cwd"]


@pytest.mark.slow
def test_a_shell_script_gets_the_arguments_that_the_toolkit_gives(base: Path) -> None:
    text = f'#!/bin/sh\nexec {sys.executable} - "$0" "$@" <<EOF\n{toolkit.PROBE}EOF\n'
    (base / "code" / "train.sh").write_text(text, encoding="utf-8")
    container = Container(base, "train.sh", OF_EVERY_TYPE, hosts=("localhost",), current_host="localhost")
    container.write()
    theirs = toolkit.run(base, {})
    env = {**os.environ, **variables(container), "PROBE": str(base.parent / "ours.json")}
    subprocess.run(command(container), cwd=container.code, env=env, check=True)
    mine = json.loads((base.parent / "ours.json").read_text(encoding="utf-8"))
    assert mine["argv"] == theirs["argv"]


def test_arguments_are_in_order_of_their_keys_and_values_as_python_writes_them() -> None:
    given = {"lr": 1e-5, "b": True, "layers": [1, 2], "opts": {"z": 1, "a": "x"}, "none": None}
    assert arguments(given) == [
        *("-b", "True", "--layers", "[1, 2]", "--lr", "1e-05", "--none", "", "--opts", "a=x,z=1"),
    ]


def test_hyperparameters_of_the_toolkit_are_kept_from_the_script(tmp_path: Path) -> None:
    container = Container(tmp_path, "train.py", {"lr": 1, "sagemaker_program": "other.py", "sagemaker_x": True})
    told = variables(container)
    assert told["SM_HPS"] == '{"lr":1}'
    assert told["SM_FRAMEWORK_PARAMS"] == '{"sagemaker_x":true}'


def test_scripts_for_the_third_version_of_the_sdk_find_its_variables(tmp_path: Path) -> None:
    given = {"batch-size": 32, "lr": 0.1, "layers-wide": [1, 2]}
    container = Container(tmp_path, "train.py", given, hosts=("algo-1", "algo-2"), current_host="algo-2")
    assert driver_variables(container, "10.0.0.1", 7777) == {
        "SM_INPUT_DATA_DIR": str(tmp_path / "input" / "data"),
        "SM_SOURCE_DIR": str(tmp_path / "code"),
        "SM_ENTRY_SCRIPT": "train.py",
        "SM_OUTPUT_FAILURE": str(tmp_path / "output" / "failure"),
        "SM_HOST_COUNT": "2",
        "SM_CURRENT_HOST_RANK": "1",
        "SM_MASTER_ADDR": "10.0.0.1",
        "SM_MASTER_PORT": "7777",
        "SM_HP_BATCH_SIZE": "32",
        "SM_HP_LAYERS_WIDE": "[1,2]",
    }


def test_a_container_is_made_anew_though_the_script_has_made_its_folders_read_only(tmp_path: Path) -> None:
    inner = tmp_path / "model" / "inner"
    inner.mkdir(parents=True)
    (inner / "weights").touch(0o400)
    (tmp_path / "data").mkdir()
    (inner / "data").symlink_to(tmp_path / "data")
    for folder in (inner, inner.parent):
        folder.chmod(0o500)
    remove(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


class Alone:
    """The context of the one worker of a job."""

    def __init__(self, job: Path) -> None:
        self.job = job

    def broadcast(self, value: Any) -> Any:
        return value

    def gather(self, value: Any) -> list[Any]:
        return [value]


@pytest.mark.parametrize(
    ("distribution", "workers", "given", "threads"),
    [
        ("torch_distributed", 2, None, "1"),
        ("torch_distributed", 2, "3", "3"),
        ("torch_distributed", 1, None, None),
        (None, 2, None, None),
    ],
)
def test_processes_of_torchrun_have_a_thread_each_unless_said_otherwise(
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    distribution: str | None,
    workers: int,
    given: str | None,
    threads: str | None,
) -> None:
    place = {"RANK": 0, "WORLD_SIZE": workers, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": workers, "GROUP_RANK": 0}
    for name, value in {**place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 7777}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    script = Script(distribution=distribution, environment={"OMP_NUM_THREADS": given} if given else {})
    context: Any = Alone(base.parent)
    env, _ = surroundings(script, context, Container(base, "train.py"), Host.here())
    assert env.get("OMP_NUM_THREADS") == threads


def test_a_script_is_told_its_region_and_its_jobs_number(tmp_path: Path) -> None:
    told = variables(Container(tmp_path, "train.py", job_name="My-Job", region="eu-west-1"))
    assert told["AWS_REGION"] == "eu-west-1"
    assert told["TRAINING_JOB_ARN"] == "arn:aws:sagemaker:eu-west-1:000000000000:training-job/my-job"
    assert variables(Container(tmp_path, "train.py"))["AWS_REGION"] == "us-east-1"


def test_checkpoints_are_where_they_are_asked_for(tmp_path: Path) -> None:
    one, kept = Container(tmp_path / "ml", "train.py"), tmp_path / "kept"
    one.root.mkdir()
    keeping.link(one, "/opt/ml/own/states", kept)
    assert (one.root / "own/states").readlink() == kept
    assert keeping.shown(one.root, "/opt/ml/own/states") == str(one.root / "own/states")
    assert keeping.shown(one.root, "/srv/states") == "/srv/states"


# figures in the log


def heard(*lines: str, **patterns: str) -> list[dict[str, float]]:
    script = Script(metrics=patterns)
    ears = Heard(script._metrics)
    ears.hear("\n".join(lines).encode())
    ears.end()
    return [line for _, line in ears.take()]


@pytest.mark.parametrize(
    ("line", "pattern", "value"),
    [
        ("Train Loss: 0.25; Accuracy: 0.9", "Train Loss: (.*?);", 0.25),
        ("loss=1e-3", r"loss=([0-9.eE+-]+)", 1e-3),
        ("[3]\tvalidation-auc:0.75", r".*\[[0-9]+\].*#011validation-auc:(\S+)", 0.75),
        ("[3]#011validation-auc:0.75", r".*\[[0-9]+\].*#011validation-auc:(\S+)", 0.75),
        ("loss: nan", r"loss: (\S+)", None),
        ("loss: -inf", r"loss: (\S+)", float("-inf")),
        ("loss: unknown", r"loss: (\S+)", ...),
        ("nothing here", r"loss: (\S+)", ...),
    ],
)
def test_a_figure_is_the_first_group_of_its_expression(line: str, pattern: str, value: Any) -> None:
    found = heard(line, loss=pattern)
    if value is ...:
        assert found == []
    elif value is None:
        assert str(found[0]["loss"]) == "nan"
    else:
        assert found == [{"loss": value}]


def test_a_line_may_come_in_parts_and_be_drawn_over() -> None:
    ears = Heard([Metric("loss", Script(metrics={"loss": r"loss (\d+)"})._metrics[0].pattern)])
    for part in (b"loss", b" 1", b"2\rloss 13\r", b"caf\xe9 loss 14", b"\n"):
        ears.hear(part)
    assert [line for _, line in ears.take()] == [{"loss": 12.0}, {"loss": 13.0}, {"loss": 14.0}]


def test_metric_definitions_are_taken_as_sagemaker_spells_them() -> None:
    script = Script(metric_definitions=[{"Name": "validation:auc", "Regex": "auc=(.*)"}])
    assert [m.name for m in script._metrics] == ["validation:auc"]


@pytest.mark.parametrize(
    ("name", "more"), [("validation:auc", True), ("val_accuracy", True), ("Accuracy", True), ("validation:rmse", False)]
)
def test_of_some_figures_more_is_better(name: str, more: bool) -> None:
    assert more_is_better(name, Script.maximize) == more


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"metrics": {"loss": "loss=(.*"}}, "is no regular expression"),
        ({"metrics": {"loss": "loss=.*"}}, "has no group"),
        ({"metric_definitions": [{"Name": "loss"}]}, "no Name or no Regex"),
        ({"checkpoint_local_path": "checkpoints"}, "'checkpoints' is no folder such as /opt/ml/checkpoints"),
        ({"checkpoint_local_path": "/opt/ml/model/x"}, "/opt/ml/model/x holds something else"),
        ({"checkpoint_s3_uri": "s3://bucket"}, "is not a folder on S3; write s3://BUCKET/FOLDER"),
        ({"hyperparameters": {"sagemaker_s3_output": "bucket"}}, "'bucket' is no address"),
        ({"distribution": "torch_distribute"}, "did you mean 'torch_distributed'"),
        ({"distribution": 3}, "3 is no distribution; write torch_distributed or mpi"),
        ({"distribution": {"horovod": {"enabled": True}}}, "there is mpi, pytorchddp, torch_distributed"),
        ({"distribution": {"smdistributed": {"dataparallel": {"enabled": True}}}}, "write torch_distributed for data"),
        ({"distribution": {"mpi": {"enabled": "yes"}}}, "mpi.enabled: 'yes' is neither true nor false"),
        ({"distribution": {"mpi": {"enabled": True, "processes": 2}}}, "did you mean 'processes_per_host'"),
        ({"distribution": {"mpi": {"enabled": True, "processes_per_host": 0}}}, "0 is not a number of processes"),
        (
            {"distribution": {"mpi": {"enabled": True, "custom_mpi_options": "-x 'A"}}},
            "custom_mpi_options: .*quotation",
        ),
        ({"distribution": {"mpi": True, "torch_distributed": True}}, "are both enabled; choose one"),
    ],
)
def test_a_setting_that_can_not_be_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Script(**settings)


@pytest.mark.parametrize(
    ("files", "settings", "words"),
    [
        ([], {"source_dir": "nowhere"}, "there is no folder"),
        (["train.py"], {"entry": "trian.py"}, "did you mean 'train.py'"),
        (["train.py"], {"entry": "../train.py"}, "is not a file of"),
        (["train.sh"], {"entry": "train.sh", "distribution": "torch_distributed"}, "runs a Python script"),
        (["setup.py", "train.py"], {"distribution": "torch_distributed"}, "runs a Python script"),
    ],
)
def test_what_is_not_there_is_said_at_once(
    tmp_path: Path, files: list[str], settings: dict[str, Any], words: str
) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=words):
        Script(**settings).check(tmp_path / settings.get("source_dir", ""))


@pytest.mark.parametrize(
    "given",
    [
        None,
        {},
        {"torch_distributed": {"enabled": False}},
        {"mpi": {"enabled": False, "processes_per_host": 2}},
        {"mpi": {}},
        {"mpi": False},
        {"smdistributed": {"dataparallel": {"enabled": False}}},
        {"parameter_server": {"enabled": False}},
    ],
)
def test_a_script_is_not_distributed_unless_asked(given: Any) -> None:
    assert Script(distribution=given).spread == Distribution()


def test_of_several_distributions_the_enabled_one_counts() -> None:
    given = {
        "mpi": {"enabled": True, "custom_mpi_options": "-x A=1 --verbose"},
        "torch_distributed": {"enabled": False},
    }
    assert Script(distribution=given).spread == Distribution("mpi", None, ("-x", "A=1", "--verbose"))


# failures


def test_the_last_words_are_the_error_and_where_the_script_raised_it(tmp_path: Path) -> None:
    lines = [
        "Traceback (most recent call last):",
        f'  File "{tmp_path}/train.py", line 9, in <module>',
        f'  File "{tmp_path}/data.py", line 3, in load',
        '  File "/usr/lib/python3/csv.py", line 1, in read',
        "KeyError: 'label'",
    ]
    assert last_words(lines, tmp_path) == ("KeyError: 'label'", "data.py:3 in load")


def test_the_failure_file_reads_as_the_toolkits() -> None:
    text = failure_text(1, "ValueError: no", ["python", "train.py", "--lr", "1"])
    assert (
        text == 'ExecuteUserScriptError:\nExitCode 1\nErrorMessage "ValueError: no"\nCommand "python train.py --lr 1"'
    )
    assert "OutOfMemory: Process killed by SIGKILL" in failure_text(137, "", ["x"])


# the process


LOOKS = """
\"\"\"A script.\"\"\"
import inspect, pickle, sys
class Thing: pass
def function(): pass
print(sorted(globals()), __name__, __doc__, __file__, __spec__, __package__, type(__loader__).__name__, __builtins__)
print(sys.argv, sys.path, pickle.loads(pickle.dumps(Thing())).__class__, inspect.getsource(function))
if len(sys.argv) > 1:
    exec(sys.argv[1])
"""
CRASHES_AT_ITS_END = """
import os, sys
class Crash:
    def __del__(self, abort=os.abort):
        abort()
crash = Crash()
"""


def said_by(folder: Path, source: str, *arguments: str) -> tuple[int | None, list[str]]:
    """How a script ends under its guard, and what it says."""
    (folder / "train.py").write_text(source, encoding="utf-8")
    line = [sys.executable, "train.py", *arguments]
    process = Process(line, folder=folder, env=os.environ, mounts=[], metrics=[])
    code = process.wait(600)
    process.end()
    return code, list(process.heard.lines)


@pytest.mark.parametrize(
    "does",
    [
        "",
        "sys.exit()",
        "sys.exit(3)",
        "sys.exit('bad')",
        "1 / 0",
        "compile('1 +', 'x', 'exec')",
        "import os; os.abort()",
        "import atexit, threading; threading.Timer(0.1, print, ['late']).start(); atexit.register(print, 'last')",
    ],
)
def test_a_script_runs_as_python_runs_it(tmp_path: Path, does: str) -> None:
    code, lines = said_by(tmp_path, LOOKS, does)
    directly = subprocess.run(
        [sys.executable, "train.py", does], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert lines == [line for line in directly.stdout.splitlines() if line.strip()]
    assert code == (directly.returncode if directly.returncode >= 0 else 128 - directly.returncode)


def test_a_script_with_a_mistake_in_it_says_so_as_python_does(tmp_path: Path) -> None:
    code, lines = said_by(tmp_path, "print(1)\nif True\n")
    assert code == 1
    assert lines == [
        f'  File "{tmp_path / "train.py"}", line 2',
        "    if True",
        "           ^",
        "SyntaxError: expected ':'",
    ]


def test_a_crash_of_the_interpreter_after_the_scripts_end_is_not_the_scripts(tmp_path: Path) -> None:
    code, lines = said_by(tmp_path, CRASHES_AT_ITS_END + "print('trained')")
    assert (code, lines[0]) == (0, "trained")
    assert lines[-1] == "[headway] the script has ended well; SIGABRT came after its end"
    for failing in ("sys.exit(3)", "1 / 0", "os.abort()"):
        code, lines = said_by(tmp_path, CRASHES_AT_ITS_END + failing)
        assert code == 134, lines


SAVES_LATE = """
import os, signal, sys, time
def leave(number, frame):
    time.sleep(0.5)
    open(sys.argv[1], "w").write("saved")
    print("saved", sys.argv[1], flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, leave)
print("trains", flush=True)
time.sleep(300)
"""


def started(folder: Path, shell: str) -> Process:
    """A shell script beside train.py, which saves half a second after it is asked to leave."""
    (folder / "train.py").write_text(SAVES_LATE, encoding="utf-8")
    (folder / "train.sh").write_text(shell, encoding="utf-8")
    return Process(["/bin/sh", "./train.sh"], folder=folder, env=os.environ, mounts=[], metrics=[])


def until_it_says(process: Process, words: str, times: int = 1) -> None:
    until = time.monotonic() + 600
    while sum(line.startswith(words) for line in process.heard.lines) < times:
        assert time.monotonic() < until, list(process.heard.lines)
        time.sleep(0.02)


@pytest.mark.parametrize(
    "shell",
    [
        "python3 train.py one",
        "python3 train.py one &\npython3 train.py two",
        "setsid python3 train.py one &\nwait",
        "python3 train.py one | cat\n",
        "(setsid python3 train.py one >/dev/null 2>&1 &)\necho trains; exec sleep 300",
    ],
    ids=["foreground", "background", "own session", "pipe", "nobody's child"],
)
def test_all_that_a_shell_script_has_started_may_save(tmp_path: Path, shell: str) -> None:
    process = started(tmp_path, f"#!/bin/sh\n{shell}\n")
    until_it_says(process, "trains", shell.count("train.py") if "&1" not in shell else 1)
    if "&1" in shell:
        time.sleep(1)  # it can't say when it listens
    assert leave(process, 60)
    assert process.code == 143  # the shell's own
    for name in ("one", "two") if "two" in shell else ("one",):
        assert (tmp_path / name).read_text() == "saved"


def test_when_the_grace_is_over_nothing_is_left_wherever_it_went(tmp_path: Path) -> None:
    deaf = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', os.getpid(), flush=True); time.sleep(300)"
    process = started(tmp_path, f'#!/bin/sh\nsetsid python3 -c "{deaf}" &\nexec python3 -c "{deaf}"\n')
    until_it_says(process, "deaf", 2)
    assert not leave(process, 0.5)
    pids = [int(line.split()[1]) for line in process.heard.lines if line.startswith("deaf")]
    assert len(pids) == 2
    assert not any(node_state.process_lives(pid) for pid in pids)


def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    process = started(tmp_path, "#!/bin/sh\nsetsid sleep 300 &\necho started $!\nexit 3\n")
    assert process.wait(600) == 3
    process.end()
    assert not node_state.process_lives(int(process.heard.lines[-1].split()[1]))


def test_python_in_a_command_is_headways_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "an odd name"
    odd.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    odd.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(odd))
    names = tmp_path / "bin"
    starting.name_python(names)
    env = {**os.environ, "PATH": os.pathsep.join([str(names), os.defpath])}
    for command_line in ("python -c", "python3 -c", "env python -c"):
        said = subprocess.check_output([*command_line.split(), "import sys; print(sys.prefix)"], env=env, text=True)
        assert said.strip() == sys.prefix
    assert sys.prefix in subprocess.check_output(["pip", "--version"], env=env, text=True)
