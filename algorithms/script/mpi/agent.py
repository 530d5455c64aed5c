"""What mpirun takes for ssh: has a command run on another host, and leaves as it ended.

    python agent.py PLACE HOST COMMAND…

The command is left in PLACE, where this host's worker finds it, and its exit code is awaited there. Standard library only: it
runs as a script.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

LOOK_SECONDS = 0.05


def main(place: Path, host: str, command: str) -> int:
    beside = place / f".ask-{host}"
    beside.write_text(json.dumps([host, command]), encoding="utf-8")
    os.replace(beside, place / f"ask-{host}.json")
    answer = place / f"answer-{host}"
    while not answer.is_file():
        time.sleep(LOOK_SECONDS)
        if not place.is_dir():
            return 1
    return int(answer.read_text(encoding="ascii"))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], " ".join(sys.argv[3:])))
