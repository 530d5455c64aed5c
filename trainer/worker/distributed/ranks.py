"""The workers of a job as one of them sees them: who it is, and how it talks to the others."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

# a peer that is alive but silent for this long is taken for lost
TIMEOUT = timedelta(minutes=10)


def backend_of(device: torch.device) -> str:
    """What workers on such devices talk by."""
    return "cuda:nccl,cpu:gloo" if device.type == "cuda" else "gloo"


@dataclass
class Ranks:
    """This worker's place. With one worker nothing is sent anywhere."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    store: Any = None

    @classmethod
    def join(cls, timeout: timedelta = TIMEOUT) -> Ranks:
        """Meets the other workers, by the variables that PyTorch's elastic agent sets."""
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank = int(os.environ["LOCAL_RANK"])
        gpu = torch.cuda.is_available()
        if gpu:
            torch.cuda.set_device(local_rank)
        device = torch.device("cuda", local_rank) if gpu else torch.device("cpu")
        store = None
        if world_size > 1:
            dist.init_process_group(backend_of(device), timeout=timeout)
            store = dist.PrefixStore(
                "headway",
                dist.distributed_c10d._get_default_store(),
            )
        return cls(rank, world_size, local_rank, int(os.environ["LOCAL_WORLD_SIZE"]), device, store)

    def form_group(self) -> None:
        """For what needs a process group with one worker too."""
        if not dist.is_initialized():
            dist.init_process_group(backend_of(self.device), store=dist.HashStore(), rank=0, world_size=1)

    def leave(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()

    def barrier(self) -> None:
        self.gather(None)

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value on all: anything that JSON can say."""
        return self.gather(value)[0]

    def gather(self, value: Any) -> list[Any]:
        """Every worker's value, by rank, on all: anything that JSON can say."""
        if self.world_size == 1:
            return [value]
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world_size)]
        dist.all_gather(sizes, torch.tensor([data.numel()]))
        longest = max(int(s) for s in sizes)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: data.numel()] = data
        parts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.world_size)]
        dist.all_gather(parts, padded)
        return [json.loads(bytes(p[: int(n)].numpy()).decode()) for p, n in zip(parts, sizes, strict=True)]

    def tell(self, key: str, value: str) -> None:
        """Leaves a note for others at the store. From any thread: nobody waits for it here."""
        self.store.set(key, value)

    def hear(self, key: str) -> str:
        """Waits for a note and takes it away. From any thread: the store is asked, never held."""
        wait = 0.001
        while not self.store.check([key]):
            time.sleep(wait)
            wait = min(0.05, wait * 1.5)
        value = self.store.get(key).decode()
        self.store.delete_key(key)
        return str(value)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a float64 CPU tensor over all workers."""
        values = values.contiguous()
        if self.world_size > 1:
            dist.all_reduce(values)
        return values
