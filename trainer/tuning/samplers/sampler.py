"""Where the next point comes from: `search=` as an Optuna sampler, and how it is asked.

A sampler's chance is drawn from the study's seed and the trial's number alone: a driver that takes a study over proposes
what the one before would have.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Mapping
from typing import Any

from trainer.errors import HeadwayError, UserError
from trainer.tuning.samplers.choice import Choice
from trainer.tuning.samplers.default import DEFAULT, is_whole, of_the_grid
from trainer.tuning.spaces.space import Space
from trainer.tuning.study import Study

FINITE = 10_000  # points of a space up to which it is known which are left
TRIES = 200  # proposals until one keeps the constraints and is new


def choose(search: str, space: Space, trials: int | None, metrics: int, outcomes: bool) -> Choice:
    """What `search` means for a space, a budget of trials (None: no bound), so many metrics and constraints on outcomes.

    Raises UserError for a search that can't be had for them.
    """
    import optuna.samplers as samplers

    points = space.points(FINITE)
    constrained = _constraints if outcomes else None

    def tpe(seed: int, number: int) -> Any:
        return samplers.TPESampler(
            seed=seed_of(seed, number), multivariate=True, group=True, constant_liar=True, constraints_func=constrained
        )

    if search == "bayes":
        if metrics > 1:
            return Choice("tpe", f"{metrics} metrics at once", tpe)
        if points is not None and trials is not None and points <= trials:
            return Choice("grid", f"all {points} points fit into {trials} trials", None)
        from trainer.tuning.samplers.bayesian.bayes import Bayes

        def bayes(seed: int, number: int) -> Any:
            return Bayes(
                seed, feasible=lambda params: space.feasible(space.values(params)), constraints_func=constrained
            )

        return Choice("bayes", "a Gaussian process, every fourth point by TPE", bayes)
    if search == "tpe":
        return Choice("tpe", "as asked", tpe)
    if search == "random":
        return Choice("random", "as asked", lambda seed, number: samplers.RandomSampler(seed=seed_of(seed, number)))
    if search == "nsga2":
        return Choice(
            "nsga2",
            "as asked",
            lambda seed, number: samplers.NSGAIISampler(seed=seed_of(seed, number), constraints_func=constrained),
        )
    if search == "gp":
        return Choice(
            "gp",
            "as asked",
            lambda seed, number: samplers.GPSampler(seed=seed_of(seed, number), constraints_func=constrained),
        )
    if search == "cmaes":
        if metrics > 1:
            raise UserError(f"search=cmaes has one metric, and there are {metrics}; choose nsga2, tpe or gp")
        from trainer.tuning.samplers.cmaes import Evolution

        return Choice("cmaes", "as asked", lambda seed, number: Evolution(seed=seed_of(seed, number)))
    if points is None or points >= FINITE:
        raise UserError(
            "search=grid tries every point, and this space has too many of them; write choices or ranges, or search=bayes"
        )
    return Choice("grid", f"all {points} points, as asked", None)


def _constraints(frozen: Any) -> tuple[float, ...]:
    return tuple(frozen.user_attrs.get("constraints") or ())


class Exhausted(HeadwayError):
    """Every point of the space has been tried."""


class Asker:
    """Proposes a study's next points, and writes them down."""

    def __init__(self, study: Study, space: Space, choice: Choice) -> None:
        self.study, self.space, self.choice = study, space, choice
        self._keys: dict[int, str] = {}
        count = space.points(FINITE)
        self._points = None if count is None or count >= FINITE else list(space.grid())
        random.Random(study.facts["seed"]).shuffle(self._points or [])

    def ask(self, given: Mapping[str, Any] | None = None, *, default: bool = False) -> tuple[Any, dict[str, Any]]:
        """A new trial and its values by config key; `given` instead of a proposal. Raises Exhausted.

        Both are durable when this returns. default: it is the default; where that lies outside of the space, the storage
        has no parameters of it, and no sampler learns from it.
        """
        study = self.study
        tried = self._tried()
        left = None if self._points is None else [point for point in self._points if _key(point) not in tried]
        if left == [] and given is None:
            raise Exhausted("every point of the space has been tried")
        with study.journal.together():
            frozen = self._begun() or study.storage.get_trial(study.storage.create_new_trial(study.optuna._study_id))
            values = dict(given) if given is not None else self._propose(frozen, tried, left)
            if default:
                values = of_the_grid(self.space, values, self._points or [])
                study.storage.set_trial_user_attr(frozen._trial_id, DEFAULT, True)
            distributions = self.space.distributions()
            inside = not default or is_whole(self.space, values)
            for name, value in self.space.stored(values).items() if inside else ():
                internal = distributions[name].to_internal_repr(value)
                study.storage.set_trial_param(frozen._trial_id, name, internal, distributions[name])
            study.storage.set_trial_user_attr(frozen._trial_id, "config", values)
        return study.storage.get_trial(frozen._trial_id), values

    def _tried(self) -> set[str]:
        """What its trials have, those under way too. A trial's point never changes."""
        for trial in self.study.trials():
            if trial.number not in self._keys and "config" in trial.user_attrs:
                self._keys[trial.number] = _key(trial.user_attrs["config"])
        return set(self._keys.values())

    def _begun(self) -> Any:
        """A trial whose point was never written: the driver died at that moment."""
        found = [t for t in self.study.trials() if not t.state.is_finished() and "config" not in t.user_attrs]
        return found[0] if found else None

    def _propose(self, frozen: Any, tried: set[str], left: list[dict[str, Any]] | None) -> dict[str, Any]:
        if self.choice.make is None:
            assert left is not None
            return left[0]
        sampler = self.choice.make(self.study.facts["seed"], frozen.number)
        optuna = self._seen()
        sampler.before_trial(optuna, frozen)
        space = sampler.infer_relative_search_space(optuna, frozen)
        for _ in range(TRIES):
            relative = sampler.sample_relative(optuna, frozen, space)

            def suggest(name: str, distribution: Any, known: Mapping[str, Any] = relative) -> Any:
                if name in known:
                    return known[name]
                return sampler.sample_independent(optuna, frozen, name, distribution)

            values = self.space.draw(suggest)
            if self.space.feasible(values) and _key(values) not in tried:
                return values
        return left[0] if left is not None else self._by_chance(frozen)

    def _seen(self) -> Any:
        """The study as its sampler sees it. TPE and Gaussian processes know nothing of trials that failed, and would go
        there again: to them each is as bad as the worst that was measured. A default outside of the space tells them nothing."""
        trials = self.study.trials(own=False)
        failed = [t for t in trials if t.state.name == "FAIL" and t.user_attrs.get("kind") != "stopped" and t.params]
        done = [t.values for t in trials if t.state.name == "COMPLETE"]
        apart = [t for t in trials if DEFAULT in t.user_attrs and not t.params]
        if self.choice.name not in ("tpe", "gp") or not ((failed and done) or apart):
            return self.study.optuna
        import optuna

        worst = done and [
            max(column) if goal == "min" else min(column)
            for column, goal in zip(zip(*done, strict=True), self.study.facts["goals"], strict=True)
        ]
        seen = optuna.create_study(directions=self.study.optuna.directions)
        for trial in trials:
            if trial in apart:
                trial = copy.copy(trial)
                trial.state, trial.values = optuna.trial.TrialState.FAIL, None
            elif trial in failed and done:
                trial = copy.copy(trial)
                trial.state, trial.values = optuna.trial.TrialState.COMPLETE, worst
            seen._storage.create_new_trial(seen._study_id, template_trial=trial)
        return seen

    def _by_chance(self, frozen: Any) -> dict[str, Any]:
        """The sampler knows no constraints and proposes none that keeps them: any point that does will do."""
        from optuna.samplers import RandomSampler

        sampler = RandomSampler(seed=frozen.number)
        for _ in range(50 * TRIES):
            values = self.space.draw(lambda name, d: sampler.sample_independent(self.study.optuna, frozen, name, d))
            if self.space.feasible(values):
                return values
        raise HeadwayError("no point of the space was found that keeps tune.constraints; write them less tightly")


def seed_of(seed: int, number: int) -> int:
    """Of a trial's own chance."""
    return (seed * 1_000_003 + number) % 2**31


def _key(values: Mapping[str, Any] | None) -> str:
    return json.dumps(values, sort_keys=True, default=str)
