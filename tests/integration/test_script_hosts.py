"""Scripts on several hosts: what they leave and report together, with a folder in common and without one."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.integration import test_sagemaker as container
from tests.integration.command import headway
from trainer.job.directory import Job
from trainer.testing.chaos.s3 import Server

pytestmark = pytest.mark.slow

# every host writes files of the same names and tells the same figures; the first is done last
SCRIPT = """\
import json, os, time
host, hosts = os.environ["SM_CURRENT_HOST"], json.loads(os.environ["SM_HOSTS"])
time.sleep(1.0 if host == hosts[0] else 0)
for folder in (os.environ["SM_MODEL_DIR"], os.environ["SM_OUTPUT_DATA_DIR"]):
    for name in ("all.txt", "artifact.json", host + ".txt"):
        with open(os.path.join(folder, name), "w") as file:
            file.write(json.dumps(host))
for step in range(4):
    print(f"loss={hosts.index(host)}.{step}", flush=True)
    time.sleep(0.05)
if host != hosts[0]:
    print("accuracy=0.5")
"""
METRICS = [f'+algorithm.metrics.{name}="{name}=([0-9.]+)"' for name in ("loss", "accuracy", "auc")]
FILES = {"all.txt": '"algo-1"', "algo-1.txt": '"algo-1"', "algo-2.txt": '"algo-2"', "artifact.json": '"algo-1"'}
CLASH = "several hosts wrote model/all.txt, model/artifact.json: algo-1's counts, not that of algo-2"


def packed(archive: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        assert len(set(opened.getnames())) == len(opened.getnames())
        return {name: opened.extractfile(name).read().decode() for name in opened.getnames()}  # type: ignore[union-attr]


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_of_a_name_and_a_figure_that_several_hosts_have_the_firsts_counts_and_it_is_told(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "train.py").write_text(SCRIPT, encoding="utf-8")
    nodes = ["launcher.nodes=2", "launcher.workers=1"]
    done = headway("train", "algorithm=script", "algorithm.source_dir=src", "job.name=one", *nodes, *METRICS)
    assert done.returncode == 0, done.stdout + done.stderr
    job = Job(folder / "runs/one")
    own = files(job.model)
    assert json.loads(own.pop("headway-artifact.json"))["algorithm"]["entry"] == "train.py"
    assert own == FILES
    for name in ("model", "output"):
        assert packed((job.dir / f"output/{name}.tar.gz").read_bytes()) == FILES
    for host in ("algo-1", "algo-2"):
        there = files(job.dir / "opt" / host / "ml/model")
        assert there == dict.fromkeys(("all.txt", "artifact.json", f"{host}.txt"), f'"{host}"')
    assert [line["values"] for line in job.metrics()] == [
        {"loss": 0.0},
        {"loss": 0.1},
        {"loss": 0.2},
        {"loss": 0.3},
        {"accuracy": 0.5},
    ]
    shown = headway("show", "one").stdout
    for note in (CLASH, "no line of the log told a figure of auc ('auc=([0-9.]+)')"):
        assert note in done.stdout
        assert note in shown
    assert CLASH in job.log_path(0, 0).read_text()
    refused = headway("predict", f"model={job.model}", "data=csv", "data.test=src")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "only code of its own can read it" in refused.stderr


def test_hosts_that_share_no_folder_leave_their_files_together(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "train.py").write_text(SCRIPT, encoding="utf-8")
    hosts = ["127.0.0.1", "127.0.0.2"]
    with Server("bucket", seed=1) as s3:
        processes = []
        for host in hosts:
            base = container.lay_out(folder / host / "ml")
            container.configure(
                base, hosts=hosts, host=host, checkpoints="s3://bucket/checkpoints", algorithm="script",
                **{"algorithm.source_dir": str(folder / "src")},
            )  # fmt: skip
            own = {"SAGEMAKER_BASE_DIR": str(base), "HEADWAY_CACHE": str(folder / host / "cache"), **s3.environment()}
            processes.append(container.start(own))
        codes = [container.ended(process) for process in processes]
        assert [code for code, _ in codes] == [0, 0], codes
        stored = {name.removeprefix("checkpoints.headway/"): kept.data for name, kept in s3.stored("bucket").items()}
    own = files(folder / hosts[0] / "ml/model")
    assert own.pop("headway-artifact.json")
    assert own == FILES
    assert packed(stored["output/model.tar.gz"]) == packed(stored["output/output.tar.gz"]) == FILES
    assert json.loads(stored["result.json"])["notes"][0].startswith(CLASH)
    assert not [name for name in stored if name.startswith("opt/algo-2/")]
