"""A worker's share of the rows as the library holds it: quantised, chunk by chunk, or in one piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from algorithms.xgboost.library import library
from trainer.data.schema import Schema

if TYPE_CHECKING:
    from trainer.data.tables.samples import Samples

Part = dict[str, Any]  # some rows: `data`, `label` and what else the library takes of them, by its names


def matrix_of(
    samples: Samples,
    schema: Schema,
    *,
    method: str,
    max_bin: int = 256,
    rank: int = 0,
    world: int = 1,
    threads: int | None = None,
    grouped: bool = False,
    bounded: bool = False,
    check: Callable[[np.ndarray], None] | None = None,
    like: Any = None,
) -> Any:
    """The library's matrix for a method of growing trees, of `rank`'s share among `world` workers.

    grouped: rows are ranked within groups; bounded: labels are intervals. check: raises UserError for labels that can't be learned. like: whose quantiles
    it takes over.
    """
    xgboost = library()
    types = None if schema.sparse else ["c" if c.kind == "categorical" else "q" for c in schema.features]
    empty = _no_rows(schema, grouped, bounded)
    shared = {"nthread": threads, "enable_categorical": True}

    def parts() -> Iterator[Part]:
        for x, y, more in _chunks(samples, rank, world, grouped):
            if check is not None:
                check(y)
            yield {"data": x, **_labels(y), **more}

    if method == "hist":
        source = _iterator(parts, empty, types)
        return xgboost.QuantileDMatrix(source, max_bin=max_bin, ref=like, **shared)
    found = [*parts()] or [empty]
    whole = {name: _joined([part[name] for part in found]) for name in found[0]}
    return xgboost.DMatrix(**whole, feature_types=types, **shared)


def _chunks(samples: Samples, rank: int, world: int, grouped: bool) -> Iterator[tuple[Any, Any, Part]]:
    if grouped:
        for x, y, groups in samples.grouped_chunks(rank=rank, world=world):
            yield x, y, {"qid": groups}
        return
    for x, y in samples.chunks(rank=rank, world=world):
        yield x, y, {}


def _iterator(parts: Callable[[], Iterator[Part]], empty: Part, types: list[str] | None) -> Any:
    """The library's iterator over chunks of rows, read several times; `empty` for a worker without rows."""

    class Chunks(library().DataIter):  # type: ignore[misc]  # of a module that may not be there
        def __init__(self) -> None:
            super().__init__()
            self.reset()

        def reset(self) -> None:
            self.source = parts()
            self.given = False

        def next(self, input_data: Callable[..., None]) -> bool:
            part = next(self.source, None)
            if part is None:
                if self.given:
                    return False
                part = empty
            self.given = True
            input_data(**part, feature_types=types)
            return True

    return Chunks()


def _labels(y: np.ndarray) -> Part:
    return {"label": y} if y.ndim == 1 else {"label_lower_bound": y[:, 0], "label_upper_bound": y[:, 1]}


def _no_rows(schema: Schema, grouped: bool, bounded: bool) -> Part:
    part: Part = {"data": np.empty((0, schema.columns), np.float32)}
    part |= _labels(np.empty((0, 2) if bounded else 0, np.float32))
    if schema.sparse:
        import scipy.sparse

        part["data"] = scipy.sparse.csr_matrix((0, schema.columns), dtype=np.float32)
    return part | ({"qid": np.empty(0, np.int64)} if grouped else {})


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import scipy.sparse

    return scipy.sparse.vstack(parts, format="csr")
