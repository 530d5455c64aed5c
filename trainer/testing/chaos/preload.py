"""A library that a drill's processes load before all others: their wall clock, and how long their disk takes, are the drill's.

What it holds is read anew at each call from a file that all of them have mapped: two numbers, seconds by which the wall
clock is ahead, and milliseconds that a write to a file and an fsync take longer. Built by the C compiler of this machine.
"""

from __future__ import annotations

import mmap
import shutil
import subprocess
from pathlib import Path

VARIABLE = "HEADWAY_CHAOS_PRELOAD"  # in the environment: the file
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))

static const volatile long *said; /* seconds ahead, milliseconds slower */

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("HEADWAY_CHAOS_PRELOAD");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(0, 2 * sizeof *said, PROT_READ, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) said = at;
    close(fd);
}

static void wait_for_disk(void) {
    long left = said ? said[1] : 0;
    struct timespec pause = {left / 1000, left % 1000 * 1000000};
    if (left > 0) nanosleep(&pause, 0);
}

int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = REAL(int (*)(clockid_t, struct timespec *), "clock_gettime");
    int wrong = real(which, now);
    if (!wrong && said && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += said[0];
    return wrong;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = REAL(int (*)(int), "fsync");
    wait_for_disk();
    return real(fd);
}

ssize_t write(int fd, const void *from, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    struct stat about;
    if (!real) real = REAL(ssize_t (*)(int, const void *, size_t), "write");
    if (said && said[1] > 0 && !fstat(fd, &about) && S_ISREG(about.st_mode)) wait_for_disk();
    return real(fd, from, size);
}
"""


class Preload:
    """The library, built in `folder`, and what it holds. Raises OSError where there is no compiler, or it can't build it."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise OSError("there is no C compiler (cc)")
        self._library, self._file = folder / "preload.so", folder / "preload"
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(self._library), "-x", "c", "-", "-ldl"]
        built = subprocess.run(command, input=SOURCE, capture_output=True, text=True, check=False)
        if built.returncode:
            raise OSError(f"{compiler} can't build it: {(built.stderr.strip().splitlines() or [''])[0]}")
        self._file.write_bytes(bytes(16))
        with open(self._file, "r+b") as file:
            self._said = memoryview(mmap.mmap(file.fileno(), 16)).cast("q")

    def environment(self) -> dict[str, str]:
        """Of the processes that are to load it."""
        return {"LD_PRELOAD": str(self._library), VARIABLE: str(self._file)}

    def set_clock(self, ahead: int) -> None:
        """From now on their wall clock is so many seconds ahead of this machine's, or behind."""
        self._said[0] = ahead

    def slow_disk(self, milliseconds: int) -> None:
        """From now on a write to a file, and an fsync, take so much longer."""
        self._said[1] = milliseconds
