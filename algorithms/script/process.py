"""The script's process: started, listened to line by line, told to stop, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from algorithms.script.figures import Heard, Metric
from trainer.config.secret import masked

GUARD = Path(__file__).with_name("guard.py")
END_SECONDS = 5.0  # for its guard to end it
LISTEN_SECONDS = 5.0  # for what it said last to arrive


class Process:
    """A command at work under a guard. Its output goes on to this process's own, as it comes."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        env: Mapping[str, str],
        mounts: Sequence[tuple[Path, str]],
        metrics: Sequence[Metric],
        tag: re.Pattern[str] | None = None,
    ) -> None:
        self.heard = Heard(metrics, tag)
        told, self._lifeline = os.pipe()
        shown = json.dumps([[str(what), where] for what, where in mounts])
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(told), shown, *command],
            cwd=folder,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[told],
        )
        os.close(told)
        self._listener = threading.Thread(target=self._listen, daemon=True, name="script")
        self._listener.start()

    @property
    def code(self) -> int | None:
        """Its exit code, 128 + N if signal N ended it; None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def wait(self, seconds: float) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.code

    def ask(self) -> None:
        """Asks it, and all that it started, to leave: SIGTERM."""
        with contextlib.suppress(BrokenPipeError):  # it has just ended
            os.write(self._lifeline, b".")

    def end(self) -> None:
        """Kills what is left of it, and hears what it said last."""
        with contextlib.suppress(OSError):
            os.close(self._lifeline)
            self._lifeline = -1
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        with contextlib.suppress(ProcessLookupError):  # the guard may have been killed, or stopped
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join(LISTEN_SECONDS)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            while data := os.read(stream.fileno(), 1 << 16):
                with contextlib.suppress(OSError):  # a full disk: the log ends, the script goes on
                    os.write(1, data)
                self.heard.hear(data)
        self.heard.end()


def leave(process: Process, seconds: float) -> bool:
    """Has it leave in order within so many seconds, else not in order. Whether it left by itself."""
    process.ask()
    until = time.monotonic() + seconds
    while process.code is None and time.monotonic() < until:
        process.wait(0.1)
    by_itself = process.code is not None
    process.end()
    return by_itself


NAMES = re.compile(r"^\s*([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)\b.*)$")
FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<name>.+))?$')


def last_words(lines: Sequence[str], code: Path) -> tuple[str, str | None]:
    """What a script that failed said last, and where in its own code that was."""
    named = [i for i, line in enumerate(lines) if NAMES.match(line)]
    said = " ".join(line.strip() for line in list(lines)[named[-1] :][:5]) if named else (lines[-1] if lines else "")
    where = None
    for line in lines:
        if (found := FRAME.match(line)) and Path(found["file"]).is_relative_to(code):
            name = f" in {found['name']}" if found["name"] and found["name"] != "<module>" else ""
            where = f"{Path(found['file']).relative_to(code)}:{found['line']}{name}"
    return said.strip(), where


def failure_text(code: int, said: str, command: Sequence[str]) -> str:
    """What the toolkit writes as the reason of a failure."""
    extra = '\nExtraInfo "OutOfMemory: Process killed by SIGKILL (signal 9)"' if code == 137 else ""
    return (
        f'ExecuteUserScriptError:\nExitCode {code}\nErrorMessage "{said}"{extra}\nCommand "{masked(" ".join(command))}"'
    )
