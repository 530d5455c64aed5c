"""The GPUs of this node as NVML tells of them: what nvidia-smi reads, without starting it.

NVML's library is loaded when the first device is opened, so that a worker without a GPU never pays for it.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.errors import UserError

# figures of a sample: their name, NVML's function, its arguments, and what to make of the answer. Errors count since
# the driver was loaded.
READINGS: tuple[tuple[str, str, tuple[int, ...], Callable[[Any], float]], ...] = (
    ("utilisation", "nvmlDeviceGetUtilizationRates", (), lambda rates: rates.gpu / 100),
    ("memory_gib", "nvmlDeviceGetMemoryInfo", (0x02000028,), lambda memory: memory.used / 2**30),
    ("power_watts", "nvmlDeviceGetPowerUsage", (), lambda milliwatts: milliwatts / 1000),
    ("temperature_celsius", "nvmlDeviceGetTemperature", (0,), float),
    ("sm_clock_mhz", "nvmlDeviceGetClockInfo", (1,), float),
    ("memory_clock_mhz", "nvmlDeviceGetClockInfo", (2,), float),
    ("ecc_corrected", "nvmlDeviceGetTotalEccErrors", (0, 0), float),
    ("ecc_uncorrected", "nvmlDeviceGetTotalEccErrors", (1, 0), float),
)
# why clocks are lower than they could be; that nothing runs (bit 0) is no reason
THROTTLES = {
    1 << 1: "application_clocks",
    1 << 2: "sw_power_cap",
    1 << 3: "hw_slowdown",
    1 << 4: "sync_boost",
    1 << 5: "sw_thermal",
    1 << 6: "hw_thermal",
    1 << 7: "hw_power_brake",
    1 << 8: "display_clock",
}
XID_EVENT = 1 << 3


class Unreadable(Exception):
    """NVML can't be had, or doesn't know the device. lost: the device was there, and is not any more."""

    def __init__(self, why: object, *, lost: bool = False) -> None:
        super().__init__(str(why))
        self.lost = lost


@dataclass(frozen=True)
class Device:
    """One GPU. number: its place among those of this job on this node, the local rank of who trains on it."""

    number: int
    name: str
    uuid: str
    handle: Any

    def __str__(self) -> str:
        return f"GPU {self.number} ({self.name}, {self.uuid})"

    def ask(self, function: str, *arguments: int) -> Any:
        """What a function of NVML says of it; None if the device or its driver doesn't tell."""
        import pynvml

        try:
            return getattr(pynvml, function)(self.handle, *arguments)
        except pynvml.NVMLError:
            return None

    def memory(self) -> Any:
        """total, used and free in bytes, without what the driver keeps for itself; or None."""
        return self.ask("nvmlDeviceGetMemoryInfo", 0x02000028)

    def sample(self) -> dict[str, float]:
        """What it does at this moment, by name; without what it doesn't tell."""
        answers = [(name, self.ask(function, *given), convert) for name, function, given, convert in READINGS]
        return {name: convert(answer) for name, answer, convert in answers if answer is not None}

    def throttles(self) -> list[str] | None:
        """The names of what holds its clocks back at this moment; None if it doesn't tell."""
        reasons = self.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return None if reasons is None else [name for bit, name in THROTTLES.items() if reasons & bit]


def uuid_of(number: int) -> str:
    """The UUID of a CUDA device. NVML's numbers are others: it knows nothing of CUDA_VISIBLE_DEVICES nor CUDA's order."""
    import torch

    there = torch.cuda.device_count()
    if number >= there:
        raise UserError(f"launcher.workers: worker {number + 1} of this node has no GPU: there are {there}; lower it")
    return str(torch.cuda.get_device_properties(number).uuid)  # leaves no CUDA context behind


def open_device(number: int) -> Device:
    """The GPU of a local rank. Raises Unreadable."""
    import pynvml

    try:
        pynvml.nvmlInit()
        uuid = uuid_of(number).removeprefix("GPU-")
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        except (pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument):  # a slice of one
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")
        return Device(number, pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetUUID(handle), handle)
    except pynvml.NVMLError as error:
        raise Unreadable(error, lost=isinstance(error, pynvml.NVMLError_GpuIsLost)) from None


class Alarms:
    """XID errors, which the driver tells as they come. Devices and drivers that don't tell them are silent."""

    def __init__(self, devices: Sequence[Device]) -> None:
        import pynvml

        self._nvml, self._events = pynvml, None
        self.devices: list[Device] = []  # those that are listened to
        for device in devices:
            if not (device.ask("nvmlDeviceGetSupportedEventTypes") or 0) & XID_EVENT:
                continue
            with contextlib.suppress(pynvml.NVMLError):
                self._events = self._events or pynvml.nvmlEventSetCreate()
                pynvml.nvmlDeviceRegisterEvents(device.handle, XID_EVENT, self._events)
                self.devices.append(device)

    def heard(self) -> list[tuple[Device, int]]:
        """The errors since the last call: of which device, and their numbers. Waits for none."""
        found: list[tuple[Device, int]] = []
        while self._events is not None:
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, 0)
            except self._nvml.NVMLError_Timeout:
                break
            except self._nvml.NVMLError:  # the GPU is lost: it has told all it will tell
                self._events = None
                break
            where = _address(event.device)
            found += [(d, int(event.eventData)) for d in self.devices if _address(d.handle) == where]
        return found


def _address(handle: Any) -> int | None:
    """Handles are pointers, made anew by each call; what they point to tells whether they are the same."""
    return ctypes.cast(handle, ctypes.c_void_p).value
