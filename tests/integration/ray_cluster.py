"""A real Ray of two nodes, both on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.studies import environment_of, own_temporary_folder
from trainer.process.environment import variables

RAY = Path(sys.executable).with_name("ray")
MINE = "HEADWAY_TEST_RAY_NODE"
ASK = """
import json, ray
ray.init(address={address!r}, log_to_driver=False, configure_logging=False)
groups = [g["state"] for g in ray.util.placement_group_table().values()]
print(json.dumps([groups, ray.available_resources().get("CPU"), ray.available_resources().get("GPU")]))
"""


def ray(*arguments: str, **env: str) -> str:
    done = subprocess.run([RAY, *arguments], env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def two_nodes(port: int, *, takes_jobs: bool = False) -> Iterator[str]:
    """Its address. Its processes get this process's environment; so do those that are started meanwhile."""
    address = f"127.0.0.1:{port}"
    checks = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}
    with variables({"RAY_AUTH_MODE": "disabled", **checks}), own_temporary_folder() as temporary:
        ray("start", "--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2", "--disable-usage-stats",
            f"--include-dashboard={str(takes_jobs).lower()}", "--dashboard-host=127.0.0.1", f"--dashboard-port={port + 1}",
            f"--temp-dir={temporary}/ray", "--object-store-memory=80000000")  # fmt: skip
        add_node(address, "second")
        yield address


def add_node(address: str, name: str) -> None:
    """One with two processors, whose processes can be told from others'."""
    ray("start", f"--address={address}", "--node-ip-address=127.0.0.1", "--num-cpus=2", "--disable-usage-stats",
        "--object-store-memory=80000000", **{MINE: name})  # fmt: skip


def lose_node(name: str) -> None:
    """Kills all that runs there, as if the machine were gone."""
    for process in (path for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            if environment_of(int(process.name)).get(MINE) == name:
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue


def held_by(address: str) -> tuple[list[str], float, float]:
    """Placement groups that are not removed, and the processors and GPUs that are free."""
    asked = subprocess.run(
        [sys.executable, "-c", ASK.format(address=address)], capture_output=True, text=True, check=True
    )
    groups, cpus, gpus = json.loads(next(line for line in asked.stdout.splitlines() if line.startswith("[[")))
    return [state for state in groups if state != "REMOVED"], cpus, gpus
