"""Where PyTorch compiles extensions on their first use, DeepSpeed's among them, so that a worker killed meanwhile stops nobody.

PyTorch guards a build by a file `lock` that the builder removes. If it is killed, the file stays, and all later ones wait for
ever. Here workers compile in a folder that only they use, and hold a lock of the kernel's on its file `workers` as long as
they live: who finds nobody else holding it removes what the dead have left.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import IO

VARIABLE = "TORCH_EXTENSIONS_DIR"
_held: list[IO[str]] = []


def compile_apart() -> None:
    """Has this worker compile in the user's cache, in a folder of Headway's, unless the user has named another one."""
    if VARIABLE in os.environ:
        return
    import torch
    from torch.utils.cpp_extension import get_default_build_root

    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    compile_in(Path(get_default_build_root(), f"headway-{python}-torch{torch.__version__}"))


def compile_in(folder: Path) -> None:
    """Has this process compile there, for the rest of its life."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[VARIABLE] = str(folder)
    workers = (folder / "workers").open("w")
    try:
        if _is_only_one(workers):
            for left in folder.glob("*/lock"):
                left.unlink()
        fcntl.flock(workers, fcntl.LOCK_SH)
    except OSError:  # a file system without locks: nothing is known of others
        workers.close()
        return
    _held.append(workers)


def _is_only_one(workers: IO[str]) -> bool:
    try:
        fcntl.flock(workers, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def compiling(worker: int) -> str:
    """What is compiled on this machine now, in words for whoever waits for the worker; empty if nothing."""
    folder = os.environ.get(VARIABLE)
    names = sorted(lock.parent.name for lock in Path(folder).glob("*/lock")) if folder else []
    if not names:
        return ""
    return f"worker {worker} is compiling {names[0]} for DeepSpeed, which takes a minute or more the first time"
