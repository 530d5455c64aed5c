"""What is imported before workers are forked."""

from __future__ import annotations

from typing import Any

import pytest

from launchers.agent.fork_server import imports
from tests.integration.command import HERE as FAULTY_FOLDER


def config(
    algorithm: str = "algorithms.linear.Linear",
    data: str = "Digits",
    tracking: str = "NoTracker",
    strategy: str = "auto",
    compile: bool = False,
) -> Any:
    return {
        "train": {"compile": compile},
        "strategy": {"name": strategy},
        "algorithm": {"_target_": algorithm},
        "data": {"_target_": f"trainer.data.sources.{data}"},
        "tracking": {"_target_": f"trainer.worker.trackers.{tracking}"},
    }


def test_only_what_a_job_uses_is_imported() -> None:
    assert "datasets" not in imports(config(data="Digits"))
    assert "datasets" in imports(config(data="Csv"))
    assert not any("tensorboard" in name for name in imports(config(tracking="NoTracker")))
    assert any("tensorboard" in name for name in imports(config(tracking="TensorBoard")))


def test_the_compiler_is_imported_only_where_the_workers_will() -> None:
    assert "torch._dynamo" not in imports(config())
    assert "torch._dynamo" in imports(config(), workers=2)  # as DDP does
    assert "torch._dynamo" in imports(config(strategy="fsdp"))
    assert "torch._dynamo" in imports(config(compile=True))


def test_an_algorithm_says_what_it_imports() -> None:
    assert "xgboost" in imports(config(algorithm="algorithms.xgboost.XGBoost"))


def test_a_users_algorithm_says_nothing_and_is_not_imported_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FAULTY_FOLDER))
    assert imports(config(algorithm="faulty.Faulty")) == imports(config())


def test_an_algorithm_that_is_not_there_is_left_to_the_worker() -> None:
    assert imports(config(algorithm="nowhere.Nothing")) == imports(config())
