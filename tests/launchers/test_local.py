from __future__ import annotations

import pytest

from launchers.local import Local
from trainer.errors import UserError


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6,7")


@pytest.mark.parametrize(
    ("options", "workers"),
    [({}, 4), ({"workers": 2}, 2), ({"nodes": 2}, 4), ({"nodes": 3}, 3), ({"nodes": 2, "workers": 2}, 4)],
)
def test_workers_are_as_many_as_there_are_gpus_for_them(four: None, options: dict[str, int], workers: int) -> None:
    assert Local(**options).world_size() == workers


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"workers": 5},
            "launcher.workers: 5 workers need as many GPUs, and this machine has 4; lower launcher.workers",
        ),
        (
            {"nodes": 5},
            "launcher.nodes: 5 nodes of 1 workers need as many GPUs, and this machine has 4; lower launcher.nodes",
        ),
        ({"nodes": 2, "workers": 3}, "launcher.nodes: 2 nodes of 3 workers need as many GPUs"),
    ],
)
def test_more_are_refused_as_two_workers_of_a_job_can_not_share_one(
    four: None, options: dict[str, int], words: str
) -> None:
    with pytest.raises(UserError) as refused:
        Local(**options).world_size()
    assert str(refused.value).startswith(words)
    assert "hide the GPUs with CUDA_VISIBLE_DEVICES=" in str(refused.value)


def test_each_node_has_its_part_of_the_gpus(four: None) -> None:
    launcher = Local(nodes=2)
    assert [launcher._part(node) for node in range(2)] == [{"CUDA_VISIBLE_DEVICES": part} for part in ("3,5", "6,7")]
    assert Local()._part(0) == {}


def test_without_gpus_there_may_be_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Local(workers=3, nodes=2).world_size() == 6
    assert Local(nodes=2).world_size() == 2
    assert Local(nodes=2)._part(1) == {}
