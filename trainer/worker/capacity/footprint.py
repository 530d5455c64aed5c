"""What a device holds and sends under each strategy: arithmetic over a model's weights and a step's course, no tensors.

Memory follows the implementations: torch's DistributedDataParallel and `fully_shard`, DeepSpeed's ZeRO with its default
buckets. Bytes sent follow the ring algorithms, in which an all-reduce of m bytes sends 2 (n-1)/n · m, an all-gather or a
reduce-scatter half of that (Rajbhandari et al., ZeRO, 2020, arXiv:1910.02054, section 7).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from trainer.process.format import size

BUCKET = 500_000_000  # elements that ZeRO reduces at once (reduce_bucket_size)
LIVE = 1_000_000_000  # elements that stage 3 keeps gathered (stage3_max_live_parameters)
MASTER = 4  # bytes of an element of the fp32 copy that 16-bit weights are updated by
USABLE = 0.92  # of a device's memory: its context, communication and what the allocator can't use take the rest
HINT = "raise train.gradient_accumulation or lower train.batch_size, if activations are what is too much"


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One parameter of a model.

    rows: its first dimension, which FSDP cuts. itemsize: bytes of an element. block: the repeated block that holds it,
    -1 outside of all. state: bytes of its optimizer state.
    """

    numel: int
    rows: int = 1
    itemsize: int = 4
    trainable: bool = True
    block: int = -1
    state: int = 0

    @property
    def bytes(self) -> int:
        return self.numel * self.itemsize

    def shard(self, devices: int) -> float:
        """The largest share of it that `fully_shard` gives a device: whole rows."""
        return -(-self.rows // devices) / self.rows


@dataclass(frozen=True)
class Course:
    """How memory goes in a step.

    moments: pairs of bytes alive at once: activations with temporaries, and finished gradients. While a backward runs
    the one falls and the other grows. scratch: bytes that the optimizer's step takes for its own time. flops:
    floating-point operations of matrix products, convolutions and attention.
    """

    moments: tuple[tuple[int, int], ...]
    scratch: int = 0
    flops: int = 0

    @property
    def activations(self) -> int:
        return max(activations for activations, _ in self.moments)

    def peak(self, gradients: float) -> int:
        """Bytes of activations and gradients together at most, were all gradients `gradients` bytes."""
        whole = max(1, *(done for _, done in self.moments))
        return round(max(activations + done / whole * gradients for activations, done in self.moments))


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a step of a training needs, before it is spread over devices.

    whole: the step with its batch on one device. share: with one device's share of it. cast: that share with the whole
    model in 16 bits, as FSDP and DeepSpeed do it, where `share` is autocast; the same without 16 bits.
    buffers: bytes of the model's buffers. flops: floating-point operations of a step, over all devices.
    copies: further copies of the weights that are kept, such as an average. parts: of gradient accumulation.
    """

    weights: tuple[Weight, ...]
    whole: Course
    share: Course
    cast: Course
    precision: str = "fp32"
    buffers: int = 0
    flops: int = 0
    parts: int = 1
    copies: int = 0

    @property
    def parameters(self) -> int:
        return sum(w.numel for w in self.weights)

    @property
    def in_16_bits(self) -> bool:
        return self.precision in ("bf16", "fp16")


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes on a device under one strategy.

    gathered: what the strategy itself holds for a while, weights of blocks and buckets of gradients. total: the peak of
    a step; less than the sum where activations are gone before all gradients are there. host: main memory for each
    device. sent: bytes a device sends a step.
    """

    strategy: str
    stage: int | None = None
    offload: str | None = None  # "optimizer" or "all": what waits in main memory
    weights: int
    gradients: int
    optimizer: int
    activations: int
    gathered: int = 0
    total: int
    host: int = 0
    sent: int = 0
    problem: str | None = field(default=None)

    @property
    def name(self) -> str:
        stage = "" if self.stage is None else f" {self.stage}"
        return f"{self.strategy}{stage}{' +cpu' if self.offload else ''}"

    def fits(self, memory: int) -> bool:
        return self.problem is None and self.total <= memory * USABLE


def footprints(estimate: Estimate, devices: int, *, offload: bool = False) -> list[Footprint]:
    """Every strategy and stage, the simplest first; with `offload` also those that keep state in main memory."""
    found = [single(estimate, devices), ddp(estimate, devices), fsdp(estimate, devices)]
    found += [zero(estimate, devices, stage) for stage in range(4)]
    if offload:
        found += [zero(estimate, devices, 2, offload="optimizer"), zero(estimate, devices, 3, offload="all")]
    return found


def single(estimate: Estimate, devices: int) -> Footprint:
    """All on one device. Its gradients are freed after each step."""
    weights, gradients, optimizer = _replicated(estimate)
    course = estimate.whole
    return Footprint(
        strategy="single",
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=course.activations,
        total=weights + optimizer + max(course.peak(gradients), gradients + course.scratch),
        problem="one device" if devices > 1 else None,
    )


def ddp(estimate: Estimate, devices: int) -> Footprint:
    """All on every device. Gradients lie in buckets that stay from step to step."""
    weights, gradients, optimizer = _replicated(estimate)
    course = estimate.share
    step = max(course.activations, course.scratch) + gradients
    if devices == 1:
        step = max(course.peak(gradients), gradients + course.scratch)
    return Footprint(
        strategy="ddp",
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=course.activations,
        total=weights + optimizer + step,
        sent=_ring(2 * gradients, devices),
    )


def fsdp(estimate: Estimate, devices: int) -> Footprint:
    """Weights, gradients and optimizer cut by rows; a block's weights are gathered while it computes.

    What is outside of all blocks stays gathered from its forward to its backward. Beside it are, at most, the weights
    of a block and of the next one, the gradients of a block and those of the one before that are being reduced.
    """
    low = 2 if estimate.in_16_bits else 4
    cuts = [(w, w.shard(devices)) for w in estimate.weights]
    weights = round(sum(w.bytes * cut for w, cut in cuts)) * (1 + estimate.copies) + estimate.buffers
    gradients = round(sum(w.bytes * cut for w, cut in cuts if w.trainable))
    optimizer = round(sum(w.state * cut for w, cut in cuts))
    blocks = {w.block: 0 for w in estimate.weights}
    for w in estimate.weights:
        blocks[w.block] += w.numel * low
    root = blocks.pop(-1, 0)
    gathered = 2 * root + 4 * max(blocks.values(), default=0) if devices > 1 else 0
    reduced = low * sum(w.numel for w in estimate.weights if w.trainable)
    course = estimate.cast
    return Footprint(
        strategy="fsdp",
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=course.activations,
        gathered=gathered,
        total=weights + optimizer + max(course.peak(gradients) + gathered, gradients + course.scratch // devices),
        sent=_ring((root + 2 * sum(blocks.values()) + reduced) * estimate.parts, devices),
    )


def zero(estimate: Estimate, devices: int, stage: int, offload: str | None = None) -> Footprint:
    """DeepSpeed: from stage 1 the optimizer is cut, from 2 also the gradients, from 3 also the weights, as flat arrays.

    16-bit weights have a copy in fp32, counted with the optimizer; from stage 1 fp32 weights have one too. Gradients
    become fp32 for the optimizer's step. offload: "optimizer" moves the optimizer and its gradients to main memory,
    "all" the weights as well.
    """
    low = 2 if estimate.in_16_bits else 4
    held, trained = estimate.parameters, sum(w.numel for w in estimate.weights if w.trainable)
    master = MASTER * trained if estimate.in_16_bits or stage else 0
    cut = [devices if stage >= least else 1 for least in (3, 2, 1)]
    weights = -(-held // cut[0]) * low * (1 + estimate.copies)
    gradients = -(-trained // cut[1]) * low
    optimizer = -(-(master + sum(w.state for w in estimate.weights)) // cut[2])
    raised = MASTER * -(-trained // cut[2]) if estimate.in_16_bits else 0
    gathered = 0 if devices == 1 else min(BUCKET, trained) * low
    if stage == 3 and (devices > 1 or offload):
        gathered += min(LIVE, held) * low
    host = 0
    if offload:
        host += optimizer + MASTER * -(-trained // cut[2])
        optimizer = gradients = raised = 0
    if offload == "all":
        host += weights
        weights = 0
    weights += estimate.buffers
    course = estimate.cast
    ends = gradients + raised + (0 if offload else course.scratch // cut[2])
    parts = estimate.parts if stage >= 2 else 1
    sent = {0: 2 * trained, 1: trained + held, 2: trained * parts + held, 3: (trained + 2 * held) * parts}[stage] * low
    return Footprint(
        strategy="deepspeed",
        stage=stage,
        offload=offload,
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=course.activations,
        gathered=gathered,
        total=weights + optimizer + max(course.peak(gradients) + gathered, ends),
        host=host,
        sent=_ring(sent, devices),
    )


def choose(estimate: Estimate, memory: int, devices: int) -> tuple[str, str]:
    """The strategy that `auto` takes on `devices` of `memory` bytes each, and why, in words: the simplest that fits."""
    usable = f"{size(memory * USABLE)} usable"
    if devices == 1:
        alone = single(estimate, devices)
        takes = f"{size(alone.total)} of {usable}"
        if alone.fits(memory):
            return "single", f"there is one device, and it fits: {takes}"
        return "single", f"there is one device, though it does not fit: {takes}; {HINT}"
    simple, cut = ddp(estimate, devices), fsdp(estimate, devices)
    if simple.fits(memory):
        return "ddp", f"the whole model fits each device: {size(simple.total)} of {usable}"
    needs = f"ddp would take {size(simple.total)} on each device of {usable}, fsdp {size(cut.total)}"
    if cut.fits(memory):
        return "fsdp", needs
    return min((cut, simple), key=lambda found: found.total).strategy, f"{needs}: neither fits; {HINT}"


def _replicated(estimate: Estimate) -> tuple[int, int, int]:
    weights = sum(w.bytes for w in estimate.weights) * (1 + estimate.copies) + estimate.buffers
    return weights, _trainable(estimate.weights), sum(w.state for w in estimate.weights)


def _trainable(weights: Iterable[Weight]) -> int:
    return sum(w.bytes for w in weights if w.trainable)


def _ring(bytes_: int, devices: int) -> int:
    return bytes_ * (devices - 1) // devices
