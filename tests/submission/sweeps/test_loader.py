"""A sweep's job has the config that the same overrides give alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from trainer.config.compose import register
from trainer.submission.sweeps.loader import SweepLoader

JOBS = [
    ["algorithm=linear", "data=digits", "algorithm.lr=0.1", "job.seed=1"],
    ["algorithm=linear", "data=digits", "algorithm.lr=0.3", "job.seed=2"],
    ["algorithm=xgboost", "algorithm.rounds=3", "+algorithm.params.eta=0.2", "++train.epochs=2"],
    ["algorithm.lr=0.1", "algorithm.lr=0.2"],  # the later one counts
    ["algorithm=linear", "~algorithm.lr"],
    ["data.label='a,b=c'", "data=csv", "+data.more=[1,{a: b}]", "data.train=${job.name}", "job.name=x"],
    ["+algorithm={more: 1}", "algorithm.more=2"],
    ["algorithm.lr=0.5"],
]


@pytest.fixture
def loaders() -> Iterator[tuple[Any, Any, Any]]:
    """Hydra's own, ours, and the config of the whole sweep."""
    register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = hydra.compose("config", return_hydra_config=True)
        yield loader, SweepLoader(loader), master


@pytest.mark.parametrize("order", [1, -1])
def test_each_is_composed_as_if_it_were_alone(loaders: tuple[Any, Any, Any], order: int) -> None:
    theirs, ours, master = loaders
    for overrides in JOBS[::order]:
        expected = theirs.load_sweep_config(master, overrides)
        expected = {key: value for key, value in OmegaConf.to_container(expected).items() if key != "hydra"}
        assert OmegaConf.to_container(ours.load_sweep_config(master, overrides)) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        ["algorithm.lrr=1"],
        ["job.seed=fast"],
        ["algorithm=liner", "algorithm.lr=1"],
        ["~algorithm.no"],
    ],
)
def test_what_is_wrong_is_said_as_hydra_says_it(loaders: tuple[Any, Any, Any], wrong: list[str]) -> None:
    theirs, ours, master = loaders
    with pytest.raises(Exception) as expected:  # noqa: PT011 - whatever it is
        theirs.load_sweep_config(master, wrong)
    with pytest.raises(type(expected.value)) as found:
        ours.load_sweep_config(master, wrong)
    assert str(found.value) == str(expected.value)
