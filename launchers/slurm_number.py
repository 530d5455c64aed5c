"""Says on S3 which batch job has a job: `python -m launchers.slurm_number URL NUMBER`, for those who follow it."""

from __future__ import annotations

import json
import sys
import time

from trainer.storage.objects import S3

if __name__ == "__main__":
    url, number = sys.argv[1:]
    S3(url).write("slurm.json", json.dumps({"id": number, "time": time.time()}).encode())
