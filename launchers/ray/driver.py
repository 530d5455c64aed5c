"""Drives one job on a Ray cluster: `python -m launchers.ray.driver JOB --nodes N --workers M …`, see `launchers.ray`.

It holds a placement group and an actor in each of its bundles, and gives all back when it ends, however it ends: Ray takes
back what a driver leaves. Actors whose node is lost are started again by Ray, where it finds room; their agents join the others
by themselves. SIGTERM interrupts the job in order.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from launchers.agent import failing
from launchers.ray.launcher import ASKS, ORDER, STANDING
from launchers.rendezvous.rendezvous import Place
from trainer.config import secret
from trainer.config.schema import load
from trainer.errors import ExitCode, HeadwayError
from trainer.job.directory import Job, State, read_hint, write_json
from trainer.process import clock, local_ray
from trainer.process.interpreter import working_folder_last

LOOK_SECONDS = 0.25
FAILED = (1, 2)  # exit codes of agents
TELL_SECONDS = 5.0  # between words that it lives
DRAIN_SECONDS = 2.0  # between questions for nodes that are drained
REPLY_SECONDS = 30.0
ANSWER_SECONDS = 5.0


class Node:
    """An actor: the agent of one node as its child. All calls are short, in the process's main thread."""

    def __init__(self, folder: str, paths: list[str]) -> None:
        if os.path.isdir(folder):
            os.chdir(folder)
        known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*paths, *known]))
        sys.path[:0] = [path for path in paths if path not in sys.path]
        self._agent: Any = None

    def where(self) -> tuple[str, str]:
        """The node's name in Ray, and its address."""
        import ray

        return ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()

    def start(self, arguments: list[str], log: str, env: dict[str, str]) -> None:
        from launchers import child

        command = [sys.executable, "-m", "launchers.agent", *arguments]
        self._agent = child.start(command, Path(log), {**os.environ, **env})

    def poll(self) -> tuple[bool, int | None]:
        """Whether it has an agent, and how that ended."""
        return self._agent is not None, None if self._agent is None else self._agent.poll()

    def tell(self, number: int) -> None:
        if self._agent is not None and self._agent.poll() is None:
            self._agent.send_signal(number)


