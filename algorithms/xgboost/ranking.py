"""Ranking within groups: what its objectives and metrics take as relevance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trainer.errors import UserError

METRICS = ("ndcg", "map", "pre")  # of groups: of all rows as one they tell nothing
GRADES = 31  # the highest relevance whose gain, 2^relevance - 1, the library computes


def is_of_groups(metric: str) -> bool:
    """Whether a metric such as `ndcg@10` or `map-` measures an order within groups."""
    return metric.partition("@")[0].rstrip("-") in METRICS


def refuse_metrics(metrics: list[str]) -> None:
    """Raises UserError for a metric of groups, where an objective knows none."""
    if of_groups := next(filter(is_of_groups, metrics), None):
        raise UserError(
            f"algorithm.eval_metric={of_groups} measures the order within groups, which algorithm.task=ranking alone learns; "
            "choose another"
        )


class Relevance:
    """Which labels the objective and the metrics of the library's `settings` take, and which of them says so."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        of = {str(settings["objective"]): "algorithm.objective"}
        of |= {str(metric): "algorithm.eval_metric" for metric in settings["eval_metric"]}
        self.highest, self.who = np.inf, ""
        exponential = str(settings.get("ndcg_exp_gain", True)).lower() not in ("false", "0")
        for name, key in of.items():
            what = name.removeprefix("rank:").partition("@")[0].rstrip("-")
            highest = {"ndcg": GRADES if exponential else 2.0**24, "map": 1, "pre": 1, "aucpr": 1}.get(what, np.inf)
            if highest < self.highest:
                self.highest, self.who = highest, f"{key}={name}"

    def check(self, labels: np.ndarray, column: str) -> None:
        """Raises UserError for one that isn't taken."""
        wrong = (labels < 0) | (labels > self.highest) | (labels != np.floor(labels))
        if np.isinf(self.highest) or not wrong.any():
            return
        value = float(labels[int(wrong.argmax())])
        takes, instead = f"whole numbers from 0 to {self.highest:.0f}", "number the grades from 0"
        if self.highest == 1:
            takes, instead = "0 and 1 alone", "rank:ndcg takes grades"
        elif self.highest == GRADES and value > GRADES and value == int(value):
            instead = "algorithm.params.ndcg_exp_gain=false takes larger ones"
        raise UserError(f"the label {column!r} holds {value:g}, and {self.who} takes {takes} as relevance; {instead}")
