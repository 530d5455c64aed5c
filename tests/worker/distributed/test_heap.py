"""What a step frees on a CPU is kept for the next one."""

from __future__ import annotations

import os
import subprocess
import sys

FAULTS = """
import resource
import torch
from trainer.worker.distributed.heap import keep_freed_memory

def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        parts = [torch.zeros(1 << 20, dtype=torch.uint8) for _ in range(8)]
        del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
torch.zeros(1 << 22, dtype=torch.uint8)
faults(5)
usual = faults(50)
keep_freed_memory()
faults(5)
print(usual, faults(50))
"""


def test_memory_that_a_step_frees_costs_the_next_one_no_page_faults() -> None:
    # thresholds that don't adapt: what the C library gives back by itself depends on where things happen to lie
    given_back = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    done = subprocess.run([sys.executable, "-c", FAULTS], env=given_back, capture_output=True, text=True, check=True)
    usual, kept = map(int, done.stdout.split())
    assert kept < 100 <= usual
