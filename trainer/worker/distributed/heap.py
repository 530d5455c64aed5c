"""What the C library does with memory that is freed, where tensors live in it: on CPUs."""

from __future__ import annotations

import ctypes

# of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 1 << 30  # bytes free at the heap's end that are not given back
OWN_MAPPING = 32 << 20  # bytes from which an allocation is a mapping of its own: the most that glibc allows


def keep_freed_memory() -> None:
    """Keeps what a step frees for the next one. By default glibc gives the heap's end back as soon as some megabytes
    are free there, and each step pays for the same pages again. Does nothing under another C library."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_MMAP_THRESHOLD, OWN_MAPPING)
