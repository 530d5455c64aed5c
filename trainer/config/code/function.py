"""A training loop as an algorithm: `def main(context, lr=0.1)`, whose other arguments are its hyperparameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.algorithm import Batch, Estimator
from trainer.errors import UserError

if TYPE_CHECKING:
    import numpy as np


class Function(Estimator):
    """Calls a function with the job's context and its hyperparameters.

    keep: writes what was trained into the artifact's folder; the function's context sets it.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"numeric", "categorical", "missing", "sparse"})
    supervised: ClassVar[bool] = False
    ends_in_time: ClassVar[bool] = False
    uses: ClassVar[frozenset[str]] = frozenset({*Estimator.uses, "train.max_steps", "strategy.name"})

    def __init__(self, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
        self.function, self.settings = function, dict(settings)
        self.keep: Callable[[Path], None] | None = None

    @property
    def name(self) -> str:
        return f"{self.function.__module__}.{self.function.__qualname__}"

    def fit(self, context: Any) -> None:
        self.function(context, **self.settings)

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        raise UserError(
            f"{self.name} is a training loop and does not predict: load model.safetensors into the network it trains"
        )

    def save(self, folder: Path) -> None:
        if self.keep is not None:
            self.keep(folder)
