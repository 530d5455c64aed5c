"""What a step costs under each strategy, against the same model spread by hand with PyTorch or DeepSpeed, two workers.

    python scripts/bench/strategy.py [--quick]

As in step.py: both sides alternate step by step in the same workers, start from the same weights, see the same samples
and must end with the same weights bit for bit. By hand is what one writes after the tutorials: DistributedDataParallel;
`fully_shard` of each block and of the root; `deepspeed.initialize` with the same config, then engine, backward, step.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

from pairing import head
from setting import strategy
from step import BATCH, Bare, Case, bare, compare, gpt, on_workers, taken
from torch import nn

from trainer.worker.distributed.ranks import Ranks

STAGES = (0, 1, 2, 3)
CASES = ("ddp", "fsdp", *(f"deepspeed-{stage}" for stage in STAGES))
ASKED = "at most 1.02"


def fsdp(case: Case, model: nn.Module, ranks: Ranks) -> Iterator[None]:
    """FSDP2 by hand."""
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks:
        fully_shard(block)
    fully_shard(model, reshard_after_forward=False)
    optimizer = case.algorithm.optimizer(model)
    schedule = case.algorithm.schedule(optimizer, case.steps)
    for rows in taken(case.samples, case.steps, BATCH, ranks):
        tokens = case.x[rows]
        loss = model(tokens[:, :-1], tokens[:, 1:]).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        yield


def deepspeed(stage: int, case: Case, model: nn.Module, ranks: Ranks) -> Iterator[None]:
    """DeepSpeed by hand, in fp32 as ours is."""
    import deepspeed

    optimizer = case.algorithm.optimizer(model)
    schedule = case.algorithm.schedule(optimizer, case.steps)
    config = {
        "train_micro_batch_size_per_gpu": BATCH // ranks.world_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0,  # DeepSpeed's own default is 1
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    for rows in taken(case.samples, case.steps, BATCH, ranks):
        tokens = case.x[rows]
        loss = engine(tokens[:, :-1], tokens[:, 1:]).mean()
        engine.backward(loss)
        engine.step()
        schedule.step()
        yield


def sides(name: str) -> tuple[Bare, dict[str, Any]]:
    """The loop by hand, and the settings of ours."""
    if name == "ddp":
        return bare, strategy("ddp")
    if name == "fsdp":
        return fsdp, strategy("fsdp")
    stage = int(name.removeprefix("deepspeed-"))
    return partial(deepspeed, stage), strategy("deepspeed", stage=stage)


def work(name: str, quick: bool, ranks: Ranks) -> None:
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # of names that FSDP uses
    logging.disable(logging.WARNING)  # DeepSpeed tells much
    by_hand, settings = sides(name)
    compare(dataclasses.replace(gpt(quick), asked=ASKED), ranks, by_hand, settings, f"{name.replace('-', ' ')}, ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it works, not what it costs")
    parser.add_argument("--only", choices=CASES)
    args = parser.parse_args()
    os.environ["DS_ACCELERATOR"] = "cpu"  # DeepSpeed looks for nothing
    head("ms a step")
    for name in CASES:
        if args.only in (None, name):
            on_workers(2, partial(work, name, args.quick))


if __name__ == "__main__":
    main()
