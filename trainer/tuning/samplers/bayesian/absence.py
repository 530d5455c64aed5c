"""Parameters that are there for some values of another only: what they would be makes no difference where they are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.tuning.samplers.bayesian.encoding import Encoding


@dataclass(frozen=True)
class Rule:
    """`column` is absent where `parent` has one of these places."""

    column: int
    parent: int
    places: np.ndarray


def rules(rows: np.ndarray, absent: np.ndarray, encoding: Encoding) -> list[Rule]:
    """What the rows seen so far (n, parameters) and what they lack (n, parameters) say.

    A parameter that some rows lack follows a parent with few values if no value of the parent has been seen both with
    and without it. Of several such parents the one that explains it with the fewest values is taken.
    """
    found = []
    always = ~absent.any(0)
    for column in map(int, np.flatnonzero(absent.any(0) & ~absent.all(0))):
        lacks = absent[:, column]
        parents = []
        for parent in map(int, np.flatnonzero(always & (encoding.levels > 0))):
            without = np.unique(rows[lacks, parent])
            if not np.isin(rows[~lacks, parent], without).any():
                parents.append((len(without), parent, without))
        if parents:
            _, parent, places = min(parents, key=lambda p: p[:2])
            found.append(Rule(column, parent, places))
    return found


def applied(found: list[Rule], rows: np.ndarray, encoding: Encoding) -> np.ndarray:
    """The rows, with each parameter that is absent there in the place of absent ones."""
    for rule in found:
        without = (np.abs(rows[:, rule.parent, None] - rule.places) < 1e-9).any(1)
        rows[without, rule.column] = encoding.absent[rule.column]
    return rows
