"""Two hosts, each a network namespace of this machine, and the link between them cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launchers import child
from tests.integration.command import FAULTY, environment, headway, until
from trainer.config import schema
from trainer.config.compose import compose
from trainer.job.directory import Job, State
from trainer.submission.submit import write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NET = "10.97.31"


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """The names of two namespaces on one bridge; the host's end of NAME's link is called NAMEv."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("needs root and iproute2, for hosts of its own")
    bridge, names = f"hw{os.getpid()}b", [f"hw{os.getpid()}{letter}" for letter in "cd"]
    try:
        run("ip", "link", "add", bridge, "type", "bridge")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no bridge can be made here: {error.stderr.decode().strip()}")
    try:
        run("ip", "link", "set", bridge, "up")
        for i, name in enumerate(names, 1):
            # no DNS in a namespace: without this each reverse look-up waits ten seconds for one
            own = Path("/etc/netns", name)
            own.mkdir(parents=True)
            (own / "hosts").write_text("127.0.0.1 localhost\n")
            (own / "nsswitch.conf").write_text("hosts: files\n")
            run("ip", "netns", "add", name)
            run("ip", "link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "link", "set", f"{name}v", "master", bridge, "up")
            run("ip", "-n", name, "addr", "add", f"{NET}.{i}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
            shutil.rmtree(Path("/etc/netns", name), ignore_errors=True)
        run("ip", "link", "delete", bridge)


def test_a_link_that_is_cut_is_found_within_the_timeout_and_the_job_goes_on_once_it_is_mended(
    folder: Path, hosts: list[str]
) -> None:
    options = [FAULTY, "data=digits", "train.epochs=3", "checkpoint.every=10", "tracking=none", "launcher.nodes=2"]
    sys.path.append(str(Path(__file__).parent))
    config = schema.check(
        compose(
            [*options, "+algorithm.seconds=0.05", "train.hang_timeout=8s", "job.name=cut", "launcher.max_restarts=20"]
        )
    )
    job = write(Job(folder / "runs/cut"), config, is_new=True)
    agents = []
    for i, name in enumerate(hosts):
        agent = [sys.executable, "-m", "launchers.agent", str(job.dir), "--workers", "1", "--nodes", "2"]
        agent += ["--node", str(i), "--address", f"{NET}.{i + 1}"]
        agents.append(child.start(["ip", "netns", "exec", name, *agent], job.logs / f"node-{i}.log", environment()))
    until(lambda: ((job.progress() or {}).get("step") or 0) >= 20, job)
    run("ip", "link", "set", f"{hosts[1]}v", "down")
    cut = time.time()
    until(lambda: any(e["state"] == State.INTERRUPTED for e in job.events()), job)
    [first] = [event for event in job.events() if event["state"] == State.INTERRUPTED][:1]
    assert first["source"] == "hang"
    assert first["time"] - cut < 8 + 10
    run("ip", "link", "set", f"{hosts[1]}v", "up")
    assert [agent.wait(600) for agent in agents] == [0, 0]
    assert job.state() is State.COMPLETED
    calm = headway("train", *options, "job.name=calm")
    assert calm.returncode == 0, calm.stderr
    same = [Path(f"runs/{name}/model/model.safetensors").read_bytes() for name in ("cut", "calm")]
    assert same[0] == same[1]
