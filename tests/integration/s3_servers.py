"""Real servers that speak S3, as tests start them: moto's, and Ceph's gateway where it can be had."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.brought_up import SCRIPTS, brought_up
from trainer.testing.chaos.s3 import Server

SCRIPT = SCRIPTS / "s3-server"


@dataclass(frozen=True)
class Gateway:
    """Ceph's gateway, which can be killed and come back with all that it kept."""

    state: Path
    environment: Mapping[str, str]

    def kill(self) -> None:
        os.kill(int((self.state / "run/radosgw.pid").read_text()), signal.SIGKILL)

    def start(self) -> None:
        subprocess.run([SCRIPT, "gateway"], env={**os.environ, "STATE": str(self.state)}, check=True)


@contextmanager
def gateway(**settings: str) -> Iterator[Gateway]:
    """The test is skipped where none can be started. settings: as scripts/s3-server has them."""
    with brought_up("s3-server", "radosgw", "Ceph's gateway", "hw-s3-", **settings) as environment:
        told = subprocess.run([SCRIPT, "env"], env=environment, capture_output=True, text=True, check=True).stdout
        found = dict(re.findall(r"(\w+)=(\S+)", told))
        yield Gateway(Path(environment["STATE"]), {**Server.NOWHERE_ELSE, **found})


@contextmanager
def moto() -> Iterator[Mapping[str, str]]:
    """moto's server, in this process: what leads a client there. It has a bucket, called bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "moto", "AWS_SECRET_ACCESS_KEY": "moto", "AWS_DEFAULT_REGION": "us-east-1"}
    environment = {**Server.NOWHERE_ELSE, **keys, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            boto3.session.Session().client("s3").create_bucket(Bucket="bucket")
        yield environment
    finally:
        server.stop()
