"""How long commands take to begin: pages and configs without torch, and from the command to the first optimizer step.

    python scripts/bench/startup.py [--quick]

`headway --help` and `headway train --cfg job` against `python -c "import hydra"`, with a look at which modules they
import; `headway train algorithm=linear data=digits` against torchrun of first_step.py, the same by hand. The time of
our first step is that of its report in metrics.jsonl, with train.log_every=1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pairing import Pairs, head, in_turn, row

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
HEAVY = ("torch", "numpy", "pyarrow", "datasets", "sklearn", "tensorboard")


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
    return time.perf_counter() - started


def pages(rounds: int) -> None:
    """Each command in turn with a bare import of Hydra."""
    hydra = [sys.executable, "-c", "import hydra"]
    for arguments in (["--help"], ["train", "--cfg", "job"]):
        command = [str(BIN / "headway"), *arguments]
        pairs = in_turn(lambda: seconds(hydra), lambda command=command: seconds(command), rounds)
        allowed = 1.5 * statistics.median(pairs.bare) + 0.1
        row(f"headway {' '.join(arguments)}", pairs, f"at most 1.5 × + 0.1 s, here {allowed:.2f} s", digits=3)
        print(f"<!-- heavy modules it imports: {', '.join(heavy(arguments)) or 'none'} of {', '.join(HEAVY)} -->")


def heavy(arguments: list[str]) -> list[str]:
    """Which of HEAVY a command imports."""
    code = (
        "import sys; from trainer.cli import main; sys.argv[0] = 'headway'; main(sys.argv[1:]); "
        f"print('\\nheavy', *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[-1].split()[1:]


def first_step_bare(workers: int) -> float:
    started = time.time()
    command = [str(BIN / "torchrun"), "--nproc-per-node", str(workers), str(HERE / "first_step.py")]
    # a thread of PyTorch's aborts a worker at its exit now and then
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment())
    times = [float(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("first step")]
    assert times, done.stderr
    return min(times) - started


def first_step_ours(workers: int, parts: dict[str, list[float]]) -> float:
    """Seconds to the first report; what passed on the way is added to `parts`."""
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job"
        command = [str(BIN / "headway"), "train", "algorithm=linear", "data=digits", f"launcher.workers={workers}"]
        command += ["train.log_every=1", "train.max_steps=40", f"job.dir={job}"]
        started = time.time()
        subprocess.run(command, check=True, capture_output=True, env=environment())
        events = {e["state"]: e["time"] for e in lines(job / "events.jsonl")}
        first = lines(job / "metrics.jsonl")[0]["time"]
        at = {
            "config composed and checked, job written": events["Pending"],
            "agent up: its imports; the workers' parent imports torch beside": events["Starting"],
            "workers forked: agent's torch imports, rendezvous": (job / "logs" / "attempt-0-rank-0.log")
            .stat()
            .st_mtime,
            "workers joined, data opened, model built": events["Running"],
            "first optimizer step": first,
        }
    before = started
    for name, when in at.items():
        parts.setdefault(name, []).append(when - before)
        before = when
    return first - started


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def environment() -> dict[str, str]:
    """What both sides run with: OMP_NUM_THREADS keeps torchrun from a warning."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def first_step(rounds: int, workers: int) -> tuple[Pairs, dict[str, list[float]]]:
    parts: dict[str, list[float]] = {}
    return in_turn(lambda: first_step_bare(workers), lambda: first_step_ours(workers, parts), rounds), parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it works, not what it costs")
    parser.add_argument("--only", choices=["pages", "first-step"])
    args = parser.parse_args()
    if args.only != "first-step":
        head("s")
        pages(2 if args.quick else 15)
    if args.only != "pages":
        found = {workers: first_step(2 if args.quick else 9, workers) for workers in (1, 2)}
        head("s", "ours - bare in s")
        for workers, (pairs, _) in found.items():
            what = f"to the first step, {workers} worker{'s' if workers > 1 else ''}"
            row(what, pairs, "at most 0.7 s more", difference=True)
        print("\n| on the way, seconds (median) | 1 worker | 2 workers |\n|---|---|---|")
        for name in found[1][1]:
            medians = [statistics.median(found[w][1][name]) for w in (1, 2)]
            print(f"| {name} | {medians[0]:.2f} | {medians[1]:.2f} |")


if __name__ == "__main__":
    main()
