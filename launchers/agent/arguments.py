"""What an agent is told on its command line; see `launchers.agent`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m launchers.agent", description="The agent of a node.")
    parser.add_argument("job", help="its directory, or where that lies on S3")
    parser.add_argument("--workers", type=int, required=True, help="on this node")
    parser.add_argument("--node", type=int, default=0, help="this node's number")
    parser.add_argument("--nodes", type=int, default=1, help="nodes at most")
    parser.add_argument("--min-nodes", type=int, help="nodes without which the job doesn't go on; all if not set")
    parser.add_argument("--address", default="127.0.0.1", help="where the other nodes find this one")
    parser.add_argument(
        "--patience", type=float, help="seconds that it waits for nodes that are lacking; else without end"
    )
    parser.add_argument("--towards", help="another node, or this one: its address on the way there is taken instead")
    return parser.parse_args(arguments)
