# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that answers with recorded replies, or with whatever a test wants."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ansible_collections.gpufleet.ollama.tests.unit.data import CAPTURES

BASE = CAPTURES / "base"


def recorded(name):
    """Status and body of a recorded reply."""
    meta = json.loads((BASE / f"{name}.meta.json").read_text())
    path = BASE / meta["body_file"]
    if path.exists():
        return meta["status"], path.read_bytes()
    return meta["status"], gzip.decompress(path.with_name(path.name + ".gz").read_bytes())


class ReplyServer:
    """Answers each path from `replies`: (status, body), or a function of the request's body that gives it."""

    def __init__(self):
        self.replies = {}
        self.asked = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                outer.asked.append((self.command, self.path, body))
                reply = outer.replies.get(self.path, (404, b"404 page not found"))
                status, content = reply(body) if callable(reply) else reply
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer

            def log_message(self, *_arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server():
    reply_server = ReplyServer()
    yield reply_server
    reply_server.close()


@pytest.fixture
def ollama(server):
    """The recorded Ollama server, with two tags on one model."""
    server.replies = {
        "/api/version": recorded("version"),
        "/api/tags": recorded("tags2"),
        "/api/ps": recorded("ps"),
        "/api/show": lambda body: recorded("show_g-ctx8k" if body["model"].startswith("g-ctx8k") else "show"),
    }
    return server


@pytest.fixture
def recording():
    """Looks a recorded reply up: status and body."""
    return recorded
