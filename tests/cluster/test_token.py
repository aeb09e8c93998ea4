"""The token of a Ray cluster is shown to the address that the user gave, and not to where that sends the request on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

TOKEN = "t0k3n-of-the-cluster"
SUBMIT = """
import sys
from vi_dist.cli.main import main
sys.argv = ["vi-dist", "status", "--address", sys.argv[1]]
main()
"""


class Recorder(ThreadingHTTPServer):
    """Keeps the headers that it is shown, and sends every request on, if it knows where to."""

    daemon_threads = True

    def __init__(self, onwards: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Recording)
        self.onwards, self.seen = onwards, list[str]()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Recording(BaseHTTPRequestHandler):
    server: Recorder

    def do_GET(self) -> None:
        self.server.seen.append(str(self.headers))
        self.send_response(302 if self.server.onwards else 404)
        if self.server.onwards:
            self.send_header("Location", self.server.onwards + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


@pytest.fixture
def servers() -> Iterator[tuple[Recorder, Recorder]]:
    elsewhere = Recorder()
    given = Recorder(elsewhere.address.replace("127.0.0.1", "localhost"))
    yield given, elsewhere
    for server in (given, elsewhere):
        server.shutdown()
        server.server_close()


def test_a_token_is_not_sent_on(servers: tuple[Recorder, Recorder]) -> None:
    given, elsewhere = servers
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    command = [sys.executable, "-c", SUBMIT, given.address]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert any(TOKEN in headers for headers in given.seen)
    assert elsewhere.seen and not any(TOKEN in headers for headers in elsewhere.seen)
    assert TOKEN not in done.stdout + done.stderr
