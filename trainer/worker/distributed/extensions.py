"""Where PyTorch compiles extensions on their first use, DeepSpeed's among them, so that a worker killed meanwhile stops nobody.

PyTorch guards a build by a file that the builder makes and removes. If it is killed, the file stays, and all later ones wait
for ever. Here workers compile in a folder that only they use, one after the other by a lock that the kernel lets go of with
its holder: who waited for one that died builds in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path
from typing import IO, Any

VARIABLE = "TORCH_EXTENSIONS_DIR"
TURN = ".turn"  # beside each extension: held by who builds it; as long as builds that came to their end


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
    from torch.utils import cpp_extension

    folder.mkdir(parents=True, exist_ok=True)
    os.environ[VARIABLE] = str(folder)
    vars(cpp_extension)["FileBaton"] = Turn  # what its builds are guarded by


class Turn:
    """In place of `torch.utils.file_baton.FileBaton`."""

    def __init__(self, lock_file_path: str, *_: Any, **__: Any) -> None:
        self._path = Path(lock_file_path).with_name(TURN)
        self._file: IO[bytes] | None = None

    def try_acquire(self) -> bool:
        """Whether this process is to build, once nobody else does: not if it has waited for one who came to the end."""
        file = self._path.open("ab")
        before = os.fstat(file.fileno()).st_size
        with contextlib.suppress(OSError):  # a file system without locks: nothing is known of others
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_size > before:
            file.close()
            return False
        self._file = file
        return True

    def wait(self) -> None:
        """That was done before."""

    def release(self) -> None:
        assert self._file is not None
        self._file.write(b".")
        self._file.close()


def compiling(worker: int) -> str:
    """What is compiled on this machine now, in words for whoever waits for the worker; empty if nothing."""
    folder = os.environ.get(VARIABLE)
    names = sorted(turn.parent.name for turn in Path(folder).glob(f"*/{TURN}") if _is_held(turn)) if folder else []
    if not names:
        return ""
    return f"worker {worker} is compiling {names[0]} for DeepSpeed, which takes a minute or more the first time"


def _is_held(turn: Path) -> bool:
    with turn.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False
