"""How the agents of a job's nodes meet: by records in the job directory, so that any of them may go and come.

    nodes/node-K.json   node K's agent: who, where, how many workers, for which round it waits, a count that moves
    nodes/round.json    the present round: its number, its members in order, where their store is
    nodes/ask.json      what one node has to tell all others: a notice, or that they should regroup
    nodes/end.json      how the job ended, and in which round, for who doesn't see the leader's events

The living node with the lowest number leads: once all the living wait, and they are enough, it opens a store and writes
the round. Nobody waits for a node that is gone. A node that comes (back) is let in at the next round, for which the
leader has the others leave, their state saved. A job on one node needs none of this.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from launchers.notices.notices import Notice
from launchers.rendezvous.store import Board, Files
from trainer.errors import HeadwayError
from trainer.job.directory import Job, State
from trainer.job.node_state import process_lives

JOIN_SECONDS = 30.0  # the first time, for all nodes to come
REGROUP_SECONDS = 0.5  # later, for one more
UNKNOWN = (OSError, HeadwayError, ValueError)  # a record that is just being replaced, S3 that is away


@dataclass(frozen=True)
class Round:
    """The nodes that work together. rank: this one's place; store: the leader's own, None elsewhere."""

    number: int
    rank: int
    nodes: int
    address: str
    port: int
    store: Any = None

    @property
    def leads(self) -> bool:
        return self.rank == 0


@dataclass(frozen=True)
class Place:
    """This node among those of the job: its number, its address, how many nodes there are at most and at least."""

    node: int = 0
    address: str = "127.0.0.1"
    nodes: int = 1
    min_nodes: int = 1
    patience: float | None = None  # seconds to wait for nodes that are lacking; at first ten times as long


def open_store(address: str) -> tuple[Any, int]:
    """The store at which the workers of a round meet, and its port. Torch's own choice would listen on all interfaces,
    also where all workers are on this machine."""
    from torch.distributed import TCPStore

    if not address.startswith("127."):
        store = TCPStore(address, 0, is_master=True, wait_for_workers=False)
        return store, store.port
    listener = socket.socket()
    listener.bind((address, 0))
    listener.listen(128)
    port = listener.getsockname()[1]
    # the store closes it
    return TCPStore(address, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()), port


class Meeting:
    """This node's part in the meetings of a job with several nodes."""

    def __init__(self, job: Job, place: Place, workers: int, events: Events, board: Board | None = None) -> None:
        self._board = board or Files(job.dir)
        self._place, self._events = place, events
        self._me: dict[str, Any] = {
            "node": place.node,
            "id": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "address": place.address,
            "workers": workers,
            "waiting": False,
            "beat": 0,
        }
        known = self._board.read("round")
        self._last = int(known["number"]) if known else 0
        self._began = self._last
        self._heard = self._newest_ask()
        self._to_tell: queue.SimpleQueue[tuple[Notice, int]] = queue.SimpleQueue()  # a signal's handler may put into it
        self._round: dict[str, Any] | None = None
        self._leaving: set[str] = set()  # nodes that said so
        self._seen: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._shown = False
        self._alive: list[dict[str, Any]] = []  # who lived at the last look
        self._ended = threading.Event()
        self._publish()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="meeting")
        self._thread.start()

    def join(self, given_up: Callable[[], bool]) -> Round | None:
        """Waits for the next round that this node is part of; None once `given_up`, or when its patience is over."""
        first = self._round is None
        self._round = None
        self._me["waiting"] = True
        self._publish()
        since, members = time.monotonic(), -1
        until = since + (self._place.patience or float("inf")) * (10 if first else 1)
        try:
            while not given_up() and time.monotonic() < until:
                time.sleep(self._board.look / 5)
                try:
                    found, living = self._read_round(), self._living()
                except UNKNOWN:
                    continue
                if found is not None:
                    return found
                if len(living) != members:
                    since, members = time.monotonic(), len(living)
                patience = JOIN_SECONDS if first and self._last == 0 else REGROUP_SECONDS
                complete = members == self._place.nodes or time.monotonic() - since > patience
                leads = bool(living) and living[0]["id"] == self._me["id"]
                if leads and complete and members >= self._place.min_nodes and all(n["waiting"] for n in living):
                    return self._open_round(living)
            return None
        finally:
            self._me["waiting"] = False
            self._publish()

    def tell(self, notice: Notice) -> None:
        """Tells the other nodes of this round, soon."""
        self._to_tell.put((notice, self._round["number"] if self._round else self._last))

    def others(self) -> int:
        """How many other nodes of the job are alive, and have not said that they leave."""
        with contextlib.suppress(*UNKNOWN):
            self._living()
        return sum(1 for n in self._alive if n["id"] not in {self._me["id"], *self._leaving})

    def end(self, state: State) -> None:
        """Says that the job has ended. If that can't be written, the others find that nobody is left."""
        with contextlib.suppress(*UNKNOWN):
            self._board.write("end", {"round": self._last, "state": state.value})

    def ended(self) -> State | None:
        """How the job ended in a round since this node came, if it has."""
        try:
            said = self._board.read("end")
        except UNKNOWN:
            return None
        return State(said["state"]) if said and int(said["round"]) > self._began else None

    def sees_end(self, ended: Callable[[], bool]) -> bool:
        """For a node whose workers are done before those of the node that leads: waits, so that it is not taken for lost,
        until the job has `ended` or nobody else is there. False if the others begin anew, and it has to come again."""
        while not ended():
            with contextlib.suppress(*UNKNOWN):  # whoever leads waits for S3 as well
                others = [n for n in self._living() if n["id"] != self._me["id"]]
                if not others:
                    return True
                if any(n["waiting"] for n in others):
                    return False
            time.sleep(self._board.look)
        return True

    def close(self) -> None:
        """This node leaves for good."""
        self._ended.set()
        self._thread.join(self._board.lost)
        with contextlib.suppress(*UNKNOWN):  # the others then find it silent
            self._board.remove(f"node-{self._place.node}")

    def _newest_ask(self) -> int:
        return int((self._board.read("ask") or {}).get("id", 0))

    def _tell(self, notice: Notice, number: int, *, regroup: bool = False) -> None:
        self._heard = max(self._heard, self._newest_ask()) + 1
        record: dict[str, Any] = {"id": self._heard, "round": number, "from": self._me["id"], "regroup": regroup}
        said = asdict(notice)
        record["age"] = time.monotonic() - said.pop("seen")  # each machine has clocks of its own
        self._board.write("ask", {**record, "notice": said})

    def _open_round(self, living: list[dict[str, Any]]) -> Round:
        store, port = open_store(self._me["address"])
        members = [{key: n[key] for key in ("node", "id", "host", "pid")} for n in living]
        self._last += 1
        self._round = {"number": self._last, "members": members, "address": self._me["address"], "port": port}
        self._board.write("round", self._round)
        return Round(self._last, 0, len(members), self._me["address"], port, store)

    def _read_round(self) -> Round | None:
        found = self._board.read("round")
        if not found or found["number"] <= self._last:
            return None
        ids = [member["id"] for member in found["members"]]
        self._last = int(found["number"])
        if self._me["id"] not in ids:
            return None
        self._round = found
        return Round(self._last, ids.index(self._me["id"]), len(ids), found["address"], int(found["port"]))

    def _living(self) -> list[dict[str, Any]]:
        """The nodes whose agents live, the lowest number first."""
        nodes = [record for record in self._board.read_all("node-") if self._lives(record)]
        self._alive = sorted(nodes, key=lambda n: int(n["node"]))
        return self._alive

    def _lives(self, record: dict[str, Any]) -> bool:
        if record["id"] == self._me["id"]:
            return True
        if record["host"] == self._me["host"]:
            return process_lives(int(record["pid"]))
        beat, since = self._seen.get(record["id"], (None, 0.0))
        if beat != record["beat"]:
            self._seen[record["id"]] = (record["beat"], time.monotonic())
            return True
        return time.monotonic() - since < self._board.lost

    def _publish(self) -> None:
        """Shows how this node stands. What can't be written now is written with a later beat."""
        with self._lock, contextlib.suppress(OSError, HeadwayError):
            self._shown = False
            if not self._ended.is_set():
                self._board.write(f"node-{self._place.node}", self._me)
            self._shown = True

    def _beat(self) -> None:
        """Shows that this node lives, tells what it has to, and looks after the others of its round."""
        beaten = time.monotonic()
        while not self._ended.is_set():
            try:
                self._tell_all(wait=self._board.look)
                if time.monotonic() - beaten > self._board.beat or not self._shown:
                    self._me["beat"] += 1
                    self._publish()
                    beaten = time.monotonic()
                self._look(self._round)
            except UNKNOWN:
                # nothing is known of the others meanwhile: their silence counts from now on
                self._seen = {i: (beat, time.monotonic()) for i, (beat, _) in self._seen.items()}
        with contextlib.suppress(*UNKNOWN):
            self._tell_all(wait=0.0)

    def _tell_all(self, *, wait: float) -> None:
        """Waits so long for something to tell, and tells all that there is."""
        with contextlib.suppress(queue.Empty):
            notice, number = self._to_tell.get(timeout=wait) if wait else self._to_tell.get_nowait()
            while True:
                self._tell(notice, number)
                notice, number = self._to_tell.get_nowait()

    def _look(self, present: dict[str, Any] | None) -> None:
        if present is None:
            return
        ask = self._board.read("ask")
        if ask and ask["id"] > self._heard:
            self._heard = int(ask["id"])
            if ask["round"] == present["number"] and ask["from"] != self._me["id"]:
                if ask["notice"]["leave"] and not ask["regroup"]:
                    self._leaving.add(ask["from"])
                seen = time.monotonic() - float(ask["age"])
                self._events.on_ask(Notice(**ask["notice"], seen=seen), bool(ask["regroup"]))
        living = {n["id"]: n for n in self._living()}
        lost = [m for m in present["members"] if m["id"] not in living]
        if lost:
            self._round = None
            self._events.on_lost(f"node {', '.join(str(m['node']) for m in lost)} was lost")
            return
        leads = present["members"][0]["id"] == self._me["id"]
        waiting = [n for i, n in living.items() if n["waiting"] and i not in {m["id"] for m in present["members"]}]
        if leads and waiting and len(present["members"]) < self._place.nodes and not present.get("regrouping"):
            present["regrouping"] = True
            notice = Notice(source="regroup", reason=f"node {waiting[0]['node']} has come", seconds=None)
            self._tell(notice, present["number"], regroup=True)
            self._events.on_ask(notice, True)


@dataclass(frozen=True)
class Events:
    """Whom a meeting tells: of another node's notice, and of a node that is gone."""

    on_ask: Callable[[Notice, bool], None]
    on_lost: Callable[[str], None]
