"""A server that is killed and comes back."""

from __future__ import annotations

import http.client

import pytest

from trainer.testing.chaos.s3 import ACCESS_KEY, Server

SIGNED = {"Authorization": f"Credential={ACCESS_KEY}/"}


def ask(s3: Server, method: str, path: str, body: bytes | None = None) -> bytes:
    connection = http.client.HTTPConnection(s3.url.removeprefix("http://"), timeout=10)
    connection.request(method, path, body, SIGNED)
    return connection.getresponse().read()


def test_a_server_that_is_killed_answers_nobody_and_comes_back_at_its_address_with_what_it_stored() -> None:
    with Server("bucket") as s3:
        ask(s3, "PUT", "/bucket/key", b"content")
        kept = http.client.HTTPConnection(s3.url.removeprefix("http://"), timeout=10)
        kept.putrequest("PUT", "/bucket/half")
        kept.putheader("Content-Length", "100")
        kept.putheader("Authorization", SIGNED["Authorization"])
        kept.endheaders(b"x" * 50)  # an upload that is under way
        with s3.killed():
            with pytest.raises((OSError, http.client.HTTPException)):
                kept.getresponse()
            with pytest.raises(OSError, match="refused"):
                ask(s3, "GET", "/bucket/key")
        assert ask(s3, "GET", "/bucket/key") == b"content"
        assert set(s3.stored("bucket")) == {"key"}
