"""Training on one worker needs nothing of PyTorch's compiler, and where it is used the optimizers are what it expects."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRAINING = """
import sys

import torch
from torch import nn

import trainer.worker.main
from trainer.worker.checkpointing.layout import Plain
from trainer.worker.distributed.uncompiled import Unfilled, postpone_compiler


def model(device="cpu"):
    with torch.device(device):
        return nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 3), nn.BatchNorm1d(3))


def train(kind):
    torch.manual_seed(0)
    network = model()
    optimizer = kind(network.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for _ in range(3):
        nn.functional.cross_entropy(network(torch.arange(7)), torch.arange(7) % 3).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    layout = Plain(network, optimizer)
    groups, state = layout.optimizer()
    layout.load(layout.weights(), groups, state)
    return [value.tolist() for value in layout.weights().values()]


def imported():
    return [name for name in ("torch._dynamo", "torch.distributed.tensor", "sympy") if name in sys.modules]


KINDS = [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad, torch.optim.RMSprop]
"""


def run(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAINING + code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_training_ends_the_same_without_the_compiler() -> None:
    run(
        """
postpone_compiler()
with Unfilled():
    assert all(p.is_meta for p in model("meta").parameters())
without = [train(kind) for kind in KINDS]
assert imported() == [], imported()
import torch._dynamo
assert without == [train(kind) for kind in KINDS]
"""
    )


@pytest.mark.parametrize("before", ["", "train(torch.optim.SGD)"])
def test_who_compiles_has_torchs_own_optimizers(before: str) -> None:
    """Be that from the beginning, or after some steps."""
    run(
        f"""
postpone_compiler()
{before}
traced = []
def backend(graph, inputs):
    traced.append(graph)
    return graph.forward
network = torch.compile(nn.Linear(3, 2), backend=backend)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
network(torch.ones(1, 3)).sum().backward()
optimizer.step()
optimizer.zero_grad()
assert traced
kept = torch.optim.Optimizer.zero_grad.__wrapped__.__dynamo_disable
assert kept.__module__ == "torch._dynamo.eval_frame", kept
"""
    )
