"""A collective that times out is told with the ranks that did not arrive, and where each stands."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest

from launchers.agent.errors import first_error
from tests.worker.processes import on_workers
from trainer.job import node_state
from trainer.job.directory import Job, write_json
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.failures import record as failure
from trainer.worker.failures.collective_timeout import explained
from trainer.worker.monitoring.timing import DATA, FORWARD, Laps

TIMEOUT = timedelta(seconds=2)


def meet(ranks: Ranks, folder: Path, missing: list[int], several_nodes: bool) -> dict[str, object] | None:
    """All but the missing ones come together after step 20. What a worker writes down of its error, if there is one."""
    local = 1 if several_nodes else ranks.world_size
    own = folder / f"node-{ranks.rank}" if several_nodes else folder
    own.mkdir(exist_ok=True)
    if several_nodes:
        ranks.local_rank, ranks.local_world_size = 0, 1
        node_state.make(own, 1)
    laps = Laps(node_state.at_of(own, ranks.local_rank, local))
    job = Job(folder)
    try:
        with explained(ranks, own):
            node_state.beat_of(own, ranks.local_rank, local)[0] = 20
            laps.mark(DATA)
            if ranks.rank in missing:
                time.sleep(13 if several_nodes else 9)
                return None
            if several_nodes:  # the missing one's note comes within seconds
                time.sleep(5.5)
            laps.mark(FORWARD)
            ranks.barrier()
    except Exception as error:
        return failure.describe(error, ranks.rank, job, 0)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("missing", [[1], [0, 2]])
def test_the_ranks_that_did_not_arrive_are_named(tmp_path: Path, missing: list[int]) -> None:
    node_state.make(tmp_path, 3)
    found = on_workers(3, meet, tmp_path, missing, False, timeout=TIMEOUT)
    names = ", ".join(map(str, missing))
    for rank, record in enumerate(found):
        if rank in missing:
            continue
        assert f"rank {names} did not arrive" in record["message"]
        assert f"rank {missing[0]} is in the forward of step 21" in record["message"]
        assert f"rank {rank} is in the backward of step 21" in record["message"]
        assert record["timed_out"]
        assert record["lost_peer"]
        assert not record["final"]
        assert record["rank"] == rank


@pytest.mark.slow
def test_a_rank_of_another_node_is_found_by_its_note(tmp_path: Path) -> None:
    found = on_workers(2, meet, tmp_path, [1], True, timeout=TIMEOUT)
    assert "rank 1 did not arrive; rank 1 is in the forward of step 21, rank 0 is in the backward of step 21" in str(
        found[0]
    )


def test_the_agent_tells_of_the_rank_that_did_not_arrive(tmp_path: Path) -> None:
    """And not of those that only lost the one whose collective timed out."""
    job = Job(tmp_path)
    late = {"time": 2.0, "message": "rank 1 did not arrive", "rank": 0, "lost_peer": True, "timed_out": True}
    lost = {"time": 1.0, "message": "Connection closed by peer", "rank": 2, "lost_peer": True, "timed_out": False}
    for record in (late, lost):
        write_json(job.error_path(0, int(str(record["rank"]))), record)
    error = first_error(job, 0, {0: 1, 2: 1})
    assert (error["message"], error["kind"]) == ("rank 1 did not arrive", "hang")


def test_an_error_of_ones_own_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="my own"), explained(Ranks(world_size=2, local_world_size=2), tmp_path):
        raise ValueError("my own")
