# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A forward proxy to this machine: whatever name it is asked for, it connects to 127.0.0.1, and to CONNECT's port.

Tests of a real one, Debian's tinyproxy, are in tests/systemd/test_pull.py.
"""

from __future__ import annotations

import base64
import http.client
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

TIMEOUT_S = 10


class ForwardProxy(ThreadingHTTPServer):
    """One proxy. login: `user:password`, empty for none. asked: each request's line. status: what it answers to all, if any."""

    daemon_threads = True

    def __init__(self, login: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.login = login
        self.asked: list[str] = []
        self.status = 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{self.login}{'@' if self.login else ''}127.0.0.1:{self.server_address[1]}"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """Answers one client."""

    server: ForwardProxy

    def do_CONNECT(self) -> None:
        if self._refuses():
            return
        with socket.create_connection(("127.0.0.1", int(self.path.rpartition(":")[2])), TIMEOUT_S) as other:
            self.send_response(200)
            self.end_headers()
            pair = {self.connection: other, other: self.connection}
            while True:
                for one in select.select(list(pair), [], [], TIMEOUT_S)[0]:
                    content = one.recv(65536)
                    if not content:
                        return
                    pair[one].sendall(content)

    def do_GET(self) -> None:
        if self._refuses():
            return
        place = urlsplit(self.path)
        connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=TIMEOUT_S)
        headers = {name: value for name, value in self.headers.items() if not name.startswith("Proxy-")}
        connection.request("GET", f"{place.path}?{place.query}".rstrip("?"), headers=headers)
        reply = connection.getresponse()
        content = reply.read()
        self.send_response(reply.status)
        for name, value in reply.getheaders():
            if name in ("Location", "Content-Range", "Content-Length"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _refuses(self) -> bool:
        self.server.asked.append(self.requestline)
        wanted = f"Basic {base64.b64encode(self.server.login.encode()).decode()}" if self.server.login else None
        is_in = self.headers.get("Proxy-Authorization") == wanted
        status = self.server.status or (0 if is_in else 407)
        if status:
            self.send_error(status)
        return bool(status)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
