"""Jobs that a real Ray's own job service runs, so that nobody's process needs to stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command import FAULTY, headway, until
from tests.integration.ray_cluster import two_nodes
from trainer.job.directory import Job, State

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
PORT = 26579


@pytest.fixture(scope="module")
def what_takes_jobs() -> Iterator[None]:
    """What `headway[ray]` brings besides, in a folder of its own: where Ray finds it, it starts slower in all other tests."""
    folder = Path(sys.prefix) / "ray-jobs"
    if not (folder / "aiohttp").is_dir():
        install(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
        yield


def install(folder: Path) -> None:
    """Only what isn't here yet: pip says what that is."""
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    told = [*pip, "-c", str(ROOT / "constraints.txt"), "--dry-run", "--report", "-", "ray[default]"]
    found = subprocess.run(told, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"pip can't install ray[default]: {found.stderr.strip().splitlines()[-1]}")
    packages = [one["metadata"] for one in json.loads(found.stdout)["install"]]
    names = [f"{package['name']}=={package['version']}" for package in packages]
    subprocess.run([*pip, "--no-deps", "--target", str(folder), *names], check=True)


@pytest.fixture(scope="module")
def address(what_takes_jobs: None) -> Iterator[str]:
    with two_nodes(PORT, takes_jobs=True) as address:
        yield address


def test_detached_it_is_one_of_the_clusters_own_jobs(address: str, folder: Path) -> None:
    # 45 steps an epoch, each of so many seconds
    ours = [FAULTY, "data=digits", "+algorithm.seconds=0.08", "train.epochs=2", "checkpoint.every=10", "tracking=none"]
    on = ["launcher=ray", f"launcher.address={address}", "launcher.nodes=2", "job.detach=true", "job.name=alone"]
    done = headway("train", *ours, *on)
    assert done.returncode == 0, done.stdout + done.stderr
    job = Job(Path("runs/alone").absolute())
    until(lambda: ((job.progress() or {}).get("step") or 0) >= 15, job)
    assert headway("show", "alone").stdout.startswith("alone  Running")
    done = headway("stop", "alone")
    assert done.stdout.startswith("alone: Stopped\nits model after step "), done.stderr
    done = headway("resume", "alone")
    assert done.returncode == 0, done.stderr
    until(lambda: job.state() is State.COMPLETED, job)
    assert (job.result() or {})["interruptions"][0]["steps_lost"] == 0
