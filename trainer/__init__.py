"""Headway: trains and tunes models over machines that may be taken away at any moment.

    import headway  # the public name of this package

    result = headway.train(algorithm="linear", data="digits", launcher={"workers": 2}, verbose=True)
    result.history()
    model = headway.load(result.model)
    model.predict(rows)

`resume` goes on with a job, `tune` searches hyperparameters, `evaluate` scores a model on rows with their label.

Importing this imports neither torch nor hydra; what needs them imports them when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.algorithm import Algorithm, Batch, Context, Estimator, Module, Range, SparseRows
from trainer.data.schema import Schema
from trainer.errors import HeadwayError, UserError

if TYPE_CHECKING:
    from trainer.api.evaluating import evaluate
    from trainer.api.result import Result
    from trainer.api.training import resume, train
    from trainer.api.tuning import tune
    from trainer.job.model.artifact import Model, load

__all__ = [
    "Algorithm",
    "Batch",
    "Context",
    "Estimator",
    "HeadwayError",
    "Model",
    "Module",
    "Range",
    "Result",
    "Schema",
    "SparseRows",
    "UserError",
    "evaluate",
    "load",
    "resume",
    "train",
    "tune",
]

_LAZY = {
    "train": "trainer.api.training",
    "evaluate": "trainer.api.evaluating",
    "resume": "trainer.api.training",
    "tune": "trainer.api.tuning",
    "Result": "trainer.api.result",
    "load": "trainer.job.model.artifact",
    "Model": "trainer.job.model.artifact",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _LAZY:
        from trainer.process.interpreter import pin

        pin()
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'trainer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
