"""Whether a batch fits the devices, by real steps in processes that leave nothing behind: one beside each worker.

python -m trainer.worker.capacity.probe < REQUEST        leaves with 0 if it fits, with FULL if memory is out
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist

from trainer.algorithm import Batch, Module
from trainer.config.instantiate import build
from trainer.data.opening import open_data
from trainer.process.interpreter import safe, working_folder_last
from trainer.worker.checkpointing.ema import Averages
from trainer.worker.checkpointing.state import Position, Training
from trainer.worker.distributed.ranks import TIMEOUT, Ranks, backend_of
from trainer.worker.failures import out_of_memory
from trainer.worker.monitoring import gpu_share
from trainer.worker.strategy import choice, initial
from trainer.worker.strategy import precision as numbers
from trainer.worker.strategy.exact import ExactGradient, parts_of
from trainer.worker.strategy.exact import settle as settle_exact
from trainer.worker.training.beginning import seed_all
from trainer.worker.training.evaluation import BATCH_FACTOR

FULL = 3  # exit code
MOST = (
    0.95  # of a GPU's memory, or the job's share of it, that may be taken: what lies apart in it grows while a job runs
)
STEPS = 2  # from the second on the optimizer has its state
POLL = 0.05
PATIENCE = 600.0  # seconds


def halved(
    config: Mapping[str, Any], ranks: Ranks, options: Mapping[str, Any], precision: str, size: int, least: int
) -> int:
    """The largest of `size`, its half, its quarter … that real steps fit on all workers' devices; at least `least`."""
    number = 0
    while size > least and not fits(config, ranks, options, precision, size, number):
        size, number = max(least, size // 2), number + 1
    return size


def fits(
    config: Mapping[str, Any], ranks: Ranks, options: Mapping[str, Any], precision: str, size: int, number: int
) -> bool:
    """Whether a batch of `size` samples fits, the same answer on all workers. `number`: tells tries apart.

    What else goes wrong is left to the training itself, which says it as it says everything.
    """
    request = {
        "config": {**config, "train": {**config["train"], "batch_size": size}},
        "strategy": dict(options),
        "precision": precision,
        "device": ranks.device.type,
        "number": number,
        "path": sys.path,  # the job's own code
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer.worker.capacity.probe"],
        stdin=subprocess.PIPE,
        text=True,
        env={**os.environ, **safe()},
    )
    assert process.stdin is not None
    print(json.dumps(request), file=process.stdin, flush=True)  # it stays open: the process ends when it closes
    key, end = f"probe-{number}-full", time.monotonic() + PATIENCE
    full = False
    while process.poll() is None and not full:
        time.sleep(POLL)
        # a worker whose memory is out leaves the others waiting for it
        full = time.monotonic() > end or (ranks.store is not None and ranks.store.check([key]))
    if full:
        process.kill()
    elif process.wait() == FULL:
        full = True
        if ranks.store is not None:
            ranks.store.set(key, "1")
    process.wait()
    process.stdin.close()
    return not any(ranks.gather(full))


def main() -> int:
    working_folder_last()
    request = json.loads(sys.stdin.readline())
    sys.path[:] = request["path"]
    threading.Thread(target=_end_with_worker, daemon=True).start()
    try:
        steps(request["config"], join(request), request["strategy"], request["precision"])
    except Exception as error:  # out of memory, PyTorch, drivers and libraries raise each their own
        if out_of_memory.ran_out(error):
            return FULL
        raise
    return 0


def _end_with_worker() -> None:
    sys.stdin.read()
    os._exit(1)


def join(request: Mapping[str, Any]) -> Ranks:
    """Meets the processes beside the other workers, at the store at which those met."""
    gpu = request["device"] == "cuda"
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    ranks = Ranks(
        int(os.environ["RANK"]),
        int(os.environ["WORLD_SIZE"]),
        int(os.environ["LOCAL_RANK"]),
        int(os.environ["LOCAL_WORLD_SIZE"]),
        device,
    )
    if gpu:
        torch.cuda.set_device(device)
        gpu_share.keep_within(device, MOST)
    if ranks.world_size > 1:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.PrefixStore(f"probe-{request['number']}", dist.TCPStore(address, port, is_master=False))
        ranks.store = dist.PrefixStore("headway", store)
        dist.init_process_group(
            backend_of(device), store=store, rank=ranks.rank, world_size=ranks.world_size, timeout=TIMEOUT
        )
    return ranks


def steps(config: Mapping[str, Any], ranks: Ranks, options: Mapping[str, Any], precision: str) -> None:
    """Takes a job's first steps, and validates a batch."""
    train = config["train"]
    algorithm: Module = build(config["algorithm"], "algorithm")
    opened = open_data(build(config["data"], "data"), algorithm, seed=config["job"]["seed"])
    exactly = train["elastic"] == "exact"
    if exactly:
        settle_exact(ranks.device)
    numbers.settle(precision)
    seed = partial(seed_all, config["job"]["seed"])
    model, values = initial.build(algorithm, opened.schema, ranks, seed, split=choice.splits(options))

    def training_of(model: torch.nn.Module) -> Training:
        optimizer = algorithm.optimizer(model)
        return Training(model, optimizer, algorithm.schedule(optimizer, None), Position())

    training, spread = choice.spread(algorithm, model, training_of, ranks, precision, options, train, None, values)
    averages = Averages(training, train["ema"], spread.refresh) if train["ema"] else None
    parts, cut, exact = train["gradient_accumulation"], None, None
    if exactly:
        cut = parts_of(train["batch_size"], parts, ranks.world_size)
        exact = ExactGradient(spread.loss, training.model, ranks, seed=0, parts=cut)
        parts = exact.count
    stream: Iterator[Batch] = opened.train.stream(
        seed=config["job"]["seed"],
        epoch=0,
        batch_size=train["batch_size"],
        rank=ranks.rank,
        world=ranks.world_size,
        accumulate=parts,
        parts=cut,
    )
    model.train()
    for i, batch in enumerate(islice(stream, STEPS * parts)):
        batch = batch.to(ranks.device)
        if exact is not None:
            exact.part(batch, i // parts, i % parts)
        else:
            spread.part(batch, i % parts == parts - 1)
        if i % parts == parts - 1:
            if exact is not None:
                exact.combine()
            spread.update()
            if averages is not None:
                averages.update()
    if opened.validation is not None:
        model.eval()
        size = train["batch_size"] * BATCH_FACTOR
        with torch.no_grad():
            held = opened.validation.sequential(batch_size=size, rank=ranks.rank, world=ranks.world_size, parts=cut)
            spread.evaluate(next(held).to(ranks.device))
    if ranks.device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
