"""Keeps nothing, and starts a process of its own that must not outlive it."""

import subprocess
import sys
import time

child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
for step in range(1, 10_000):
    print("step={} loss={:.4f}".format(step, 1.0 / step), flush=True)
    time.sleep(0.1)
