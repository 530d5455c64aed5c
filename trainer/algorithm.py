"""What an algorithm is: the contract that built-ins and plugins keep alike.

Two shapes. A `Module` gives a model, a loss and an optimizer, and the trainer owns the loop. An `Estimator` owns its
own `fit`. Both are plain classes whose constructor arguments are their hyperparameters: the config keys under
`algorithm.` are exactly these, their type hints are what the config is checked against before anything starts.

This module imports neither torch nor numpy, so that whoever only submits a job can import it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from trainer.data.schema import Schema
    from trainer.data.tables.samples import Samples


@dataclass(frozen=True)
class Range:
    """Bounds of a hyperparameter, for a type hint: `lr: Annotated[float, Range(above=0)]`."""

    min: float | None = None
    max: float | None = None
    above: float | None = None
    below: float | None = None

    def problem(self, value: float) -> str | None:
        """What is wrong with `value`, or None."""
        if self.min is not None and value < self.min:
            return f"is less than {self.min}"
        if self.max is not None and value > self.max:
            return f"is more than {self.max}"
        if self.above is not None and value <= self.above:
            return f"must be more than {self.above}"
        if self.below is not None and value >= self.below:
            return f"must be less than {self.below}"
        return None


@dataclass(slots=True)
class SparseRows:
    """Rows in compressed form: row i holds `values[offsets[i]:offsets[i+1]]` at columns `indices[…]`.

    indices int64 [nnz], values float32 [nnz], offsets int64 [rows + 1], columns: the width of a row.
    """

    indices: Tensor
    values: Tensor
    offsets: Tensor
    columns: int

    def converted(self, convert: Callable[[Tensor], Tensor]) -> SparseRows:
        """The rows with each tensor put through `convert`."""
        return SparseRows(convert(self.indices), convert(self.values), convert(self.offsets), self.columns)

    def to(self, device: torch.device) -> SparseRows:
        return self.converted(lambda tensor: _sent(tensor, device))


@dataclass(slots=True)
class Batch:
    """What a loss sees.

    x: float32 [n, columns] for tables (a categorical column holds its code, 0 … k-1; a missing or unknown cell is
       NaN; numbers that 32 bits don't tell apart are counted from `Column.origin`), `SparseRows` for sparse tables, int64 [n, length + 1] for text (inputs and, shifted by one, targets).
    y: int64 [n] class numbers or float32 [n] values; None where there is no label.
    size: samples in it. A worker without a sample of an uneven last batch gets one row and size 0.
    total: samples in the whole step's batch, over all workers and accumulated parts.
    """

    x: Any
    y: Any
    size: int
    total: int

    def to(self, device: torch.device) -> Batch:
        """On another device. A GPU is not waited for: the copy starts from pinned memory, in the order of its work."""
        return self.converted(lambda tensor: _sent(tensor, device))

    def converted(self, convert: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with each tensor put through `convert`."""
        x = self.x.converted(convert) if isinstance(self.x, SparseRows) else convert(self.x)
        return Batch(x, None if self.y is None else convert(self.y), self.size, self.total)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # from pageable memory the copy would first wait for all that the GPU has to do
    return tensor.to(device, non_blocking=True)


class Context(Protocol):
    """What an `Estimator` sees of the job it runs in: the same on one worker and on many."""

    rank: int
    world_size: int
    seed: int
    threads: int
    job: Path  # the job's directory
    step: int  # the last one that an earlier session did; 0 at a fresh start

    @property
    def schema(self) -> Schema: ...

    @property
    def train(self) -> Samples: ...

    @property
    def validation(self) -> Samples | None: ...

    @property
    def test(self) -> Samples | None:
        """What the model is scored on at the end: by figures called `test_…` that `fit` reports, else by `Estimator.evaluate`."""

    def report(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        total: int | None = None,
        epoch: float = 0.0,
        samples: int = 0,
    ) -> None:
        """Figures of one step (an iteration, a round): kept, shown and given to trackers. Rank 0's count."""

    def resume(self) -> Path | None:
        """The folder with what an earlier `checkpoint` saved, or None at a fresh start. The same on every worker."""

    def checkpoint(self, step: int, save: Callable[[Path], None], *, last: bool = False) -> None:
        """Offers a checkpoint after `step`: if one is due, rank 0's `save(folder)` writes the estimator's own state. last: it is
        the end, and is saved, so that the job can be trained further.

        Call it on every worker at each step, after `report` and before `should_stop`. When the job is asked to stop,
        the next call saves, and `should_stop` then says True. Without it an interrupted job starts over.
        """

    def should_stop(self) -> bool:
        """True, on every worker at the same call, once the job was asked to stop. Call it once a step on all."""

    def seconds_left(self) -> float | None:
        """Once it should stop: until this worker is ended whatever it does; None if nobody has set a time."""

    def note(self, text: str) -> None:
        """A line that who looks after the job should read: it goes to the log, and stands with the job's interruption."""

    def busy(self, what: str) -> AbstractContextManager[None]:
        """Meanwhile who waits for the job is told what rank 0 is at, "installing requirements.txt", if it takes longer than a moment."""

    def bring(self, names: Sequence[str]) -> None:
        """Has rank 0 find in its job's directory what this node has there by these names, files or folders. Nothing is to be
        done for it where nodes share one. Call it on every worker at once. Raises HeadwayError if S3 can't be reached."""

    def upload(self, folder: Path, url: str, *, fetch: bool = False, exact: bool = False) -> Any:
        """Keeps a folder's files on S3 too, as they are left alone, until `finish(seconds)` of what is returned, which gives the
        line of what was in the way, or "". fetch: brings what is there first; exact: deletes there what is deleted here.
        Raises HeadwayError."""

    def code(self, folder: Path) -> Path:
        """The job's copy of a folder of the user's that travels with it (`Algorithm.travels`), or the folder itself."""

    def broadcast(self, value: Any) -> Any:
        """Rank 0's `value`, on every worker. Plain data: numbers, strings, lists, dicts."""

    def gather(self, value: Any) -> list[Any]:
        """Every worker's `value`, in order of rank, on every worker."""

    def barrier(self) -> None:
        """Waits until all workers are here."""


class Algorithm:
    """What both shapes share.

    takes: the kinds of input it understands: "numeric", "categorical", "missing" (NaN cells), "sparse", or
    "text" alone. Data of another kind is refused before training, with a message that says which column.
    supervised: whether it learns from a label; then data without one is refused before anything starts.
    roles: keys of `data` that name a further column, and that it learns from with some of its settings at least: "group", of
    the rows that are ranked among each other, and "label_upper_bound", of labels that are intervals. Set for another algorithm they are refused. Written as a literal.
    maximize: the names of its metrics of which more is better; of all others less is.
    imports: modules that a training imports and that take long. A node's workers, and jobs that follow one another, then
    share one import, before they are forked: so none that starts threads or touches a GPU by being imported.
    uses: what it goes by of the config's groups `train`, `strategy` and `checkpoint`: whole groups, or keys. What a user sets of
    them beside these is refused before anything starts. Written as a literal, as it is read from the source.
    instead: settings of its own that do what keys of these groups do for others: {"train.epochs": "rounds"}.
    checks: whether `check` can tell before anything starts.
    travels: the name of a setting that is a folder of the user's own code, if there is one: it is copied into the job's
    directory, where the workers find it by `Context.code`, and `check` is called before anything starts.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"numeric"})
    supervised: ClassVar[bool] = True
    roles: ClassVar[frozenset[str]] = frozenset()
    imports: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[frozenset[str]] = frozenset({"train", "strategy", "checkpoint"})
    instead: ClassVar[Mapping[str, str]] = {}
    checks: ClassVar[bool] = False
    travels: ClassVar[str] = ""
    maximize: ClassVar[frozenset[str]] = frozenset(
        {"accuracy", "auc", "aucpr", "f1", "precision", "pre", "recall", "r2", "map", "ndcg"}
    )

    def check(self, folder: Path) -> None:
        """Raises UserError for settings that can't be; `folder` is what `travels`. Runs where the job is submitted, and
        so in a module that imports nothing heavy."""

    def needs(self) -> frozenset[str]:
        """Those of `roles` that it learns from with the settings it has. With "group", validation rows are split off by whole
        groups, and `Samples.grouped_chunks` gives whole ones; with "label_upper_bound" y is float32 [n, 2], both bounds."""
        return self.roles

    def target(self, schema: Schema) -> str | None:
        """What the label is to it: "class", "number", or None where it learns without one."""
        if schema.label is None:
            return None
        return "class" if schema.label.classes else "number"

    def shift_equivariant(self, schema: Schema) -> bool:
        """Whether a constant added to all labels is but added to all of the column `prediction`, as with squared and absolute
        errors and not with a logarithm. Numbers that 32 bits don't tell apart, such as times, are then learned less
        `schema.label.origin`, which is added to what is predicted; otherwise they are refused."""
        return False

    def save(self, folder: Path) -> None:
        """Writes what `load` needs besides the weights of a Module (a tokenizer, a model file)."""

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""


class Module(Algorithm, ABC):
    """A model, its loss and its optimizer; the trainer owns the loop, the workers and the checkpoints."""

    @abstractmethod
    def build(self, schema: Schema) -> nn.Module:
        """The model with fresh weights (the random generator is already seeded), on the CPU."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean loss over the batch's samples: a scalar. Call `model(…)` once."""

    @abstractmethod
    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer over the model's parameters."""

    def schedule(self, optimizer: torch.optim.Optimizer, steps: int | None) -> Any:
        """A learning-rate scheduler stepped once an optimizer step, or None. `steps`: in all, None if not known."""
        return None

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Figures of a validation batch: per-sample values [n, …], or a scalar that is their mean.

        The trainer averages each over all samples of all workers, then calls `summarize`.
        """
        return {"loss": self.loss(model, batch)}

    def summarize(self, means: dict[str, Any]) -> dict[str, float]:
        """Metrics from the means of `evaluate`: a root, a ratio. A mean of vectors comes as a list."""
        return means

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Columns of predictions, each [n, …]. `prediction` is the main one; class numbers become class names."""
        raise TypeError(f"{type(self).__name__} does not predict: it has no `predict`")

    def flops_per_sample(self, schema: Schema) -> float | None:
        """Floating-point operations of one sample's training step, forward and backward; None if not known.

        With it a job on GPUs reports `mfu`: what part of their peak the training uses.
        """
        return None

    # text only: an algorithm that takes "text" says how it becomes tokens
    sequence_length: int = 0
    end_of_text: str = "\n"  # what stands between the rows of a table of texts

    def tokenize(self, text: str) -> Sequence[int] | np.ndarray:
        """The tokens of a text."""
        raise TypeError(f"{type(self).__name__} takes text but has no `tokenize`")

    def tokenizer_key(self) -> str:
        """Names the tokenizer: texts tokenized under the same key are read from a cache."""
        raise TypeError(f"{type(self).__name__} takes text but has no `tokenizer_key`")

    def generate(self, model: nn.Module, prompt: str, **options: Any) -> str:
        """Continues a prompt."""
        raise TypeError(f"{type(self).__name__} does not continue a prompt: it has no `generate`")


class Estimator(Algorithm, ABC):
    """An algorithm that owns its fit. `save` and `load` carry what it learned.

    ends_in_time: whether what it has learned when train.max_time is over is a trained model. Otherwise the job is stopped then,
    not completed, whatever the number of its sessions.
    """

    ends_in_time: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset(
        {"train.max_time", "train.hang_timeout", "train.early_stopping", "checkpoint"}
    )

    def goes_on(self, job: Path) -> bool:
        """Whether it left something in the job's directory by which it goes on by itself, without `Context.checkpoint`:
        what was reported then counts."""
        return False

    @abstractmethod
    def fit(self, context: Context) -> None:
        """Learns from `context.train`; runs on every worker at once."""

    def evaluate(self, samples: Samples, schema: Schema) -> dict[str, float] | None:
        """Figures of labelled samples by what it has learned, on one worker for all samples. None: they are then those of its
        predictions, `accuracy` or `rmse`, `mae` and `r2`."""
        return None

    @abstractmethod
    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """Columns of predictions for a batch whose x is a numpy array [n, columns] or a scipy CSR matrix."""
