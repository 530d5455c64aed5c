"""A job's local folder carried to S3 beside training.

    one pass     small files that changed        config, submission, metrics, logs
                 checkpoints, newest first       data in parallel, then whose job it is, then the manifest
                 what a script keeps by itself   as it is
    the model                       what describes it last
                 result.json, then events.jsonl  who sees a final state finds all the rest
                 checkpoints that were replaced  the manifest first

A checkpoint on S3 is complete exactly when its manifest is there, as on a disk; nothing of it is ever written over something that
is there, so two copies of a job can't mix their files. Where nodes have no common folder each carries its own files (see
`trainer.job.remote.mirror_part`), and the one that leads writes the manifest once all are there. If S3 can't be reached training goes on, and so do the tries.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

from trainer.errors import HeadwayError
from trainer.job import checkpoint
from trainer.job.checkpoint import MANIFEST, Retention
from trainer.job.code_path import RECORD
from trainer.job.directory import Job, write_json
from trainer.job.model_description import BESIDE, DESCRIPTION, described
from trainer.job.remote.lease import Ownership, Superseded
from trainer.job.remote.mirror_standing import Standing
from trainer.job.remote.own_state import OwnState
from trainer.storage.objects import S3, Conflict

INTERVAL = 2.0  # seconds between passes
HEARTBEAT = 15.0  # seconds after which the owner says again that it lives, when there is nothing to carry
LONGEST_PAUSE = 30.0
GIVEN_UP_SECONDS = 0.2  # between looks whether a wait is given up
FILES = 4  # carried at once
PARTS_SECONDS = 10.0  # that other nodes' files of a checkpoint are waited for, before a newer one is looked for
Stamp = tuple[int, int, int]


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Mirror:
    """Carries `folder` to `storage`.

    on_superseded is called once, on the mirror's thread, with who has taken the job over; nothing is uploaded any more. say tells
    once when S3 can't be reached, and once when it can again.
    """

    def __init__(
        self,
        storage: S3,
        folder: Path,
        *,
        on_superseded: Callable[[str], None],
        retention: Retention | None = None,
        say: Callable[[str], None] = _log,
        interval: float = INTERVAL,
    ) -> None:
        self.superseded = False
        self._storage, self._job = storage, Job(folder)
        self._on_superseded, self._say, self._interval = on_superseded, say, interval
        self._standing = Standing(storage.url, folder, say, lambda: storage.answered)
        self._retention = retention or Retention()
        self._ownership = Ownership(storage, folder)
        self._pool = ThreadPoolExecutor(FILES, thread_name_prefix="mirror-file")
        self._thread = threading.Thread(target=self._run, daemon=True, name="mirror")
        self._wake = threading.Condition()
        self._asked, self._done, self._stopping = 0, 0, False
        self._sent: dict[str, Stamp | None] = {}  # small files, as they were when they were carried
        self._sent_at: dict[str, float] = {}
        self._up: dict[str, bytes] | None = None  # complete checkpoints on S3, with their manifests
        self._landed: set[tuple[str, bytes]] = set()  # data files carried, of which manifest
        self._model: dict[str, Stamp] | None = None
        self.lacking: str | None = None  # a checkpoint of which other nodes' files have not come yet
        self._own_state = OwnState(storage, self._job, lambda: self._ownership.renew(self._step()))

    # for the agent

    @property
    def owner(self) -> str:
        """This copy's id among those that may be at work on the job."""
        return self._ownership.id

    def take_over(self) -> dict[str, Any] | None:
        """Makes this copy of the job the one that may advance it, before anything is pulled. Returns the record of the one
        before, if any. Raises HeadwayError if S3 can't be reached."""
        before = self._ownership.take_over(self._step())
        with contextlib.suppress(HeadwayError):  # not everyone may list these
            self._storage.abort_uploads("checkpoints/")
        return before

    def start(self) -> None:
        self._standing.begin()
        self._thread.start()

    def flush(self, timeout: float, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Waits until all that is in the folder now is on S3. False if that took too long, is given up, or can't be any more."""
        end = time.monotonic() + timeout
        with self._wake:
            self._asked += 1
            mine = self._asked
            self._wake.notify_all()
            while self._done < mine and not (self.superseded or self._stopping or given_up()):
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._wake.wait(min(left, GIVEN_UP_SECONDS))
            return self._done >= mine

    def stop(self, timeout: float = 10.0) -> None:
        """Ends it as it is; what isn't up by now stays local."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout)
            self._standing.end([] if self.superseded else self._lacking_there())
        self._pool.shutdown(wait=False, cancel_futures=True)  # an agent may go on with another job

    # its thread

    def _run(self) -> None:
        trouble, pause = False, self._interval
        while not self._stopping:
            asked = self._asked
            try:
                with self._standing.asking():
                    self._pass(everything=asked > self._done)
            except Superseded as who:
                with self._wake:
                    self.superseded = True
                    self._wake.notify_all()
                self._say(f"{self._storage.url}: taken over by {who}; this copy uploads nothing more")
                self._on_superseded(str(who))
                return
            except Exception as error:  # whatever it is, training goes on
                self._standing.is_bad(
                    str(error) if isinstance(error, HeadwayError) else f"{self._storage.url}: {error!r}"
                )
                trouble, pause = True, min(2 * pause, LONGEST_PAUSE)
            else:
                self._standing.is_well()
                trouble, pause = False, self._interval
                with self._wake:
                    self._done = asked
                    self._wake.notify_all()
            with self._wake:
                awaited = self._asked > self._done
                if not (awaited and not trouble):
                    self._wake.wait_for(partial(self._is_called, self._asked), min(pause, 1.0) if awaited else pause)

    def _is_called(self, known: int) -> bool:
        return self._stopping or self._asked > known

    def _pass(self, *, everything: bool) -> None:
        ended = self._job.result_path.exists()  # before looking at the rest, which is then complete
        if everything or time.monotonic() - self._ownership.renewed > HEARTBEAT:
            self._ownership.renew(self._step())
        self._send_small(closing=False, everything=everything)
        self._send_checkpoints()
        self._own_state.send(self._pool, everything=everything or ended)
        self._send_model()
        if ended:
            self._tell_of_model()
        self._send_small(closing=ended, everything=everything)

    # small files

    def _send_small(self, *, closing: bool, everything: bool = False) -> None:
        changed = self._changed(closing, everything)
        result = self._job.result_path.name
        withdrawn = not self._job.result_path.exists() and self._sent.get(result, ()) is not None
        if not changed and not withdrawn:
            return
        self._ownership.renew(self._step())
        if withdrawn:  # of an earlier attempt: the job goes on
            self._storage.delete([result])
            self._sent[result] = None
        for path in changed:
            self._send(path)

    def _send(self, path: Path) -> None:
        name, stamp = self._name(path), _stamp(path)
        with contextlib.suppress(FileNotFoundError):
            self._storage.upload(path, name)
            self._sent[name], self._sent_at[name] = stamp, time.monotonic()

    def _name(self, path: Path) -> str:
        return path.relative_to(self._job.dir).as_posix()

    def _is_due(self, path: Path, everything: bool) -> bool:
        """Whether a small file has changed, and may be carried again."""
        name, stamp = self._name(path), _stamp(path)
        if stamp is None or path.name.startswith(".") or self._sent.get(name) == stamp:
            return False
        patience = self._interval * stamp[0] / (1 << 20)  # a file is carried as a whole: a large one less often
        return everything or time.monotonic() - self._sent_at.get(name, -math.inf) >= patience

    def _send_metrics(self) -> None:
        """Whoever goes on from a checkpoint finds the metrics up to its step: they were on the disk before it was."""
        if self._is_due(self._job.metrics_path, True):
            self._send(self._job.metrics_path)

    def _changed(self, closing: bool, everything: bool) -> list[Path]:
        job = self._job
        submission = sorted((job.dir / RECORD).parent.glob("*"))  # the code's archive before the record that names it
        outputs = sorted((job.dir / "output").glob("*"))  # of a script
        logs = [*job.event_files, *sorted(job.logs.rglob("*"))]
        paths = [job.config_path, *submission, job.metrics_path, *logs, *outputs]
        if closing or not job.result_path.exists():
            paths += [job.result_path, job.events_path]
        return [path for path in paths if self._is_due(path, everything)]

    # checkpoints

    def _send_checkpoints(self) -> None:
        if self._up is None:
            self._up = self._look()
        sent, self.lacking = False, None
        while not self.lacking and (waiting := self._next()):
            sent = self._send_checkpoint(*waiting, self._up) or sent
        if sent:
            self._retire(self._up)

    def _look(self) -> dict[str, bytes]:
        names = [name for name in self._storage.list("checkpoints/") if name.endswith(f"/{MANIFEST}")]
        read = [(name.split("/")[1], self._storage.read(name)) for name in names]
        return {name: found[0] for name, found in read if found}

    def _next(self) -> tuple[Path, bytes] | None:
        """The newest whole checkpoint that isn't up."""
        for place in reversed(checkpoint.listing(self._job.checkpoints)):
            with contextlib.suppress(FileNotFoundError):
                manifest = (place / MANIFEST).read_bytes()
                if (self._up or {}).get(place.name) != manifest and checkpoint.problem(
                    place, content=False, apart=True
                ) is None:
                    return place, manifest
        return None

    def _send_checkpoint(self, place: Path, manifest: bytes, up: dict[str, bytes]) -> bool:
        """Whether it is up; not if it was deleted here meanwhile, or other nodes still have files of it."""
        prefix, step = f"checkpoints/{place.name}/", checkpoint.step_of(place)
        self._ownership.renew(self._step())
        there, told = self._storage.list(prefix), json.loads(manifest)
        files = {checkpoint.name_on_s3(told, file): file for file in told["files"]}
        here = checkpoint.held(place, told["files"]) if checkpoint.PARTS in told else told["files"]
        others = {name for name, file in files.items() if file not in here}
        kept = others | {n for n in files if prefix + n in there and (prefix + n, manifest) in self._landed}
        remains = [name for name in there if name.removeprefix(prefix) not in kept]
        up.pop(place.name, None)
        if remains:  # what is deleted can't be put on a condition: the shorter ago it was ours, the better
            self._ownership.renew(self._step())
        self._storage.delete(name for name in remains if name == prefix + MANIFEST)
        self._storage.delete(name for name in remains if name != prefix + MANIFEST)
        try:
            self._carry({prefix + n: place / file for n, file in files.items() if n not in kept}, manifest)
            sizes = {prefix + name: told["files"][files[name]]["size"] for name in others}
            if sizes and not self._awaited(prefix, sizes):
                self.lacking = place.name
                return False
            if (place / MANIFEST).read_bytes() != manifest:  # written again meanwhile
                return False
            self._ownership.renew(step)
            self._send_metrics()
            self._storage.write(prefix + MANIFEST, manifest, if_absent=True)
        except FileNotFoundError:
            if (place / MANIFEST).exists():
                raise
            return False
        except Conflict:
            self._landed -= {(prefix + name, manifest) for name in files}
            self._ownership.renew(self._step())  # is it still ours? Then once more, over what was left there
            raise
        self._landed.clear()
        up[place.name] = manifest
        return True

    def _awaited(self, prefix: str, files: dict[str, int]) -> bool:
        """Whether these files, which other nodes carry, are there with these sizes, now or soon."""
        end = time.monotonic() + PARTS_SECONDS
        while not files.items() <= self._storage.list(prefix).items():
            if time.monotonic() > end or self._stopping:
                return False
            time.sleep(self._interval / 4)
        return True

    def _carry(self, files: dict[str, Path], manifest: bytes) -> None:
        """Uploads files in parallel, and meanwhile what changes of the small ones."""

        def upload(name: str) -> None:
            self._storage.upload(files[name], name, if_absent=True)
            self._landed.add((name, manifest))

        waiting = {self._pool.submit(upload, name) for name in files}
        try:
            while waiting:
                done, waiting = wait(waiting, self._interval, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                if waiting:
                    with contextlib.suppress(HeadwayError):
                        self._send_small(closing=False)
        finally:
            for future in waiting:
                future.cancel()
            wait(waiting)

    def _retire(self, up: dict[str, bytes]) -> None:
        """Deletes on S3 what was deleted here or on another machine before, and what never got a manifest."""
        self._ownership.renew(self._step())
        here = {place.name for place in checkpoint.listing(self._job.checkpoints)}
        by_age = sorted(up, key=lambda name: checkpoint.step_of(Path(name)))
        kept = set(by_age[-self._retention.newest :])
        if self._retention.best:
            kept |= set(sorted(by_age, key=lambda name: _score(up[name], self._retention))[: self._retention.best])
        gone: dict[str, list[str]] = {}
        for name in self._storage.list("checkpoints/"):
            gone.setdefault(name.split("/")[1], []).append(name)
        for name, objects in gone.items():
            is_checkpoint = name.startswith(checkpoint.PREFIX) and name[len(checkpoint.PREFIX) :].isdigit()
            if name in here or name in kept or not is_checkpoint:
                continue
            if checkpoint.step_of(Path(name)) < checkpoint.step_of(Path(by_age[-1])):
                self._storage.delete(object_ for object_ in objects if object_.endswith(f"/{MANIFEST}"))
                self._storage.delete(object_ for object_ in objects if not object_.endswith(f"/{MANIFEST}"))
                up.pop(name, None)

    def _send_model(self) -> None:
        folder, stamps = self._job.model, self._model_stamps()
        last = described(folder).name
        if not stamps or stamps == self._model:
            return
        self._ownership.renew(self._step())
        there = self._storage.list("model/")
        self._storage.delete(name for name in there if name in (f"model/{BESIDE}", f"model/{DESCRIPTION}"))
        self._storage.delete(name for name in there if name not in (f"model/{BESIDE}", f"model/{DESCRIPTION}"))
        self._carry({f"model/{name}": folder / name for name in stamps if name != last}, b"")
        self._ownership.renew(self._step())
        self._storage.upload(folder / last, f"model/{last}", if_absent=True)
        self._model = stamps

    def _tell_of_model(self) -> None:
        """Who reads the result finds the model where it says: here, until it is up."""
        result, folder = self._job.result(), self._job.model
        if result and result.get("model") == str(folder) and self._model:
            write_json(self._job.result_path, {**result, "model": f"{self._storage.url}/model"}, durable=True)

    def _lacking_there(self) -> list[str]:
        """What is here and, as far as this copy knows, not there."""
        checkpoints = reversed(checkpoint.listing(self._job.checkpoints))
        names = [f"checkpoints/{place.name}" for place in checkpoints if place.name not in (self._up or {})]
        if self._model_stamps() != (self._model or {}):
            names.insert(0, "model")
        return [*names, *(self._name(path) for path in self._changed(closing=True, everything=True))]

    def _model_stamps(self) -> dict[str, Stamp]:
        """Of its files; {} before there is one."""
        folder = self._job.model
        if not described(folder).is_file():
            return {}
        return {p.relative_to(folder).as_posix(): stamp for p in folder.rglob("*") if (stamp := _stamp(p))}

    def _step(self) -> int:
        """Of the newest checkpoint here."""
        places = checkpoint.listing(self._job.checkpoints)
        return checkpoint.step_of(places[-1]) if places else 0


def _stamp(path: Path) -> Stamp | None:
    """Changes when the file does; None if there is none."""
    with contextlib.suppress(FileNotFoundError):
        stat = path.stat()
        if path.is_file():
            return stat.st_size, stat.st_mtime_ns, stat.st_ino
    return None


def _score(manifest: bytes, retention: Retention) -> float:
    """Lower is better."""
    try:
        value = float(json.loads(manifest).get("metrics", {}).get(retention.metric))
    except (ValueError, TypeError):
        return math.inf
    if math.isnan(value):
        return math.inf
    return -value if retention.maximize else value
