"""`headway train` as the entry of a container that SageMaker starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import trainer
from tests.integration.command import environment
from trainer.cli import sagemaker
from trainer.errors import UserError
from trainer.job.directory import Job, State
from trainer.testing.chaos.s3 import Server

WILD = Path(__file__).parents[1] / "wild"


@pytest.fixture
def base(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the platform has laid out before it starts the container."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(folder / "ml"))
    return lay_out(folder / "ml")


def lay_out(base: Path) -> Path:
    rows = "".join(f"{i % 5},{i % 3},{2 * (i % 5) - (i % 3)}\n" for i in range(200))
    for channel in ("train", "validation"):
        (base / "input/data" / channel).mkdir(parents=True)
        (base / "input/data" / channel / "rows.csv").write_text("a,b,price\n" + rows, encoding="utf-8")
    (base / "checkpoints").mkdir()
    return base


def configure(
    base: Path,
    *,
    channels: Sequence[str] = ("train", "validation"),
    told: dict[str, str] | None = None,
    hosts: Sequence[str] = ("algo-1",),
    host: str = "algo-1",
    checkpoints: str = "",
    **hyperparameters: Any,
) -> None:
    """told: of every channel, beside the usual. hyperparameters: as the service writes them, every value a string."""
    config = base / "input/config"
    config.mkdir(parents=True, exist_ok=True)
    resources = {"current_host": host, "hosts": list(hosts), "network_interface_name": "eth0"}
    channel = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    files = {"hyperparameters": hyperparameters, "resourceconfig": resources}
    files["inputdataconfig"] = dict.fromkeys(channels, channel | (told or {}))
    files["checkpointconfig"] = {"LocalPath": str(base / "checkpoints"), "S3Uri": checkpoints}
    for name, content in files.items():
        (config / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def start(own: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", "train"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment(), **(own or {})},
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


@pytest.mark.slow
def test_a_built_in_algorithm_trains_on_the_channels_and_leaves_its_model(base: Path) -> None:
    configure(
        base, algorithm="linear", lr="0.1", **{"data.label": '"price"', "train.epochs": "3", "sagemaker_region": '"x"'}
    )
    code, output = ended(start())
    assert code == 0, output
    config = (base / "output/data/config.yaml").read_text()
    assert "lr: 0.1\n" in config
    assert f"train: {base}/input/data/train\n" in config
    assert trainer.load(base / "model").predict({"a": [1.0], "b": [1.0]})["prediction"].shape == (1,)
    assert json.loads((base / "output/data/result.json").read_text())["epochs"] == 3
    assert not (base / "output/failure").exists()


@pytest.mark.slow
def test_a_mistake_and_a_failure_are_told_in_the_failure_file(base: Path) -> None:
    configure(base, algorithm="linear", **{"data.label": "nothing"})
    code, output = ended(start())
    assert code == 2, output
    assert "has no column 'nothing'" in (base / "output/failure").read_text()


@pytest.mark.slow
def test_sigterm_interrupts_in_order_and_the_next_container_goes_on(base: Path) -> None:
    source = f'"{WILD / "checkpoints"}"'
    loss = {"algorithm.metrics": json.dumps({"loss": "loss=([0-9.]+)", "epoch": "epoch=([0-9]+)"})}
    script = {"algorithm.hyperparameters.epochs": "15", "algorithm.source_dir": source, **loss}
    configure(base, algorithm="script", **script)
    process, job = start(), Job(base / "checkpoints/job")
    until = time.monotonic() + 600
    while not job.metrics():
        assert time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    code, output = ended(process)
    assert (code, job.state()) == (75, State.INTERRUPTED), output
    code, output = ended(start())
    assert code == 0, output
    assert json.loads((base / "model/state.json").read_text()) == {"epoch": 15, "sessions": 2}


def overrides(base: Path, **hyperparameters: Any) -> list[str]:
    configure(base, **hyperparameters)
    container = sagemaker.found()
    assert container is not None
    return container.overrides()


def test_hyperparameters_are_overrides_or_the_algorithms(base: Path) -> None:
    found = overrides(
        base,
        algorithm='"gpt"',
        data="text",
        **{
            "train.max_steps": "10",
            "layers": "2",
            "activation": "it's",
            "some": '{"a":[1,null,true]}',
            "_tuning_x": "1",
        },
    )
    assert {"algorithm=gpt", "data=text", "++train.max_steps=10", "++algorithm.layers=2"} <= set(found)
    assert "++algorithm.activation='it\\'s'" in found
    assert "++algorithm.some={a:[1,null,true]}" in found
    assert f"job.dir='{base}/checkpoints/job'" in found


def test_data_is_read_in_the_format_of_its_files(base: Path) -> None:
    found = overrides(base, algorithm="linear")
    assert found[:3] == [
        "data=csv",
        f"++data.train='{base}/input/data/train'",
        f"++data.validation='{base}/input/data/validation'",
    ]


def test_data_is_read_in_the_format_of_its_content_type(base: Path) -> None:
    found = overrides(base, algorithm="linear", told={"ContentType": "text/libsvm; charset=utf-8"})
    assert found[0] == "data=libsvm"
    assert overrides(base, algorithm="linear", told={"ContentType": "application/x-own"})[0] == "data=csv"


def test_a_scripts_channels_keep_their_content_types(base: Path) -> None:
    found = overrides(base, algorithm="script", channels=["train"], told={"ContentType": "text/csv"})
    assert found[0] == f"++data.channels.train={{s3_data:'{base}/input/data/train',content_type:'text/csv'}}"


@pytest.mark.parametrize(
    ("told", "hosts", "words"),
    [
        ({"TrainingInputMode": "Pipe"}, ["algo-1"], "channel train: its input mode is Pipe, and here files are read"),
        ({"S3DistributionType": "ShardedByS3Key"}, ["algo-1", "algo-2"], "every host needs all of the data"),
    ],
)
def test_a_channel_that_can_not_be_read_is_refused(
    base: Path, told: dict[str, str], hosts: list[str], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        overrides(base, algorithm="linear", told=told, hosts=hosts, checkpoints="s3://bucket/c")


def test_a_share_of_a_single_host_is_all(base: Path) -> None:
    assert overrides(base, algorithm="linear", told={"S3DistributionType": "ShardedByS3Key"})[0] == "data=csv"


def test_several_hosts_need_a_place_on_s3(base: Path) -> None:
    configure(base, hosts=["algo-1", "algo-2"])
    container = sagemaker.found()
    assert container is not None
    with pytest.raises(UserError, match="2 hosts have no folder in common: give the job a checkpoint location on S3"):
        container.overrides()


@pytest.mark.slow
def test_several_hosts_train_one_job_together(folder: Path) -> None:
    hosts = ["127.0.0.1", "127.0.0.2"]
    with Server("bucket", seed=1) as s3:
        s3.faults(1.0, ["slow"], match="PUT .*/model/", slow_seconds=3.0)  # as a large one takes its time
        processes = []
        for host in hosts:
            base = folder / host / "ml"
            lay_out(base)
            configure(
                base, hosts=hosts, host=host, checkpoints="s3://bucket/checkpoints", algorithm="linear",
                **{"data.label": "price", "train.epochs": "3"},
            )  # fmt: skip
            own = {"SAGEMAKER_BASE_DIR": str(base), "HEADWAY_CACHE": str(folder / host / "cache"), **s3.environment()}
            processes.append(start(own))
        codes = [ended(process) for process in processes]
        assert [code for code, _ in codes] == [0, 0], codes
        assert "checkpoints.headway/result.json" in s3.stored("bucket")
    first, second = (folder / host / "ml" for host in hosts)
    assert json.loads((first / "output/data/result.json").read_text())["world_size"] == 2
    assert trainer.load(first / "model").predict({"a": [1.0], "b": [1.0]})["prediction"].shape == (1,)
    assert not (second / "model").exists()


@pytest.mark.slow
@pytest.mark.parametrize("told", [(1,), (0, 1)], ids=["the second", "all"])
def test_sigterm_to_a_host_has_all_of_them_leave_and_the_next_containers_end_as_if_there_had_been_none(
    folder: Path, told: Sequence[int]
) -> None:
    def containers(place: str, s3: Server) -> list[subprocess.Popen[str]]:
        started = []
        for host in hosts:
            base = folder / place / host / "ml"
            if not base.exists():
                lay_out(base)
            configure(
                base, hosts=hosts, host=host, checkpoints=f"s3://bucket/{place}", algorithm="linear",
                **{"algorithm._target_": "faulty.Faulty", "algorithm.seconds": "0.1", "data.label": "price",
                   "train.epochs": "12", "checkpoint.every": "100", "train.log_every": "1"},
            )  # fmt: skip
            own = {"SAGEMAKER_BASE_DIR": str(base), "HEADWAY_CACHE": str(folder / place / host / "cache")}
            started.append(start({**own, **s3.environment()}))
        return started

    hosts = ["127.0.0.1", "127.0.0.2"]
    with Server("bucket", seed=1) as s3:
        processes = containers("there", s3)
        until = time.monotonic() + 600
        while "there.headway/metrics.jsonl" not in s3.stored("bucket"):
            assert time.monotonic() < until
            assert not [process for process in processes if process.poll() is not None], ended(processes[0])
            time.sleep(0.1)
        for number in told:
            processes[number].send_signal(signal.SIGTERM)
        codes = [ended(process) for process in processes]
        assert [code for code, _ in codes] == [75, 75], codes
        codes = [ended(process) for process in containers("there", s3)]
        assert [code for code, _ in codes] == [0, 0], codes
        result = json.loads(s3.stored("bucket")["there.headway/result.json"].data)
        assert [line["steps_lost"] for line in result["interruptions"]] == [0]
        codes = [ended(process) for process in containers("calm", s3)]
        assert [code for code, _ in codes] == [0, 0], codes
    there, calm = (folder / place / hosts[0] / "ml/model/model.safetensors" for place in ("there", "calm"))
    assert there.read_bytes() == calm.read_bytes()


def test_elsewhere_nothing_is_changed(folder: Path) -> None:
    assert "SAGEMAKER_BASE_DIR" not in os.environ
    assert sagemaker.found({"SAGEMAKER_BASE_DIR": str(folder)}) is None
