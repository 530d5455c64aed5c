"""A study from Python is driven by a process of its own: Ray keeps for good what the first import in a process was told, and a
person's own Ray may live in this one."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.errors import ExitCode, HeadwayError, UserError
from trainer.process import signals
from trainer.process.interpreter import safe, working_folder_last
from trainer.process.parent_death import dies_with

ERROR = "error: "
ENDS = {*ExitCode} - {ExitCode.MISTAKE}  # with which a study ends that has told by itself how


def run(directory: Path, facts: Mapping[str, Any], *, recommended: bool, verbose: bool) -> int:
    """Drives a study to its end, as `trainer.tuning.drive.run` does. Ctrl-C is passed on, and waited for.

    verbose: show what it prints; in a terminal as it is printed, elsewhere line by line. Raises UserError and HeadwayError.
    """
    live = verbose and sys.stdout.isatty()
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer.api.driving"],
        env={**os.environ, **safe()},
        stdin=subprocess.PIPE,
        stdout=None if live else subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a terminal's Ctrl-C would arrive twice: from it and from here
        preexec_fn=dies_with(os.getpid()),
    )
    said: list[str] = []
    listener = threading.Thread(target=_listen, args=(process, said), daemon=True)
    listener.start()
    assert process.stdin is not None
    with process.stdin:
        pickle.dump((directory, dict(facts), recommended, [path for path in sys.path if path]), process.stdin)
    _hear(process, verbose)
    listener.join()
    code = process.returncode
    if told := next((line for line in reversed(said) if line.startswith(ERROR)), None):
        raise (UserError if code == ExitCode.MISTAKE else HeadwayError)(told.removeprefix(ERROR))
    if code not in ENDS:
        last = f": {said[-1]}" if said else ""
        raise HeadwayError(f"{directory.name}: what drives it ended with exit code {code}{last}")
    return code


def _listen(process: subprocess.Popen[bytes], said: list[str]) -> None:
    assert process.stderr is not None
    said += [line.decode(errors="replace").rstrip("\n") for line in process.stderr]


def _hear(process: subprocess.Popen[bytes], verbose: bool) -> None:
    """Waits for its end."""
    while process.returncode is None:
        try:
            for line in process.stdout or ():
                if verbose:
                    print(line.decode(errors="replace"), end="", flush=True)
            process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)


def main() -> int:
    """The process itself: it is told on its standard input what to drive."""
    signals.hear()
    working_folder_last()
    directory, facts, recommended, path = pickle.load(sys.stdin.buffer)
    sys.path += [one for one in path if one not in sys.path]
    from trainer.tuning.drive import run as drive

    try:
        return drive(directory, facts, recommended=recommended)
    except HeadwayError as error:
        print(f"{ERROR}{error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as asked:
        return signals.exit_code(asked, can_go_on=True)


if __name__ == "__main__":
    sys.exit(main())
