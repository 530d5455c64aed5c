"""A user's project: an algorithm of two modules, in a git work tree or without."""

from __future__ import annotations

import subprocess
from pathlib import Path

ALGORITHM = '''
from dataclasses import dataclass

import torch
from torch import nn

import layers
from trainer import Batch, Module, Schema


@dataclass(kw_only=True)
class Mine(Module):
    """An algorithm of the user's."""

    lr: float = 0.01

    def build(self, schema: Schema) -> nn.Module:
        return layers.network(schema.columns, schema.classes)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return layers.SCALE * nn.functional.cross_entropy(model(batch.x), batch.y)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=self.lr)

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        return {"prediction": model(batch.x).argmax(dim=1)}
'''
LAYERS = """
import time

from torch import nn

SCALE = 1.0


class Slow(nn.Module):
    def forward(self, x):
        time.sleep(0.01 * self.training)
        return x


def network(columns, classes):
    return nn.Sequential(nn.Dropout(0.1), Slow(), nn.Linear(columns, classes))
"""
MINE = "algorithm._target_=mine.Mine"


def project(folder: Path, *, git: bool = True) -> Path:
    """Makes one. Its only commit has all of it."""
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(ALGORITHM)
    (folder / "layers.py").write_text(LAYERS)
    if git:
        run(folder, "init", "--quiet", "--initial-branch=main")
        commit(folder)
    return folder


def commit(folder: Path) -> None:
    run(folder, "add", "--all")
    run(
        folder,
        "-c",
        "user.name=A Person",
        "-c",
        "user.email=person@example.org",
        "commit",
        "--quiet",
        "-m",
        "all of it",
    )


def run(folder: Path, *arguments: str) -> str:
    """What git prints."""
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