class Driver:
    def __init__(self, job: Job, args: argparse.Namespace) -> None:
        self.job, self.args = job, args
        self.bundle = {"CPU": args.cpus, "GPU": args.gpus, **dict(args.resource)}
        self.bundle = {kind: amount for kind, amount in self.bundle.items() if amount}
        self.told: list[int] = []
        self.drained: set[str] = set()
        self.actors: list[Any] = []
        self.places: list[str | None] = [None] * args.nodes  # where each agent was started last
        self.codes: list[int | None] = [None] * args.nodes
        self._spoke = self._asked = 0.0
        self._began = clock.now()
        for number in ASKS:
            signal.signal(number, lambda number, frame: self.told.append(number))

    def run(self) -> int:
        import ray
        from ray.util.placement_group import placement_group, remove_placement_group

        self.say("asks Ray for its nodes")
        group = placement_group([dict(self.bundle)] * self.args.nodes, strategy="SPREAD")
        try:
            while not group.wait(1):
                self.say(self.lacks())
                if self.told or self.order():
                    leave(self.job)
                    return ExitCode.INTERRUPTED
            self.actors = [self.actor(group, number) for number in range(self.args.nodes)]
            return self.follow()
        finally:
            for actor in self.actors:
                ray.kill(actor)
            remove_placement_group(group)

    def actor(self, group: Any, number: int) -> Any:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        return (
            ray.remote(Node)
            .options(
                num_cpus=self.bundle.get("CPU", 0),
                num_gpus=self.bundle.get("GPU", 0),
                resources=dict(self.args.resource),
                max_restarts=-1,
                max_task_retries=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number),
                runtime_env={"env_vars": local_ray.SPARED},
            )
            .remote(os.getcwd(), [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p])
        )

    def follow(self) -> int:
        """Until the job has ended, or was told to leave and has."""
        sent = 0
        while True:
            for number in range(self.args.nodes):
                self.tend(number)
            wanted = self.wanted()
            if wanted and wanted != sent:
                sent = wanted
                self.tell_all(wanted)
            running = any(
                place is not None and code is None for place, code in zip(self.places, self.codes, strict=True)
            )
            if not running and (self.job.state().is_final or wanted):
                return 0
            self.heed_drains()
            self.say("waits for a node that was lost" if None in self.places and any(self.places) else "")
            time.sleep(LOOK_SECONDS)

    def wanted(self) -> int:
        """The signal that agents are to get: of whoever stops the job, or of whoever ends this process."""
        order = self.order()
        if order:
            return signal.SIGQUIT if order == "now" else signal.SIGINT
        return signal.SIGTERM if self.told else 0

    def order(self) -> str:
        return str(read_hint(self.job.dir / ORDER).get("what", ""))

    def tend(self, number: int) -> None:
        """Sees to one node's agent: starts it if it is to run and doesn't."""
        import ray

        actor = self.actors[number]
        try:
            has, code = ray.get(actor.poll.remote(), timeout=REPLY_SECONDS if self.places[number] else 1.0)
            if has and code is None:
                return
            self.codes[number] = code
            if self.job.state().is_final or self.wanted():
                return
            if code in FAILED:  # and it could not say so
                words = f"the agent of node {number} failed; `headway logs` tells why"
                failing.fail(self.job, Place(number), HeadwayError(words), self._began)
                return
            node, address = ray.get(actor.where.remote(), timeout=REPLY_SECONDS)
            if node in self.drained:
                return
            arguments = [str(self.job.dir), "--workers", str(self.args.workers)]
            if self.args.nodes > 1:
                arguments += ["--node", str(number), "--nodes", str(self.args.nodes)]
                arguments += ["--min-nodes", str(self.args.min_nodes), "--address", address]
            threads = max(1, int(self.args.cpus) // self.args.workers)
            log = str(self.job.logs / f"node-{number}.log")
            env = {"OMP_NUM_THREADS": str(threads), **secret.environment(load(self.job.config_path))}
            ray.get(actor.start.remote(arguments, log, env), timeout=REPLY_SECONDS)
            self.places[number], self.codes[number] = node, None
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            self.places[number] = None  # its node is lost, and Ray looks for another

    def tell_all(self, number: int) -> None:
        for actor, place in zip(self.actors, self.places, strict=True):
            if place is not None:
                actor.tell.remote(number)

    def heed_drains(self) -> None:
        """Agents on nodes that Ray drains are told to leave: what they train is saved, and the others go on."""
        if time.monotonic() - self._asked < DRAIN_SECONDS:
            return
        self._asked = time.monotonic()
        from ray._private.state import state  # there is no public way yet; Ray Train goes this one

        for node in set(state.get_draining_nodes()) - self.drained:
            self.drained.add(node)
            for actor, place in zip(self.actors, self.places, strict=True):
                if place == node:
                    actor.tell.remote(int(signal.SIGTERM))

    def lacks(self) -> str:
        """Why there is no room, as far as it can be told."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        asked = ", ".join(f"{amount:g} {kind}" for kind, amount in self.bundle.items())
        fits = [n for n in nodes if all(n.get(kind, 0.0) >= amount for kind, amount in self.bundle.items())]
        if not fits:
            most = ", ".join(f"{max((n.get(kind, 0.0) for n in nodes), default=0.0):g} {kind}" for kind in self.bundle)
            return f"no node of the cluster has {asked}; the most is {most}"
        return f"waits for {self.args.nodes} times {asked} to get free"

    def say(self, reason: str) -> None:
        """Tells those who follow that it lives, and what it waits for."""
        known = read_hint(self.job.dir / STANDING)
        if known.get("reason") == reason and time.monotonic() - self._spoke < TELL_SECONDS:
            return
        self._spoke = time.monotonic()
        stand(self.job, reason=reason)


def connect(address: str) -> str:
    """Joins the cluster. What went wrong, in a line; empty if nothing."""
    import ray

    try:
        host, _, port = address.rpartition("://")[2].rpartition(":")
        if host and port.isdigit():  # Ray itself tries for long
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, namespace="headway")
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"launcher.address: no Ray answers at {address!r} ({said}); start one, or leave it out"
    return ""


def start(folder: Path, job: Job) -> str:
    """Starts one in the folder. What went wrong, in a line; empty if nothing. Raises KeyboardInterrupt when told to leave."""

    def again(words: str) -> None:
        if read_hint(job.dir / ORDER):
            raise KeyboardInterrupt
        stand(job, reason=words)

    os.environ.update({**local_ray.ALONE, "RAY_AUTH_TOKEN": local_ray.token()})
    for name, value in local_ray.PATIENT.items():
        os.environ.setdefault(name, value)
    try:
        local_ray.start(folder, tell=again)
    except HeadwayError as error:
        return str(error)
    return ""


def stand(job: Job, **told: str) -> None:
    """Tells those who follow the job that this process lives, and what it waits for (`reason`) or died of (`error`)."""
    write_json(job.dir / STANDING, {"time": time.time(), "host": os.uname().nodename, "pid": os.getpid(), **told})


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m launchers.ray.driver", description=__doc__.splitlines()[0])
    parser.add_argument("job", type=Path)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--min-nodes", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True, help="on each node")
    parser.add_argument("--cpus", type=float, required=True, help="of each node")
    parser.add_argument("--gpus", type=float, default=0.0, help="of each node")
    parser.add_argument("--resource", action="append", default=[], type=_resource, help="KIND=AMOUNT, of each node")
    parser.add_argument("--address", help="the cluster's; else one is started")
    args = parser.parse_args(arguments)
    for number in ASKS:
        signal.signal(number, _leave)
    job = Job(args.job)
    try:
        return drive(job, args)
    except KeyboardInterrupt:
        leave(job)
        return ExitCode.INTERRUPTED


def drive(job: Job, args: argparse.Namespace) -> int:
    """The exit code. Raises KeyboardInterrupt when told to leave before the cluster is there."""
    with local_ray.private_folder() if args.address is None else nullcontext(Path()) as folder:
        os.environ.update(local_ray.QUIET)
        wrong = start(folder, job) if args.address is None else connect(args.address)
        if wrong:
            stand(job, error=wrong)
            print(wrong)
            return ExitCode.MISTAKE
        import ray

        try:
            return Driver(job, args).run()
        finally:
            ray.shutdown()


def leave(job: Job) -> None:
    """Says that it left before any agent began."""
    stopped = bool(read_hint(job.dir / ORDER).get("what"))
    job.add_event(State.STOPPED if stopped else State.INTERRUPTED, reason="left before it began")


def _leave(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _resource(text: str) -> tuple[str, float]:
    kind, _, amount = text.rpartition("=")
    return kind, float(amount)


if __name__ == "__main__":
    working_folder_last()
    sys.exit(main(sys.argv[1:]))
