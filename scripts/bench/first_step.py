"""A bare training script, which startup.py runs under torchrun: the model of `algorithm=linear data=digits`, by hand.

Prints the time of the first optimizer step. The digits are read from the file that scikit-learn ships, without
importing scikit-learn, which alone takes longer than all the rest.
"""

import gzip
import importlib.util
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ["LOCAL_WORLD_SIZE"])))
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
package = Path(importlib.util.find_spec("sklearn").submodule_search_locations[0])
text = gzip.decompress((package / "datasets" / "data" / "digits.csv.gz").read_bytes()).decode()
table = torch.from_numpy(np.fromstring(text.strip().replace("\n", ","), sep=",").reshape(-1, 65).astype(np.float32))
table = table[torch.randperm(len(table), generator=torch.Generator().manual_seed(0))]
x, y = table[:1437, :64], table[:1437, 64].long()
x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
torch.manual_seed(0)
model = nn.Linear(64, 10)
if world > 1:
    torch.distributed.init_process_group("gloo")
    model = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.Adam(model.parameters(), lr=0.05, fused=True)
index = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
share = 32 // world
for start in range(rank * share, len(x) - 31, 32):
    taken = index[start : start + share]
    loss = F.cross_entropy(model(x[taken]), y[taken])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if start == 0:
        print(f"first step {time.time()}", flush=True)
if world > 1:
    torch.distributed.destroy_process_group()
