"""The two sets that scikit-learn ships, read in milliseconds: a fresh machine has real data."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_TUMOUR = (
    "radius", "texture", "perimeter", "area", "smoothness",
    "compactness", "concavity", "concave points", "symmetry", "fractal dimension",
)  # fmt: skip


@dataclass
class Arrays:
    """A whole set in memory: x float32 [rows, columns], y float64 [rows] positions in `classes`."""

    x: np.ndarray
    y: np.ndarray
    names: list[str]
    label: str
    classes: tuple[str | int, ...]


def digits(path: Path) -> Arrays:
    table = _numbers(gzip.decompress(path.read_bytes()).decode(), 65)
    names = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    return Arrays(table[:, :64].astype(np.float32), table[:, 64].copy(), names, "digit", tuple(range(10)))


def breast_cancer(path: Path) -> Arrays:
    _, body = path.read_text().split("\n", 1)
    table = _numbers(body, 31)
    names = [f"mean {n}" for n in _TUMOUR] + [f"{n} error" for n in _TUMOUR] + [f"worst {n}" for n in _TUMOUR]
    # the file counts malignant as 0; classes are sorted, and it is what one looks for, so it becomes 1
    return Arrays(table[:, :30].astype(np.float32), 1.0 - table[:, 30], names, "diagnosis", ("benign", "malignant"))


def _numbers(text: str, columns: int) -> np.ndarray:
    return np.fromstring(text.strip().replace("\n", ","), sep=",").reshape(-1, columns)
