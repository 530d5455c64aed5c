"""`python -m launchers.agent`: the agent of a node, as a process."""

from __future__ import annotations

import os
import sys

from launchers.agent.agent import main
from trainer.errors import ExitCode, UserError
from trainer.process.interpreter import working_folder_last

if __name__ == "__main__":
    # multiprocessing would run this module once more in each worker, which needs nothing of it
    del __file__
    __spec__ = None  # of the type that every module's is
    working_folder_last()
    try:
        code = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = ExitCode.MISTAKE
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is written: taking torch apart in order would cost whoever waits half a second
