"""Learning curves of whole trainings, for what decides by them: random points of a space, each trained once by the worker's
own code. They are kept in a temporary file, so that a second run doesn't train again.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import math
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.config.compose import compose
from trainer.config.schema import check
from trainer.errors import HeadwayError
from trainer.job.directory import Job
from trainer.tuning.spaces.parameter import Parameter
from trainer.tuning.spaces.placing import placed

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SEED = 0
Curve = list[tuple[float, float]]  # epoch, value
Reports = list[tuple[float, dict[str, float]]]  # epoch, what was validated there; nothing where it diverged


@dataclass(frozen=True)
class Task:
    """What is tuned. epochs: of a whole training, its learning rate falling along a cosine to its end. metrics: those that
    are looked at, with their goals."""

    name: str
    overrides: tuple[str, ...]
    space: tuple[Parameter, ...]
    epochs: int
    metrics: tuple[tuple[str, str], ...]


LINEAR = (
    Parameter("algorithm.lr", "float", 1e-4, 1.0, scale="log"),
    Parameter("algorithm.l2", "float", 1e-6, 1e-1, scale="log"),
    Parameter("algorithm.l1", "float", 1e-7, 1e-2, scale="log"),
    Parameter("train.batch_size", "choice", choices=(64, 128, 256)),
)
GPT = (
    Parameter("algorithm.lr", "float", 1e-4, 1e-1, scale="log"),
    Parameter("algorithm.layers", "int", 1, 2),
    Parameter("algorithm.weight_decay", "float", 1e-3, 1.0, scale="log"),
    Parameter("algorithm.beta2", "float", 0.9, 0.999, scale="reverse_log"),
    Parameter("algorithm.dropout", "float", 0.0, 0.3),
    Parameter("algorithm.warmup", "int", 0, 50),
)


LOSS = (("validation_loss", "min"),)
CLASSES = (("validation_accuracy", "max"), *LOSS)


def tasks(folder: Path) -> list[Task]:
    """Files that are made for them lie in `folder`. Without the data beside the repository only what scikit-learn ships."""
    bundled = Task("linear, digits", ("algorithm=linear", "data=digits"), LINEAR, 40, CLASSES)
    if not DATA.is_dir():
        print(f"{DATA} isn't there: digits alone", file=sys.stderr)
        return [bundled]
    text = folder / "text.txt"
    text.write_bytes((DATA / "tinyshakespeare.txt").read_bytes()[:25_000])
    digits = folder / "mnist.npy"
    if not digits.exists():
        np.save(digits, _mnist())
    return [
        bundled,
        Task("linear, mnist10k", ("algorithm=linear", "data=npy", f"data.train={digits}"), LINEAR, 30, CLASSES),
        Task(
            "linear, adult",
            ("algorithm=linear", "data=csv", f"data.train={DATA / 'adult_train.csv'}", "data.header=false", "data.label=14"),
            LINEAR,
            20,
            CLASSES,
        ),
        Task(
            "gpt, tinyshakespeare",
            (
                "algorithm=gpt",
                "algorithm.width=32",
                "algorithm.heads=2",
                "algorithm.context=16",
                "data=text",
                f"data.train={text}",
                "data.validation=0.1",
                "train.batch_size=64",
            ),
            GPT,
            24,
            LOSS,
        ),
    ]  # fmt: skip


def _mnist() -> np.ndarray:
    """MNIST's test images as rows of 784 pixels and a label."""
    images, labels = (
        gzip.decompress((DATA / f"mnist10k-{n}-ubyte.gz").read_bytes()) for n in ("images-idx3", "labels-idx1")
    )
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784)
    return np.concatenate([pixels, np.frombuffer(labels, np.uint8, offset=8)[:, None]], axis=1).astype(np.float32)


def reports_of(task: Task, count: int, folder: Path) -> list[Reports]:
    """What whole trainings of so many points reported."""
    rng = random.Random(SEED)
    points = [{p.key: p.random(rng) for p in task.space} for _ in range(count)]
    known: dict[str, Reports] = {}
    key = hashlib.sha256(json.dumps(asdict(task), sort_keys=True, default=str).encode()).hexdigest()[:12]
    cache = folder / f"{key}.json"
    if cache.exists():
        known = json.loads(cache.read_text())
    for number, point in enumerate(points):
        name = json.dumps(point, sort_keys=True)
        if name not in known:
            known[name] = _trained(task, point)
            cache.write_text(json.dumps(known))
            print(f"{task.name}: {number + 1} of {count} points trained", file=sys.stderr, flush=True)
    return [known[json.dumps(point, sort_keys=True)] for point in points]


def curves_of(reports: Sequence[Reports], metric: str, epochs: int) -> list[Curve]:
    """Their learning curves by one metric. One whose training failed ends with a value that is no number."""
    curves = [[(epoch, values[metric]) for epoch, values in lines if metric in values] for lines in reports]
    return [c if c and c[-1][0] >= epochs - 1e-6 else [*c, (c[-1][0] + 1 if c else 1.0, math.nan)] for c in curves]


def _trained(task: Task, point: dict[str, object]) -> Reports:
    """Trains a point as a worker does, in this process."""
    from trainer.worker.distributed.ranks import Ranks
    from trainer.worker.main import train_together

    options = [f"train.epochs={task.epochs}", "checkpoint.every=null", "tracking=none", f"job.seed={SEED}"]
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
        config = check(placed(compose([*task.overrides, *options]), point))
        job = Job(Path(place))
        job.logs.mkdir(parents=True)
        with contextlib.suppress(HeadwayError):  # it diverged
            train_together(job, 0, job.logs, config, Ranks(), 1)
        lines = [(line["epoch"], line["values"]) for line in job.metrics()]
    return [
        (e, {k: v for k, v in values.items() if k in dict(task.metrics)})
        for e, values in lines
        if task.metrics[0][0] in values
    ]


def cache_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"headway-curves-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    return folder


def main(arguments: Sequence[str]) -> None:
    folder, count = cache_folder(), int(arguments[0])
    for task in tasks(folder):
        reports_of(task, count, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
