"""A cache of its own for every test, and algorithms that take what a test needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainer.algorithm import Algorithm


class Everything(Algorithm):
    takes = frozenset({"numeric", "categorical", "missing", "sparse"})


class Numbers(Algorithm):
    takes = frozenset({"numeric"})


class Bytes(Algorithm):
    """Learns the next byte."""

    takes = frozenset({"text"})
    sequence_length = 8
    end_of_text = "\n"

    def tokenize(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode(), np.uint8)

    def tokenizer_key(self) -> str:
        return "bytes"


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("HEADWAY_CACHE", str(folder))
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], str]:
    """Writes a file and gives its path."""

    def _write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return _write
