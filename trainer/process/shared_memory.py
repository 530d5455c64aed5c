"""Memory that processes share: /dev/shm, which containers have little of. Standard library only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from trainer.process.format import size

PLACE = Path("/dev/shm")
LITTLE = 1 << 16  # bytes free in one that is full
SMALL = 128 << 20  # bytes in all of one that was never meant for training: containers have 64 MB
# how libraries say that it is full, as the system's error is lost on the way
SAID = ("shared memory", "bus error", "/dev/shm")


def is_full() -> bool:
    return PLACE.is_dir() and shutil.disk_usage(PLACE).free < LITTLE


def is_small() -> bool:
    return PLACE.is_dir() and shutil.disk_usage(PLACE).total <= SMALL


def is_meant(text: str) -> bool:
    """Whether an error tells of it."""
    return any(words in text.lower() for words in SAID)


def told() -> str:
    """What is wrong, and what to do."""
    of = f" ({size(shutil.disk_usage(PLACE).total)})" if PLACE.is_dir() else ""
    more = "give the container more, as by docker run --shm-size=8g" if is_small() else "see what fills it"
    own = f"; `ls -l {PLACE}` shows it" if os.access(PLACE, os.R_OK) else ""
    return f"shared memory, {PLACE}{of}, is full: {more}{own}, or lower a loader's num_workers"
