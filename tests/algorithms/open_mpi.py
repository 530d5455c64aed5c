"""Open MPI, where it is or can be installed, and two hosts of a script that it spreads over."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from algorithms.script import mpi
from algorithms.script.contract import Container
from algorithms.script.distribution import Distribution

DAEMONLESS = {"DEBIAN_FRONTEND": "noninteractive"}


def needed() -> None:
    """Installs Debian's Open MPI where that can be done; else the test is skipped."""
    if shutil.which("mpirun"):
        return
    if os.geteuid() or not shutil.which("apt-get"):
        pytest.skip("needs mpirun: apt-get install openmpi-bin")
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "openmpi-bin"]
    for command in (install, ["apt-get", "update", "-qq"], install):
        done = subprocess.run(command, env={**os.environ, **DAEMONLESS}, capture_output=True, text=True, check=False)
        if shutil.which("mpirun"):
            return
    pytest.skip(f"needs mpirun, and openmpi-bin can't be installed here: {done.stderr.strip()[-200:]}")


class Hosts:
    """A script under Open MPI on hosts of this machine, whose workers exchange what they have to tell as a job's do."""

    def __init__(self, folder: Path, source: str, *arguments: str, hosts: int = 2, processes: int = 2) -> None:
        names = tuple(f"algo-{number + 1}" for number in range(hosts))
        given = {"enabled": True, "processes_per_host": processes}
        self.parts: list[mpi.Part] = []
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * hosts
        self.logs = [folder / f"{name}.log" for name in names]
        self._environments: list[Mapping[str, str]] = []
        for name in names:
            container = Container(folder / name, "train.py", hosts=names, current_host=name)
            container.write()
            container.code.mkdir()
            (container.code / "train.py").write_text(source, encoding="utf-8")
            part = mpi.Part(container, Distribution.of({"mpi": given}), 1, leads=True)
            part.check()
            env = {**os.environ, "HOST": name, "OUT": str(folder), "PYTHONUNBUFFERED": "1"}
            known = mpi.Hosts(names, ["here"] * hosts, ["own"] * hosts, ["lo"] * hosts, os.cpu_count() or 1)
            self.parts.append(part)
            self._environments.append(part.environment(env, known))
        self._start(0, self.parts[0].mpirun([sys.executable, "train.py", *arguments]))

    def _start(self, number: int, command: list[str]) -> None:
        with open(self.logs[number], "ab") as log:
            env = dict(self._environments[number])
            self.processes[number] = subprocess.Popen(
                command, env=env, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )

    def look(self) -> bool:
        """One exchange between the hosts. Whether mpirun still runs."""
        codes = [process and process.poll() for process in self.processes]
        told: list[list[Any]] = [part.tells(code) for part, code in zip(self.parts, codes, strict=True)]
        for number, part in enumerate(self.parts):
            if command := part.hears(told):
                self._start(number, part.daemon(command))
        return codes[0] is None

    def until(self, condition: Any = lambda: False, seconds: float = 600.0) -> None:
        """Until the script has ended, or the condition is true."""
        end = time.monotonic() + seconds
        while self.look() and not condition():
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)

    def codes(self) -> list[int]:
        """How each host's part ends."""
        self.until()
        return [process.wait(600) for process in self.processes if process]

    def said(self) -> list[str]:
        return [log.read_text("utf-8", "replace") if log.is_file() else "" for log in self.logs]

    def signal(self, number: signal.Signals) -> None:
        for process in self.processes:
            if process and process.poll() is None:
                process.send_signal(number)
