"""Whether data has the further columns that an algorithm learns from with its settings, and no others."""

from __future__ import annotations

from trainer.algorithm import Algorithm
from trainer.data.source import Source
from trainer.errors import UserError

# what an algorithm does with it, what the column says, and who does so, for one
NEEDS = {
    "group": ("ranks rows within groups", "the column that says which"),
    "label_upper_bound": (
        "learns from intervals, of which data.label is the lower bound",
        "the column of the upper one",
    ),
}
USERS = {
    "group": "algorithm=xgboost algorithm.task=ranking",
    "label_upper_bound": "algorithm=xgboost algorithm.objective=survival:aft",
}


def check_roles(source: Source, algorithm: Algorithm) -> None:
    """Raises UserError for a column that the algorithm needs and that isn't named, and for one that is and that it doesn't use."""
    needs, who = algorithm.needs(), type(algorithm).__name__
    for role, (words, which) in NEEDS.items():
        named = getattr(source, role)
        if role not in needs and named is not None:
            raise UserError(f"{who} as it is set doesn't use data.{role}; {USERS[role]} does, or leave it out")
        if role not in needs or named is not None or (role == "group" and source.grouped):
            continue
        if role in source.unused:
            raise UserError(
                f"{who} {words}, and data={source.name} has no such column; choose a table such as data=csv"
            )
        raise UserError(f"{who} {words}: set data.{role} to {which}")
