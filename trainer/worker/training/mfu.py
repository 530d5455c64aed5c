"""MFU, model FLOPs utilisation: what part of the GPUs' peak the training itself uses (PaLM, arXiv:2204.02311, appendix B).

The algorithm tells the FLOPs of a sample. Peaks are dense ones (without structured sparsity, with which most data sheets
count twice), sums in 32 bits, at the boost clock. A GPU that isn't listed gives no MFU rather than a guess.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trainer.worker.metrics import Gauge, Progress

if TYPE_CHECKING:
    from trainer.algorithm import Module
    from trainer.worker.training.session import Session

# the name as CUDA tells it: peak TFLOP/s in 16 bits (bf16 and fp16), TF32 and fp32. Those before Ampere have fp16 alone:
# their TF32 is None. All from NVIDIA; where a data sheet and an architecture white paper differ in rounding, the finer one
PEAKS: dict[str, tuple[float, float | None, float]] = {
    # Blackwell and Blackwell Ultra: data sheets of GB200 NVL72, GB300 NVL72, HGX B200 and HGX B300, a GPU's part
    r"GB[23]00": (2500, 1250, 80),
    r"B[23]00( SXM6 AC)?": (2250, 1125, 75),
    # Hopper: white paper "NVIDIA H100 Tensor Core GPU Architecture"; data sheets of H100 NVL, H200, H200 NVL and GH200
    r"(GH200 \d+GB?( HBM3e)?|H200|H100 \d+GB HBM3)": (989.4, 494.7, 66.9),
    r"H(100|200) NVL": (835.5, 417.7, 60),
    r"H100 PCIe": (756, 378, 51.2),
    # Ampere: white papers "NVIDIA A100 Tensor Core GPU Architecture" and "NVIDIA Ampere GA102 GPU Architecture";
    # data sheets of A10, A30 and A40, and of A10G
    r"A100(-(SXM4|PCIE|PCIe)-\d+GB| \d+GB PCIe)": (312, 156, 19.5),
    r"A40": (149.7, 74.8, 37.4),
    r"A30": (165, 82, 10.3),
    r"A10": (125, 62.5, 31.2),
    r"A10G": (70, 35, 35),
    r"RTX A6000": (154.8, 77.4, 38.7),
    r"GeForce RTX 3090": (71, 35.6, 35.6),
    # Ada: white papers "NVIDIA Ada GPU Architecture" and its supplement on professional GPUs; data sheets of L4, L40, L40S
    r"L40S": (362.05, 183, 91.6),
    r"L40": (181.05, 90.5, 90.5),
    r"L4": (121, 60, 30.3),
    r"GeForce RTX 4090": (165.2, 82.6, 82.6),
    # white paper "NVIDIA RTX Blackwell GPU Architecture"
    r"GeForce RTX 5090": (209.5, 104.8, 104.8),
    # Volta and Turing: data sheets of V100 and T4
    r"V100-SXM2-\d+GB": (125, None, 15.7),
    r"V100-PCIE-\d+GB": (112, None, 14),
    r"T4": (65, None, 8.1),
}


def mfu_of(algorithm: Module, session: Session, precision: str) -> list[Gauge]:
    """The gauge of `mfu`; none without a GPU, for one whose peak isn't known, or if the algorithm tells no FLOPs."""
    ranks = session.ranks
    if ranks.device.type != "cuda" or ranks.rank:
        return []
    peak = peak_of(torch.cuda.get_device_name(ranks.device), precision)
    flops = algorithm.flops_per_sample(session.opened.schema)
    if peak is None or flops is None:
        return []
    return [MFU(session.reporter.progress, flops / (peak * ranks.world_size))]


def peak_of(name: str, precision: str) -> float | None:
    """FLOP/s of a GPU at its best, in the arithmetic that its matrices are multiplied in; None if not known."""
    for pattern, (half, tf32, fp32) in PEAKS.items():
        if re.fullmatch(rf"((NVIDIA|Tesla) )*{pattern}", name):
            if precision in ("bf16", "fp16"):
                return None if precision == "bf16" and tf32 is None else half * 1e12
            exact = torch.get_float32_matmul_precision() == "highest"
            return (fp32 if exact else tf32 or fp32) * 1e12
    return None


@dataclass
class MFU:
    """A `Gauge`: the seconds that the samples since the last report would take at the peak, of those they took.

    progress.samples counts all workers'. What happens between two reports without a sample, as validation does, is not
    counted; the writing of checkpoints is.
    """

    progress: Progress
    seconds_per_sample: float
    since: float | None = None
    samples: int = 0

    def read(self) -> dict[str, float]:
        now, progress = time.monotonic(), self.progress
        if self.since is None:
            self.since, self.samples = progress.session_started, progress.session_first_sample
        before, samples = self.since, progress.samples - self.samples
        self.since, self.samples = now, progress.samples
        if before is None or samples <= 0 or now <= before:
            return {}
        return {"mfu": samples * self.seconds_per_sample / (now - before)}

    def close(self) -> None:
        """It holds nothing."""
