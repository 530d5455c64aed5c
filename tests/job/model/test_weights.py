"""A model's weights as files that any safetensors reader reads, one or several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from trainer.job.model.weights import INDEX, WEIGHTS, load_tensors, named_tensors, save_tensors


def model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(10, 10), nn.BatchNorm1d(10), nn.Linear(10, 10), nn.Linear(10, 10))
    net[3].weight = net[0].weight  # tied
    return net


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(t, b.state_dict()[name]) for name, t in a.state_dict().items())


def test_a_model_is_one_file(tmp_path: Path) -> None:
    save_tensors(named_tensors(model(1)), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [WEIGHTS]
    again = model(2)
    load_tensors(again, tmp_path)
    assert same(again, model(1))


def test_a_large_model_is_several_files_and_the_index_that_names_them(tmp_path: Path) -> None:
    tensors = named_tensors(model(1))
    save_tensors(tensors, tmp_path, limit=500)
    index = json.loads((tmp_path / INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    assert files == [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    assert sorted(p.name for p in tmp_path.iterdir()) == [*files, INDEX]
    assert set(index["weight_map"]) == set(tensors)
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in tensors.values())
    for name in files:
        found = load_file(tmp_path / name)
        assert found
        assert len(found) == 1 or sum(t.numel() * t.element_size() for t in found.values()) <= 500
        assert {index["weight_map"][key] for key in found} == {name}
    again = model(2)
    load_tensors(again, tmp_path)
    assert same(again, model(1))


@pytest.mark.parametrize("limit", [500, 10**9])
def test_the_weights_of_another_model_are_said(tmp_path: Path, limit: int) -> None:
    save_tensors(named_tensors(model(1)), tmp_path, limit=limit)
    with pytest.raises(ValueError, match="the weights are of another model"):
        load_tensors(nn.Sequential(nn.Linear(10, 10)), tmp_path)
