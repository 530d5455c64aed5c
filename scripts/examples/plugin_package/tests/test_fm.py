"""algorithm=fm: it learns what pairs of columns tell, and keeps what Headway's own algorithms keep."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import headway_fm
import numpy as np
import pytest

import trainer
from trainer.testing.algorithms import AlgorithmSuite

PACKAGE = Path(headway_fm.__file__).parent


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test writes its jobs to a folder of its own."""
    monkeypatch.chdir(tmp_path)


def test_it_learns_what_only_a_pair_of_columns_tells(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(1000, 2))
    rows = [f"{a},{b},{'same' if a * b > 0 else 'other'}" for a, b in x]
    (tmp_path / "signs.csv").write_text("\n".join(["a,b,sign", *rows]))
    data = ["data=csv", "data.train=signs.csv", "data.label=sign", "data.validation=0.2", "train.epochs=20"]
    machine = trainer.train(["algorithm=fm", *data], config_dir=PACKAGE / "conf")
    linear = trainer.train(["algorithm=linear", *data])
    assert machine["validation_accuracy"] > 0.95
    assert linear["validation_accuracy"] < 0.7


def test_a_number_is_refused_as_a_label(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n" + "".join(f"{i},{i / 7}\n" for i in range(40)))
    data = ["data=csv", "data.train=rows.csv", "data.label=b"]
    with pytest.raises(trainer.HeadwayError, match="tells classes apart"):
        trainer.train(["algorithm=fm", *data], config_dir=PACKAGE / "conf")


class TestContract(AlgorithmSuite):
    overrides: ClassVar[list[str]] = [f"algorithm={PACKAGE / 'machine.py'}:FactorizationMachine", "data=breast_cancer"]
