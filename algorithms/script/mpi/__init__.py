"""A script under Open MPI over the hosts of a job, without sshd.

    first host    guard → launch.py → mpirun ─┬→ rank.py → the script      (its own ranks)
                                              └→ agent.py HOST             (in ssh's place, for each other host)
    other hosts   guard → launch.py → orted → rank.py → the script

agent.py leaves what mpirun wants to be run on a host in a folder; the first host's worker tells the others of it where they
exchange how their scripts fare, and they run it. What a rank says goes to its own host's log, line by line.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algorithms.script.contract import Container
from algorithms.script.distribution import Distribution
from trainer.errors import UserError

HERE = Path(__file__).parent
TAG = re.compile(r"^\[1,(\d+)\]<stdout>:")  # as mpirun's --tag-output writes it
FAILED = re.compile(r"^\[headway\] rank (\d+) ended with exit code (\d+)$")
LEAVE_SECONDS = 15.0  # for a host's daemon, once mpirun has ended
LATER = {  # what Open MPI calls the same from version 5 on
    "ras": "ras",
    "plm_rsh_no_tree_spawn": "plm_ssh_no_tree_spawn",
    "orte_leave_session_attached": "prte_leave_session_attached",
    "if_base_do_not_resolve": "prte_do_not_resolve",
    "oob_tcp_if_include": "prte_if_include",
}
INSTALL = "install it, on Debian: apt-get install openmpi-bin"


@dataclass(frozen=True)
class Hosts:
    """Who takes part. machines: the machine's own name, for each host; networks: what it has of its own, where several are on
    one machine; interfaces: of the network between them."""

    names: Sequence[str]
    machines: Sequence[str]
    networks: Sequence[str]
    interfaces: Sequence[str]
    cpus: int

    def variables(self, machine: str, processes: int) -> dict[str, str]:
        """Settings of Open MPI's for a host, which options on mpirun's command line go before."""
        together = self.machines.count(machine)
        settings = {
            "plm": "rsh",  # whatever cluster this is, its nodes are reached by agent.py
            "ras": "^slurm,tm,lsf,gridengine,alps",
            "plm_rsh_no_tree_spawn": "1",
            "orte_leave_session_attached": "1",
            "orte_abort_on_non_zero_status": "1",
            "if_base_do_not_resolve": "1",  # several hosts may be one machine
            "pml": "ob1",
            # what hosts of one machine would share in memory has the same names
            "btl": "^openib" if len(set(self.machines)) == len(self.machines) else "tcp,self",
            "btl_vader_single_copy_mechanism": "none",
            "mpi_yield_when_idle": str(int(processes * together > self.cpus)),
        }
        between = set(self.interfaces)
        if len(set(zip(self.machines, self.networks, strict=True))) == 1:  # nobody else can reach them then
            settings["if_base_retain_loopback"], between = "1", {"lo"}
        if len(between) == 1 and any(between):
            settings |= dict.fromkeys(("btl_tcp_if_include", "oob_tcp_if_include"), between.pop())
        told = {f"OMPI_MCA_{name}": value for name, value in settings.items()}
        return told | {
            f"PRTE_MCA_{LATER[name]}": value for name, value in settings.items() if name in LATER and value != "lo"
        }


class Part:
    """What a worker has in it: the first one of each host acts for all of it."""

    def __init__(self, container: Container, spread: Distribution, workers: int, *, leads: bool) -> None:
        self._container, self._spread, self._leads = container, spread, leads
        self._processes = spread.processes_per_host or workers
        self._host = container.current_host
        self.is_first = leads and self._host == container.hosts[0]
        self.place = Path()
        self._asked: set[str] = set()
        self._began = False

    def check(self) -> None:
        """Names the folder that the host's processes will have in common. Raises UserError if Open MPI isn't here."""
        if not self._leads:
            return
        wanted = "mpirun" if self.is_first else "orted"
        if shutil.which(wanted) is None and (
            self.is_first or shutil.which("prted") is None
        ):  # prted: from version 5 on
            raise UserError(f"algorithm.distribution=mpi: there is no {wanted} of Open MPI on {self._host}; {INSTALL}")
        usual = tempfile.gettempdir()  # of a plain path, which is short: sockets are in it
        self.place = Path(usual if _is_plain(usual) else "/tmp", f"headway-mpi-{uuid.uuid4().hex[:12]}")

    def mpirun(self, command: Sequence[str]) -> list[str]:
        """What the first host runs, for `command` to be run by each process on each host."""
        hosts = ["localhost", *self._container.hosts[1:]]
        number = len(hosts) * self._processes
        line = ["mpirun", "--host", ",".join(f"{host}:{self._processes}" for host in hosts), "-np", str(number)]
        line += ["--allow-run-as-root", "--bind-to", "none", "--map-by", "slot", *self._spread.options]
        return self._launch([*line, sys.executable, "-I", "-S", str(HERE / "rank.py"), *command])

    def daemon(self, command: str) -> list[str]:
        """What another host runs: what mpirun asked for."""
        return self._launch(["/bin/sh", "-c", command])

    def environment(self, env: Mapping[str, str], hosts: Hosts) -> dict[str, str]:
        machine = hosts.machines[list(hosts.names).index(self._container.current_host)]
        own = {
            "HEADWAY_MPI": str(self.place),
            "HEADWAY_MPI_CODE": str(self._container.code),
            **dict.fromkeys(("OMPI_MCA_orte_tmpdir_base", "PRTE_MCA_prte_tmpdir_base"), str(self.place)),
            **dict.fromkeys(("OMPI_MCA_plm_rsh_agent", "PRTE_MCA_plm_ssh_agent"), f"/bin/sh {self.place}/agent"),
            "PRTE_MCA_plm": "ssh",
        }
        return {**env, **hosts.variables(machine, self._processes), **own}

    def tells(self, code: int | None) -> list[Any]:
        """What this host has to tell the others: its name, how its part has ended if it has, and what mpirun wants of whom."""
        if not self._leads:
            return ["", None, []]
        asks = []
        for path in sorted(self.place.glob("ask-*.json")) if self.is_first else ():
            if path.name not in self._asked:
                self._asked.add(path.name)
                asks.append(json.loads(path.read_text(encoding="utf-8")))
        return [self._host, code if self._began or self.is_first else None, asks]

    def hears(self, told: Sequence[Sequence[Any]]) -> str:
        """Takes up what the hosts have told; gives the command that this one is to run now, if any."""
        for host, code, _ in told if self.is_first else ():
            if host and host != self._host and code is not None:
                self._answer(host, code)
        wanted = [command for _, _, asks in told for host, command in asks if host == self._host]
        self._began = self._began or bool(wanted and self._leads)
        return wanted[0] if wanted and self._leads else ""

    def _answer(self, host: str, code: int) -> None:
        """Tells mpirun how that host's part has ended."""
        with contextlib.suppress(OSError):  # mpirun itself has ended meanwhile
            beside = self.place / f".answer-{host}"
            beside.write_text(str(code), encoding="ascii")
            os.replace(beside, self.place / f"answer-{host}")

    def _launch(self, command: Sequence[str]) -> list[str]:
        line = [sys.executable, "-I", "-S", str(HERE / "launch.py"), str(self.place), *command]
        return ["/bin/sh", "-c", f"exec {shlex.join(line)}"]


def as_module(command: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """A Python script's command, by mpi4py if that is there: it ends all processes when one raises."""
    line, paths = list(command), [*env.get("PYTHONPATH", "").split(os.pathsep), *sys.path]
    there = any((Path(path) / "mpi4py" / "run.py").is_file() for path in paths if path)
    if line[0] == sys.executable and line[1] != "-m" and there:
        return [line[0], "-m", "mpi4py", *line[1:]]
    return line


def said_by_failed(lines: Sequence[str]) -> list[str]:
    """What the first process of this host that failed has said; nothing if none did."""
    failed = next((found[1] for line in lines if (found := FAILED.match(line))), None)
    tag = f"[1,{failed}]<stdout>:"
    return [line.removeprefix(tag) for line in lines if line.startswith(tag)]


def _is_plain(path: str) -> bool:
    return re.fullmatch(r"[\w./+-]{1,40}", path) is not None
