"""`import headway` is the public name of what is built as `trainer`."""

from __future__ import annotations

import importlib

import headway
import pytest

import trainer


def test_the_public_name_has_the_same_objects() -> None:
    assert headway.__all__ == trainer.__all__
    assert all(getattr(headway, name) is getattr(trainer, name) for name in trainer.__all__)


@pytest.mark.parametrize("below", ["testing", "errors", "data", "data.schema"])
def test_modules_below_the_public_name_are_the_same(below: str) -> None:
    assert importlib.import_module(f"headway.{below}") is importlib.import_module(f"trainer.{below}")


def test_dir_lists_what_is_imported_only_when_it_is_called() -> None:
    assert {"train", "load"} <= set(dir(trainer))
    assert set(trainer.__all__) <= set(dir(headway))


def test_what_is_not_there_is_told_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="nope"):
        _ = headway.nope
    with pytest.raises(ModuleNotFoundError, match=r"headway\.nope"):
        importlib.import_module("headway.nope")


@pytest.mark.parametrize(
    "path",
    [
        *("trainer.algorithm.Module", "trainer.errors.UserError", "trainer.data.schema.Schema"),
        *("trainer.testing.algorithms.AlgorithmSuite", "trainer.testing.launchers.LauncherSuite"),
        *("trainer.data.source.Source", "trainer.data.sources.Csv", "trainer.data.channels.Channels"),
        *("trainer.worker.trackers.TensorBoard", "launchers.base.Launcher", "launchers.local.Local"),
        *("launchers.slurm.Slurm", "launchers.ray.Ray", "launchers.hosts.Hosts"),
    ],
)
def test_what_plugins_import_and_configs_name_stays_where_it_was(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert hasattr(importlib.import_module(module), name)
