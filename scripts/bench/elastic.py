"""What `train.elastic=exact` costs: steps that give the same weights on any number of workers, against fast ones.

    python scripts/bench/elastic.py [--quick]

The real command, fast and exact in turn, on one worker and on two. Compared is the training time of a step, as
result.json tells it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from pairing import head, in_turn, row

BIN = Path(sys.executable).parent
TEXT = Path(__file__).resolve().parents[3] / "shared" / "data" / "tinyshakespeare.txt"


def milliseconds(arguments: list[str], workers: int, elastic: str) -> float:
    """A step's training time in a run of the command."""
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job"
        command = [str(BIN / "headway"), "train", *arguments, f"launcher.workers={workers}", f"job.dir={job}"]
        command += [f"train.elastic={elastic}", "checkpoint.every=null"]
        subprocess.run(command, check=True, capture_output=True)
        result = json.loads((job / "result.json").read_text())
    return float(result["seconds"]["training"]) * 1e3 / int(result["steps"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it works, not what it costs")
    args = parser.parse_args()
    rounds, short, long = (1, 20, 500) if args.quick else (5, 60, 5_000)
    text = TEXT if TEXT.exists() else Path(__file__).resolve().parents[2] / "CHANGELOG.md"
    cases = {
        "linear on digits": ["algorithm=linear", "data=digits", "data.validation=null", f"train.max_steps={long}"],
        "GPT, 0.9 M weights": ["algorithm=gpt", "data=text", f"data.train={text}", f"train.max_steps={short}"],
    }
    head("ms a step", "exact / fast")
    for name, arguments in cases.items():
        for workers in (1, 2):
            pairs = in_turn(
                lambda a=arguments, w=workers: milliseconds(a, w, "fast"),
                lambda a=arguments, w=workers: milliseconds(a, w, "exact"),
                rounds,
                warm_up=0,
            )
            row(f"{name}, {workers} worker{'s' if workers > 1 else ''}: fast, exact", pairs, "", digits=3)


if __name__ == "__main__":
    main()
