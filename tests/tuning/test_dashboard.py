"""`optuna-dashboard` opens a study's storage."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.studies import DEPTH, LR, ask_and_tell, asker, space_of, study_in

pytest.importorskip("optuna_dashboard")
pytestmark = pytest.mark.slow


def answered(url: str, within: float = 60.0) -> Any:
    end = time.monotonic() + within
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_the_dashboard_shows_a_studys_trials(tmp_path: Path, free_port: int) -> None:
    space = space_of(LR, DEPTH)
    with study_in(tmp_path / "s", space) as study:
        points = ask_and_tell(study, asker(study, space), 5, lambda values: values["algorithm.lr"])
    command = [Path(sys.executable).with_name("optuna-dashboard"), "--port", str(free_port), "--host", "127.0.0.1"]
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen([*command, str(tmp_path / "s" / "study.journal")], stdout=log, stderr=log)
    try:
        studies = answered(f"http://127.0.0.1:{free_port}/api/studies")["study_summaries"]
        assert [found["study_name"] for found in studies] == ["study"]
        told = answered(f"http://127.0.0.1:{free_port}/api/studies/{studies[0]['study_id']}?after=0")
        assert [trial["values"] for trial in told["trials"]] == [[point["algorithm.lr"]] for point in points]
    finally:
        server.kill()
        server.wait()
