"""The agent of a node: starts the workers under PyTorch's elastic agent, again if they die, and says how it went.

    python -m launchers.agent JOB_DIR --workers N [--node K --nodes MAX --min-nodes MIN --address HOST | --towards HOST]
    python -m launchers.agent --serve FOLDER        a warm one, which is told its jobs: see launchers.agent.warm_pool

It holds a lock on the job's events.jsonl while it lives. Workers are forked from one process that has imported torch
once, while the agent itself starts: N workers, and every restart, pay for that import a single time.

Signals: INT stops the job in order (Stopped), TERM, HUP, USR1 and USR2 interrupt it in order (Interrupted), QUIT ends it
now. Notices of the cloud do as TERM does. Exit codes: 0 completed, 1 failed, 2 failed by the user's mistake, 75
interrupted or stopped.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from launchers.agent import attempts, failing, fork_server
from launchers.agent.arguments import parse
from launchers.agent.carrying import bring_up, carry
from launchers.agent.control import Control, Unbegun
from launchers.agent.elastic import Ended, run_workers
from launchers.agent.errors import first_error, out_of_memory
from launchers.agent.hangs import STACK_SECONDS, Beats, HangWatch
from launchers.agent.restart_policy import Attempt, why_not
from launchers.agent.serving import serve
from launchers.notices.notices import SIGNALS, SUPERSEDED, Notice, Watcher, choose
from launchers.rendezvous import no_shared_folder
from launchers.rendezvous.address import interface, towards
from launchers.rendezvous.lock import hold
from launchers.rendezvous.rendezvous import Events, Meeting, Place, Round, open_store
from launchers.rendezvous.store import board_of
from trainer.config.schema import load_job, seconds
from trainer.errors import ExitCode, HeadwayError
from trainer.job import code_path, node_state
from trainer.job.directory import MAX_RUNTIME, Job, State, write_json
from trainer.job.private import heed
from trainer.job.remote.mirror import Mirror
from trainer.job.result import write_result
from trainer.process import clock, memory, scratch
from trainer.storage.retry import patiently

RESERVE_BYTES = 1 << 16
SOURCES = ("lost node", "hang")  # of interruptions that nobody gave notice of


def main(arguments: list[str]) -> int:
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    if arguments[0] == "--serve":
        return serve(partial(run, warm=True), arguments[1])
    return run(arguments)


def run(arguments: list[str], *, warm: bool = False) -> int:
    """Runs a job on this node. Gives the exit code. Raises UserError if it has an agent here already. warm: others follow."""
    args = parse(arguments)
    early: list[int] = []  # told before anybody listens
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: early.append(number))
    job = no_shared_folder.opened(args.job, args.node)
    address = towards(args.towards) if args.towards and args.nodes > 1 else args.address
    place = Place(args.node, address, args.nodes, args.min_nodes or args.nodes, args.patience)
    with ExitStack() as held:
        hold(job, place, held)
        held.enter_context(failing.told(job, place))
        heed(config := load_job(job.config_path))
        folder = held.enter_context(scratch.folder(keep=(node_state.BEATS, job.logs)))
        # inherited too: on loopback nobody else shall reach the workers, elsewhere a machine's name may lead nowhere
        if name := interface(place.address):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ[node_state.JOB] = str(job.dir.resolve())
        os.environ[node_state.APART] = job.url or ""
        all_workers = args.workers * args.nodes
        held.enter_context(fork_server.started(config, folder, all_workers, code_path.folders(job.dir)))
        agent = Agent(job, config, place, args.workers, folder, warm=warm)
        agent.control.listen(early)
        return agent.run()


class Agent:
    """What this node does for a job, one life of the workers after the other."""

    def __init__(
        self, job: Job, config: dict[str, Any], place: Place, workers: int, folder: Path, *, warm: bool
    ) -> None:
        self.job, self.place, self.workers, self.folder, self.is_warm = job, place, workers, folder, warm
        self.hang_timeout = seconds(config["train"].get("hang_timeout"), "train.hang_timeout")
        self.max_restarts = int(config["launcher"].get("max_restarts", 3))
        self.control = Control(folder)
        self.watcher = Watcher(choose(config["launcher"].get("notices") or []), self.control.on_notice)
        self.meeting: Meeting | None = None
        self.config = config
        self.mirror: Mirror | None = None
        self.history: list[Attempt] = []
        self.kept: attempts.Kept = {}  # what the present workers found
        self.kills = memory.kills()
        self.ended: State | None = None  # how this agent ended the job

    def run(self) -> int:
        """Runs the workers to the job's end, or to this node's. Gives the exit code."""
        started = clock.now()
        self.watcher.start()
        if self.place.nodes > 1:
            events = Events(self._on_ask, self._on_lost)
            self.meeting = Meeting(self.job, self.place, self.workers, events, board_of(self.job))
            self.control.spread = self.meeting.tell
        try:
            self._look_before_it_begins()
            while True:
                meet = self._meet()
                if meet is None:
                    return self._not_met(started)
                try:
                    code = self._live(meet, started)
                except HeadwayError as error:  # S3 can't be reached, or refuses
                    return self._end(State.FAILED, str(error), failing.of_agent(error), {}, started)
                if code is not None:
                    return code
        except Unbegun:
            return self._end_as_asked(None, {}, started)
        except OSError as error:  # how it went can't be written down: the next agent does it
            print(
                f"{error.filename or self.job.dir} can't be written: {error.strerror}; the same command goes on",
                flush=True,
            )
            return ExitCode.INTERRUPTED
        finally:
            self.watcher.stop()
            if self.mirror is not None:
                bring_up(self.mirror, self.control, self.meeting)
            if self.meeting:
                if self.ended:  # told once S3 has it all: who sees the end finds the rest
                    self.meeting.end(self.ended)
                self.meeting.close()
            self.control.close()

    def _look_before_it_begins(self) -> None:
        """From here until there are workers a signal ends the wait for them: PyTorch alone takes seconds to import, and whoever
        asks may kill what is still there after some. Raises Unbegun if one has come already."""
        if self.meeting is None and "://" not in str(self.config["job"]["dir"]) and not self.is_warm:
            self.control.impatient = True
            if self.control.leave is not None:
                raise Unbegun

    def _meet(self) -> Round | None:
        if self.meeting is None:
            store, port = open_store(self.place.address)
            return Round(0, 0, 1, self.place.address, port, store)
        if self.job.url and self.mirror is not None:  # the next round may have another leading node
            no_shared_folder.gather(self.mirror, self.meeting, no_shared_folder.PARTS_SECONDS)
            self.mirror.stop()
            self.mirror = None
        return self.meeting.join(lambda: self.control.leave is not None or self._final() is not None)

    def _final(self) -> State | None:
        """How the job has ended, if it has."""
        if self.meeting and self.job.url:  # its events are another node's
            return self.meeting.ended()
        return self.job.state() if self.job.state().is_final else None

    def _not_met(self, started: dict[str, Any]) -> int:
        """The others ended the job, or it was stopped while this node waited for them."""
        leave, final = self.control.leave, self._final()
        if leave is None or final:
            if final is State.COMPLETED:
                return ExitCode.COMPLETED
            return ExitCode.FAILED if final is State.FAILED else ExitCode.INTERRUPTED
        if self.meeting is None or self.meeting.others() == 0:
            if self.job.url:  # of the job's events this node knows only those before it came
                self.mirror = carry(self.job, self.config, self._on_superseded, fetch=True)
            self._end(leave.state, leave.why, None, {}, started, source=leave.source)
        return ExitCode.INTERRUPTED

    def _live(self, meet: Round, started: dict[str, Any]) -> int | None:
        """One life of the workers. The exit code if it was the last one on this node."""
        job, told = self.job, {}
        if meet.leads:
            if self.mirror is None:
                self.mirror = carry(job, self.config, self._on_superseded, fetch=self.place.nodes == 1 or bool(job.url))
            if self.mirror and self.meeting and job.url:
                told = no_shared_folder.lead(job, self.mirror, self.meeting)
            patiently(lambda: attempts.note_death(job, self.folder))
            patiently(lambda: job.reserve.write_bytes(b"\0" * RESERVE_BYTES))
        beats = Beats(self.folder, self.workers)
        self.kept = attempts.kept(job) if meet.leads else {}
        attempt = self._attempt(meet, told)
        if attempt is None:
            return None
        watches: list[HangWatch] = []

        def on_started(pids: list[int]) -> None:
            record = {"agent": os.getpid(), "workers": pids, "attempt": attempt}
            patiently(lambda: write_json(job.logs / f"node-{self.place.node}.json", record))
            if self.hang_timeout is not None:
                watches.append(HangWatch(beats, self.hang_timeout, pids, self._on_hang))
            self.control.watch(pids)

        knows = meet.leads or not job.url  # another node's events may not be here
        self.control.begun = lambda: not knows or attempts.running(job, attempt) is not None
        ended = run_workers(job, self.workers, attempt, meet, self.folder, on_started)
        for watch in watches:
            watch.stop()
        code = self._judge(meet, attempt, ended, beats, started)
        self.control.forget()
        return code

    def _attempt(self, meet: Round, told: dict[str, Any]) -> int | None:
        """The number of this life; the leader's event counts it for all. None if it won't begin. told: what the leader says
        besides."""
        if meet.leads:
            patiently(lambda: self.job.result_path.unlink(missing_ok=True))  # of an earlier life, which was interrupted
            attempt = attempts.count(self.job)
            counts = {"attempt": attempt, "workers": self.workers * meet.nodes, "nodes": meet.nodes}
            places = {"host": os.uname().nodename, "folder": str(self.folder), "dir": str(self.job.dir)}
            begun = {**counts, "pid": os.getpid(), **places, "saved": attempts.newest(self.job)}
            patiently(lambda: self.job.add_event(State.STARTING, **begun))
            if meet.store is not None:
                meet.store.set("life", json.dumps({"attempt": attempt, **told}))
            if self.job.url and not no_shared_folder.all_ready(meet, self._disturbed):
                return None
            return attempt
        try:
            store, said = no_shared_folder.said_by_leader(meet, self._disturbed)
        except Exception:  # the leader is gone again, which shows in many forms: this life will not begin
            logging.getLogger(__name__).exception("the leader of round %s is gone", meet.number)
            return None
        if self.job.url:
            self.mirror = no_shared_folder.follow(self.job, meet, store, said)
        return int(said["attempt"])

    def _disturbed(self) -> bool:
        """Whether something has come up before the workers started."""
        return self.control.leave is not None or self.control.cause is not None

    def _judge(self, meet: Round, attempt: int, ended: Ended, beats: Beats, started: dict[str, Any]) -> int | None:
        """What follows from how the workers ended: the exit code, or None if they are started again."""
        control, leave, outcome = self.control, self.control.leave, ended.outcome
        if outcome is not None:
            state = State(outcome["state"])
            if state.is_final:
                if meet.leads:
                    source = MAX_RUNTIME if state is State.STOPPED else None
                    return self._end(state, outcome.get("reason", ""), None, outcome, started, source=source)
                if self.meeting and not self.meeting.sees_end(lambda: self._final() is not None):
                    return None
                return ExitCode.COMPLETED if state is State.COMPLETED else ExitCode.INTERRUPTED
            assert leave is not None, "the workers left though nobody asked them to"
            return self._leave(meet, attempt, int(outcome["step"]), outcome, started)
        reached = beats.reached
        if leave is not None and (control.now or leave.regroup):
            return self._leave(meet, attempt, reached, {}, started)
        if meet.leads and meet.nodes > 1 and self.job.url and not self._disturbed():
            no_shared_folder.bring_errors(self.job, attempt, self.workers * (meet.nodes - 1))
        error = first_error(self.job, attempt, ended.exit_codes, ended.problem)
        kills, self.kills = self.kills, memory.kills()
        if error.get("kind") == "SIGKILL" and self.kills > kills:
            error = out_of_memory(error, self.config, attempts.running(self.job, attempt), self.workers * meet.nodes)
        if control.cause:
            kind, words = control.cause
            error = {**error, "type": "WorkerDied", "kind": kind, "message": words, "final": False}
            if kind == "hang" and meet.nodes == 1 and beats.behind:
                error |= {"rank": beats.behind[0], "log": str(self.job.log_path(attempt, beats.behind[0]))}
        elif error.get("kind") == "SIGABRT":  # so NCCL ends a worker whose collective timed out
            error["message"] += beats.told()
        if not meet.leads:
            return None  # the leader decides
        running = attempts.running(self.job, attempt)
        began = int(running["step"]) if running else None
        self.history.append(Attempt(began, reached, attempts.saved_since(self.job, running, self.kept), error))
        reason = why_not(self.history, self.max_restarts)
        if leave is not None:  # they died while they were to leave: whoever asked counts
            return self._leave(meet, attempt, reached, {}, started)
        if reason is not None:
            message = (
                error["message"] if error.get("final") or len(self.history) == 1 else f"{error['message']}; {reason}"
            )
            return self._end(State.FAILED, message, {**error, "message": message}, {"step": reached or 0}, started)
        kind = str(error.get("kind"))
        self._interrupted(attempt, reached, kind if kind in SOURCES else "worker died", error)
        return None

    def _leave(
        self, meet: Round, attempt: int, step: int | None, outcome: dict[str, Any], started: dict[str, Any]
    ) -> int | None:
        """The workers left as they were asked to. Other nodes may go on, and this one if it was not meant."""
        leave = self.control.leave
        assert leave is not None
        others = self.meeting.others() if self.meeting else 0
        by_hand = leave.state is State.STOPPED
        goes_on = not by_hand and self.meeting is not None
        stays = goes_on and (leave.regroup or (not leave.here and others + 1 >= self.place.min_nodes))
        continued = stays or (goes_on and leave.here and others >= self.place.min_nodes)
        if not continued:
            if meet.leads:
                self._end_as_asked(step or 0, outcome, started)
            return ExitCode.INTERRUPTED
        if meet.leads:
            self._interrupted(attempt, step, leave.source, {"message": leave.why})
        if stays:
            self.control.leave = None
            return None
        return ExitCode.INTERRUPTED

    def _end_as_asked(self, step: int | None, outcome: dict[str, Any], started: dict[str, Any]) -> int:
        leave = self.control.leave
        assert leave is not None
        why = "; ".join(filter(None, (leave.why, outcome.get("note"))))
        known = {} if step is None else {"step": step}
        return self._end(leave.state, why, None, {**known, **outcome}, started, source=leave.source)

    def _interrupted(self, attempt: int, step: int | None, source: str, error: dict[str, Any]) -> None:
        details = {"attempt": attempt, "reason": error["message"], "source": source, "step": step or 0}
        patiently(lambda: self.job.add_event(State.INTERRUPTED, **details))

    def _end(
        self,
        state: State,
        reason: str,
        error: dict[str, Any] | None,
        outcome: dict[str, Any],
        started: dict[str, Any],
        source: str | None = None,
    ) -> int:
        """Writes result.json and the last event. The exit code."""
        job, attempt = self.job, max(0, attempts.count(self.job) - 1)
        job.reserve.unlink(missing_ok=True)
        user_error = bool(error and error.get("user_error"))
        known, stuck = attempts.ended(job, state, attempt, outcome.get("step"), self.kept)
        if stuck:
            state, source, error = State.FAILED, None, failing.of_agent(HeadwayError(f"{stuck}: {reason}"))
            reason = error["message"]
        if job.url and error and error.get("log"):  # in a folder of some node
            error = {**error, "log": f"{job.url}/logs/{Path(error['log']).name}"}
        event = {"attempt": attempt, "reason": reason, "source": source, "user_error": user_error, **known}
        # the result is written before the event: who sees a final state finds it
        now = clock.now()
        result = patiently(
            lambda: write_result(
                job,
                state,
                attempt=attempt,
                error=error,
                wall=clock.seconds(started, now),
                outcome=outcome,
                last={**now, **event},
            )
        )
        patiently(lambda: job.add_event(state, **event, step=result["steps"]))
        if state.is_final:
            self.ended = state
        if state is State.COMPLETED:
            return ExitCode.COMPLETED
        if state is State.FAILED:
            return ExitCode.MISTAKE if user_error else ExitCode.FAILED
        return ExitCode.INTERRUPTED

    def _on_superseded(self, who: str) -> None:
        reason = f"this job was taken over by {who}"
        self.control.on_notice(Notice(source=SUPERSEDED, reason=reason, seconds=None, by_hand=True))

    def _on_ask(self, notice: Notice, regroup: bool) -> None:
        self.control.hear(notice, here=False, regroup=regroup)

    def _on_lost(self, words: str) -> None:
        self.control.kill(("lost node", words))

    def _on_hang(self, words: str) -> None:
        print(f"{words}; its stack traces are in the workers' logs", flush=True)
        self.control.show_stacks()
        time.sleep(STACK_SECONDS)
        self.control.kill(("hang", words))
