"""The workers of a job as processes of their own, which talk to each other by gloo as real ones do on CPUs."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch._dynamo  # an optimizer imports it when first made: here once for all workers

from trainer.worker.distributed.ranks import TIMEOUT, Ranks

PATIENCE = 600.0  # seconds


def enter(
    rank: int, world: int, port: int, work: Callable[..., Any], arguments: Any, results: Any, timeout: timedelta
) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    try:
        ranks = Ranks.join(timeout)
        results.put((rank, work(ranks, *arguments), None))
        ranks.leave()
    except BaseException:
        results.put((rank, None, traceback.format_exc()))
    results.close()
    results.join_thread()


def on_workers(world: int, work: Callable[..., Any], *arguments: Any, timeout: timedelta = TIMEOUT) -> list[Any]:
    """What `work(ranks, *arguments)` gives on each of `world` workers. Fails with the first one's trace.

    timeout: of their collectives.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, work.__module__])
    results = context.Queue()
    processes = [
        context.Process(target=enter, args=(rank, world, port, work, arguments, results, timeout), daemon=True)
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    try:
        found = {}
        for _ in processes:
            rank, value, trace = results.get(timeout=PATIENCE)
            assert trace is None, f"worker {rank}:\n{trace}"
            found[rank] = value
        return [found[rank] for rank in range(world)]
    finally:
        for process in processes:
            process.join(5)
            process.kill()
