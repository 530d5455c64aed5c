"""One life of a node's workers under PyTorch's elastic agent."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers.rendezvous.rendezvous import Round
from trainer.job.directory import Job
from trainer.job.node_state import process_lives

POLL_SECONDS = 0.02
LEAVE_SECONDS = 3.0


@dataclass(frozen=True)
class Ended:
    """How the workers ended: rank 0's (or this node's first worker's) own account, or None and their exit codes."""

    outcome: dict[str, Any] | None
    exit_codes: dict[int, int]
    problem: str = ""  # of the elastic agent itself


class Patient:
    """The event that lets finished workers leave. To set it waits for all who wait on it, and so for ever if one of
    them was killed: it gets some seconds, then the elastic agent goes on and finds who is dead."""

    def __init__(self, event: Any) -> None:
        self._event = event

    def set(self) -> None:
        thread = threading.Thread(target=self._event.set, daemon=True)
        thread.start()
        thread.join(LEAVE_SECONDS)


def run_workers(
    job: Job, workers: int, attempt: int, meet: Round, folder: Path, started: Callable[[list[int]], None]
) -> Ended:
    """Runs a node's workers to an end. `started` gets their process ids. Raises nothing: a failure is an end too."""
    from torch.distributed import PrefixStore
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

    from trainer.worker.entry import work

    class Met(RendezvousHandler):
        """The meeting that has been held already."""

        use_agent_store = True

        def get_backend(self) -> str:
            return "headway"

        def next_rendezvous(self) -> Any:
            store = meet.store
            if store is None:
                from datetime import timedelta

                from torch.distributed import TCPStore

                store = TCPStore(meet.address, meet.port, is_master=False, timeout=timedelta(seconds=30))
            found = RendezvousStoreInfo(meet.address, meet.port)
            return RendezvousInfo(PrefixStore("agents", store), meet.rank, meet.nodes, found)

        def is_closed(self) -> bool:
            return False

        def set_closed(self) -> None:
            """Nobody else comes to this one."""

        def num_nodes_waiting(self) -> int:
            return 0

        def get_run_id(self) -> str:
            return job.name

        def shutdown(self) -> bool:
            return True

    class Agent(LocalElasticAgent):
        """The elastic agent, which says whom it started, ends workers without grace, and waits for no other node."""

        exit_codes: dict[int, int] = {}  # noqa: RUF012 - replaced, never changed

        def _start_workers(self, worker_group: Any) -> dict[int, Any]:
            pids = super()._start_workers(worker_group)
            context: Any = self._pcontext
            context._worker_finished_event = Patient(context._worker_finished_event)
            started([pids[i] for i in sorted(pids)])
            return pids

        def _monitor_workers(self, worker_group: Any) -> Any:
            context: Any = self._pcontext
            processes = context._pc.processes
            ranks = [worker.global_rank for worker in worker_group.workers]
            if not any(p.exitcode for p in processes):
                return super()._monitor_workers(worker_group)
            # some have died by themselves, whether their exit codes are known yet or not; the others are ended now,
            # stopped or stuck as they may be
            died = [i for i, p in enumerate(processes) if p.exitcode is not None or not process_lives(p.pid)]
            for process in processes:
                process.kill()
            monitored = super()._monitor_workers(worker_group)
            self.exit_codes = {ranks[i]: processes[i].exitcode for i in died if processes[i].exitcode is not None}
            return monitored

        def _shutdown(self, death_sig: signal.Signals = signal.SIGKILL, timeout: int = 5) -> None:
            super()._shutdown(signal.SIGKILL, timeout)

        def _exit_barrier(self) -> None:
            """The job directory says when all have ended."""

    # the elastic agent's own handlers kill; until they are replaced they must not hear the signals that we handle
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGURG"
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the workers say more themselves
    spec = WorkerSpec(
        role="worker",
        local_world_size=workers,
        entrypoint=work,
        args=(str(job.dir), attempt, str(folder)),
        rdzv_handler=Met(),
        max_restarts=0,
        monitor_interval=POLL_SECONDS,
        local_addr=meet.address,
    )
    agent = Agent(spec, DefaultLogsSpecs(str(folder)), start_method="forkserver", shutdown_timeout=5)
    try:
        ended = agent.run()
    except Exception as error:  # a peer that is gone shows in many forms; what the workers left says more
        logging.getLogger(__name__).exception("the elastic agent ended")
        return Ended(
            None, agent.exit_codes, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        )
    if ended.is_failed():
        return Ended(None, agent.exit_codes)
    return Ended(ended.return_values[min(ended.return_values)], agent.exit_codes)
