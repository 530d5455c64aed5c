"""What each strategy holds and sends, by the published arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainer.worker.capacity.footprint import (
    BUCKET,
    USABLE,
    Course,
    Estimate,
    Footprint,
    Weight,
    choose,
    ddp,
    footprints,
    zero,
)

GB = 10**9
COURSE = Course(((0, 0),))


def model(parameters: int, precision: str = "bf16", course: Course = COURSE, blocks: int = 4) -> Estimate:
    """Weights trained by Adam, in as many blocks of equal size."""
    numel = parameters // blocks
    weights = tuple(Weight(numel=numel, rows=64, block=i, state=8 * numel) for i in range(blocks))
    return Estimate(weights=weights, whole=course, share=course, cast=course, precision=precision)


def states(footprint: Footprint) -> float:
    return (footprint.weights + footprint.gradients + footprint.optimizer) / GB


@pytest.mark.parametrize(("stage", "published"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.88)])
def test_zero_holds_what_its_paper_says(stage: int, published: float) -> None:
    # Rajbhandari et al. 2020, figure 1: 7.5 B weights on 64 devices, 16-bit weights trained by Adam
    assert states(zero(model(7_500_000_000), 64, stage)) == pytest.approx(published, rel=0.01)


def test_fsdp_holds_its_share_of_everything_in_fp32() -> None:
    fsdp = {row.name: row for row in footprints(model(GB), 64)}["fsdp"]
    assert states(fsdp) == pytest.approx(16 / 64, rel=0.01)


@pytest.mark.parametrize(("stage", "times"), [(0, 2), (1, 2), (2, 2), (3, 3)])
def test_zero_sends_two_or_three_times_the_weights(stage: int, times: int) -> None:
    # section 7 of the paper, in 16 bits
    assert zero(model(GB), 1000, stage).sent / GB == pytest.approx(2 * times, rel=0.01)


def test_a_single_device_sends_nothing() -> None:
    assert not any(row.sent for row in footprints(model(GB), 1))


def test_gradient_accumulation_sends_again_where_weights_are_gathered() -> None:
    once, four = ({row.name: row.sent for row in footprints(replace(model(GB), parts=n), 8)} for n in (1, 4))
    assert four["ddp"] == once["ddp"]
    assert four["fsdp"] == 4 * once["fsdp"]
    assert four["deepspeed 3"] == 4 * once["deepspeed 3"]


def test_what_is_kept_in_main_memory_is_not_on_the_device() -> None:
    rows = {row.name: row for row in footprints(model(GB), 4, offload=True)}
    assert rows["deepspeed 2 +cpu"].optimizer == 0
    assert rows["deepspeed 2 +cpu"].host >= rows["deepspeed 2"].optimizer
    assert rows["deepspeed 3 +cpu"].weights == 0
    assert rows["deepspeed 3 +cpu"].total < rows["deepspeed 3"].total


def test_the_peak_is_less_than_the_sum_where_activations_go_as_gradients_come() -> None:
    course = Course(((8 * GB, 0), (5 * GB, 2 * GB), (0, 4 * GB)))
    single = footprints(model(GB, "fp32", course), 1)[0]
    assert single.total == (4 + 8 + 8) * GB
    assert single.weights + single.gradients + single.optimizer + single.activations == (4 + 4 + 8 + 8) * GB


def test_ddp_keeps_its_gradients_from_step_to_step() -> None:
    course = Course(((8 * GB, 0), (0, 4 * GB)))
    assert ddp(model(GB, "fp32", course), 2).total == (4 + 4 + 8 + 8) * GB


def test_an_average_of_the_weights_is_held_beside_them() -> None:
    without, kept = (ddp(replace(model(GB), copies=n), 2).weights for n in (0, 1))
    assert kept == 2 * without


def test_a_bucket_is_no_larger_than_the_gradients() -> None:
    assert zero(model(1000), 2, 1).gathered == 2000
    assert zero(model(4 * GB), 2, 1).gathered == 2 * BUCKET


@pytest.mark.parametrize(
    ("parameters", "devices", "strategy", "words"),
    [
        (GB, 1, "single", "there is one device, and it fits: 16 GB of 73.6 GB usable"),
        (10 * GB, 1, "single", "though it does not fit: 160 GB of 73.6 GB usable"),
        (GB, 8, "ddp", "the whole model fits each device: 16 GB of 73.6 GB usable"),
        (10 * GB, 8, "fsdp", "ddp would take 160 GB on each device of 73.6 GB usable, fsdp"),
        (100 * GB, 8, "fsdp", "neither fits"),
    ],
)
def test_auto_takes_the_simplest_that_fits_and_says_why(
    parameters: int, devices: int, strategy: str, words: str
) -> None:
    chosen, reason = choose(model(parameters), 80 * GB, devices)
    assert chosen == strategy
    assert words in reason


def test_a_device_is_never_planned_full() -> None:
    footprint = ddp(model(GB), 2)
    assert footprint.fits(round(footprint.total / USABLE) + 1)
    assert not footprint.fits(footprint.total)
