"""What the GPUs of this node do while the job trains: looked at a few times a second by a thread beside the steps.

Figures between two reports become part of the second one, as `gpu/NUMBER/NAME`; the energy goes to the job's logs
every few seconds and at the end. Of a node's workers the first watches all its GPUs; the others, and workers without
a GPU, do nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.job.directory import Job, write_json
from trainer.worker.monitoring import devices
from trainer.worker.monitoring.devices import Alarms, Device, Unreadable

if TYPE_CHECKING:
    from trainer.worker.distributed.ranks import Ranks
    from trainer.worker.metrics import Gauge

PERIOD = 0.25  # seconds between two looks
WRITES_EVERY = 20  # looks
# of these the highest is told, of the others the mean
HIGHEST = frozenset({"memory_gib", "temperature_celsius", "ecc_corrected", "ecc_uncorrected"})
# https://docs.nvidia.com/deploy/xid-errors: those that say most about a machine
XIDS = {
    13: "an illegal access or another error of a kernel",
    31: "an access to memory that isn't mapped",
    48: "an uncorrectable memory error",
    63: "a row of memory was remapped",
    64: "a row of memory could not be remapped",
    74: "an NVLink error",
    79: "the GPU has fallen off the bus",
    94: "a contained memory error",
    95: "an uncontained memory error",
    119: "the GPU's own processor doesn't answer",
    120: "an error of the GPU's own processor",
}


def watch(job: Job, attempt: int, ranks: Ranks) -> list[Gauge]:
    """The gauge of this node's GPUs, already watching; none on a worker that has no GPU, or isn't its node's first."""
    if ranks.device.type != "cuda" or ranks.local_rank:
        return []
    try:
        found = [devices.open_device(number) for number in range(ranks.local_world_size)]
    except Unreadable as error:
        print(f"no figures of the GPUs, as NVML can't be read: {error}")
        return []
    telemetry = Telemetry(found, job.gpu_path(attempt, ranks.rank))
    telemetry.start()
    return [telemetry]


class Telemetry:
    """A `Gauge`. Its thread calls `look`; reports call `read`."""

    def __init__(self, found: Sequence[Device], path: Path) -> None:
        self._watched = [Watched(device) for device in found]
        self._alarms = Alarms(found)
        self._path = path
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="telemetry")

    def start(self) -> None:
        self._thread.start()

    def look(self) -> None:
        """Samples every device once, and hears what the driver has to tell."""
        samples = [(watched, watched.device.sample(), watched.device.throttles()) for watched in self._watched]
        heard = self._alarms.heard()
        now = time.monotonic()
        with self._lock:
            for watched, figures, throttles in samples:
                watched.add(figures, throttles, now)
                watched.xids += [number for device, number in heard if device is watched.device]
        for device, number in heard:
            what = f", {XIDS[number]}" if number in XIDS else ""
            print(f"{device}: XID {number}{what}; see https://docs.nvidia.com/deploy/xid-errors", flush=True)

    def read(self) -> dict[str, float]:
        """The figures since the last call; {} if there was no look between."""
        with self._lock:
            found: dict[str, float] = {}
            for watched in self._watched:
                figures = watched.take()
                if watched.device in self._alarms.devices and figures:
                    figures["xids"] = float(len(watched.xids))
                found |= {f"gpu/{watched.device.number}/{name}": value for name, value in figures.items()}
            return found

    def close(self) -> None:
        """Looks a last time, and writes down the whole energy."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self.look()
        self.write()

    def write(self) -> None:
        """What outlives the worker: for each device its name, its energy, its errors."""
        with self._lock:
            record = {"devices": [watched.record() for watched in self._watched]}
        with contextlib.suppress(OSError):  # of a full disk the training tells
            write_json(self._path, record, durable=True)

    def _run(self) -> None:
        looks = 0
        while True:
            self.look()
            if looks % WRITES_EVERY == 0:
                self.write()
            looks += 1
            if self._ended.wait(PERIOD):
                return


class Watched:
    """A device, the sums of what was seen of it since the last report, and what it has done since the beginning."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.xids: list[int] = []
        self._joules: float | None = None  # not told yet
        self._counter: int | None = None
        self._time: float | None = None
        self._clear()

    def add(self, figures: dict[str, float], throttles: list[str] | None, now: float) -> None:
        self._meter(figures.get("power_watts"), now)
        for name, value in figures.items():
            self._sums[name] += value
            self._counts[name] += 1
            self._highest[name] = max(value, self._highest.get(name, value))
        if throttles is not None:
            self._told += 1
            self._throttled += bool(throttles)
            self._reasons.update(throttles)

    def take(self) -> dict[str, float]:
        """Means, or the highest, and in what share of the looks the clocks were held back, and by what."""
        found = {n: self._highest[n] if n in HIGHEST else total / self._counts[n] for n, total in self._sums.items()}
        if self._told:
            found["throttled"] = self._throttled / self._told
            found |= {f"throttled/{reason}": count / self._told for reason, count in sorted(self._reasons.items())}
        self._clear()
        return found

    def record(self) -> dict[str, Any]:
        joules = None if self._joules is None else round(self._joules, 3)
        return {"name": self.device.name, "uuid": self.device.uuid, "joules": joules, "xids": self.xids}

    def _meter(self, watts: float | None, now: float) -> None:
        """The energy since the last look: by the device's own counter, or from its power if it has none."""
        counter, before, since = self.device.ask("nvmlDeviceGetTotalEnergyConsumption"), self._counter, self._time
        self._counter, self._time = counter, now
        if counter is not None and before is not None:
            self._joules = (self._joules or 0.0) + max(0, counter - before) / 1000
        elif watts is not None and since is not None:
            self._joules = (self._joules or 0.0) + watts * (now - since)

    def _clear(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._counts: Counter[str] = Counter()
        self._highest: dict[str, float] = {}
        self._told = self._throttled = 0
        self._reasons: Counter[str] = Counter()
