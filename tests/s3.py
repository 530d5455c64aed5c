"""A server that speaks S3, in the process of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from trainer.process.environment import variables
from trainer.storage import dialect, probe
from trainer.testing.chaos.s3 import Server


@contextmanager
def served(**settings: int) -> Iterator[Server]:
    """With a bucket, called bucket; meanwhile this process's environment leads there. settings: the server's."""
    with Server("bucket", **settings) as server, variables(server.environment()), pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialect, "_dialects", {})  # of another server, which had its port before
        patch.setattr(probe, "_tried", set())
        yield server
