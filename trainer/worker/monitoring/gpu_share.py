"""The share of a GPU that a job may use, if whoever started it has given it a part of one: HEADWAY_GPU_SHARE=0.5.

Others, also of other users, then use the rest of it. Without the variable a worker has its GPU to itself.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

from trainer.errors import UserError

SHARE = "HEADWAY_GPU_SHARE"


def granted() -> float | None:
    """The share, above 0 and up to 1; None if none was given. Raises UserError for what is none."""
    given = os.environ.get(SHARE)
    if not given:
        return None
    try:
        share = float(given)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise UserError(f"{SHARE}: {given!r} is not a share of a GPU; give a number above 0 and up to 1, such as 0.5")
    return share


def of(memory: int) -> int:
    """What the share is of a GPU's memory, in bytes."""
    return int(memory * (granted() or 1.0))


def keep_within(device: torch.device, part: float = 1.0) -> None:
    """Lets this process allocate no more of a GPU than `part` of the share. Puts a CUDA context there, unless it is all."""
    if device.type == "cuda" and (granted() or 1.0) * part < 1:
        import torch  # only here: torch may import NVML's package, which nobody needs without a GPU

        torch.cuda.set_per_process_memory_fraction((granted() or 1.0) * part, device)
