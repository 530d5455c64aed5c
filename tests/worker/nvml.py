"""GPUs for machines without one: the real pynvml over a library of NVML's calling interface (`nvml_stub.c`)."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pynvml
import pytest

from trainer.worker.monitoring import devices

SOURCE = Path(__file__).with_name("nvml_stub.c")
GIB = 2**30


def library(folder: Path) -> Path:
    """Compiles it, under the name by which pynvml asks for it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler (cc) to stand in for NVML")
    built = folder / "libnvidia-ml.so.1"
    if not built.exists():
        subprocess.run([compiler, "-shared", "-fPIC", "-o", built, SOURCE], check=True)
    return built


class Machine:
    """What NVML says of a machine's GPUs; changed while it is asked."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._values: dict[str, Any] = {}

    def gpu(self, number: int = 0, **values: Any) -> None:
        """A GPU as it is now. A value of None: it doesn't tell."""
        self._values.setdefault(f"{number}.name", "NVIDIA H100 80GB HBM3")
        self._values.setdefault(f"{number}.uuid", f"GPU-00{number}")
        self._values |= {f"{number}.{key}": value for key, value in values.items()}
        lines = [f"{key}={value}\n" for key, value in self._values.items() if value is not None]
        beside = self._file.with_suffix(".new")
        beside.write_text("".join(lines), encoding="utf-8")
        beside.replace(self._file)  # a thread may be reading


def machine(folder: Path, built: Path, patch: pytest.MonkeyPatch) -> Machine:
    """In this process NVML is the stand-in, and CUDA's devices have its UUIDs."""
    patch.setenv("NVML_STUB", str(folder / "nvml"))
    patch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(built)))
    patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    patch.setattr(devices, "uuid_of", lambda number: f"00{number}")
    return Machine(folder / "nvml")
