# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A front before a registry that answers blobs with a redirect, as Ollama expects it, and makes faults on the way.

    python3 front.py PORT [BACKEND_PORT] [FAULTS.json] [CERTIFICATE_AND_KEY.pem]

Without a backend it keeps what is pushed to it, as far as a push and a pull ask for it. The faults are read anew at each
request: `{"cut_after": BYTES, "cuts": TIMES}` closes the connection, `{"stall_after": BYTES, "stall_seconds": S}`,
`{"rate": BYTES_PER_SECOND}`, `{"wrong": true, "wrong_from": BYTES}` another file of the same length, `{"blob_status": 403}`,
`{"manifest_status": 500}`, `{"half_manifest": true}`, `{"short_range": true}`, `{"no_ranges": true}`, `{"no_redirect": true}`,
`{"redirect": URL}`, `{"challenge": HEADER}` beside a status of 401. Standard library, Python 3.9.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

DIRECT = "/direct"
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)")
_BLOCK = 64 * 1024


class Front(ThreadingHTTPServer):
    """One front. kept: what was pushed to it, by path. asked: each request's method, path and range."""

    daemon_threads = True

    def __init__(self, port: int, backend: int = 0, faults: Path | None = None, address: str = "127.0.0.1") -> None:
        super().__init__((address, port), Handler)
        self.backend = backend
        self.kept: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.cuts = 0
        self.given: dict[str, Any] = {}
        self.scheme = "http"
        self._faults = faults

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def faults(self) -> Mapping[str, Any]:
        if self._faults is not None and self._faults.exists():
            return dict(json.loads(self._faults.read_text()))
        return self.given

    def start(self) -> Front:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def speak_tls(self, certificate: Path) -> None:
        """certificate: a file with its key too."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "https"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def fetch(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Any:
        """What the registry behind answers: status, headers, body."""
        if not self.backend:
            return self._own(method, path, body)
        connection = http.client.HTTPConnection("127.0.0.1", self.backend, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            connection.close()

    def _own(self, method: str, path: str, body: bytes | None) -> Any:
        place = urlsplit(path)
        if method == "POST":
            return 202, {"Location": f"{place.path}1"}, b""
        if method == "PUT":
            given = parse_qs(place.query).get("digest")
            self.kept[f"{place.path.partition('uploads/')[0]}{given[0]}" if given else path] = body or b""
            return 201, {}, b""
        if path not in self.kept:
            return 404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
        return 200, {}, self.kept[path]


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: Front

    def do_GET(self) -> None:
        faults, asked = self.server.faults, self.headers.get("Range", "")
        self.server.asked.append((self.command, self.path, asked))
        if self.path.startswith(DIRECT):
            self._direct(faults, asked)
        elif "/blobs/" in self.path and self.command == "GET" and not faults.get("no_redirect"):
            # Another host than the one that was asked, where it is one of this machine.
            asked_as = self.headers.get("Host", "localhost").replace("localhost", "127.0.0.1")
            place = faults.get("redirect", f"{self.server.scheme}://{asked_as}{DIRECT}{self.path}")
            self._answer(307, {"Location": place})
        else:
            status, headers, body = self.server.fetch("GET", self.path, {"Accept": self.headers.get("Accept", "*/*")}, None)
            if "/manifests/" in self.path:
                status = int(faults.get("manifest_status", status))
                if faults.get("half_manifest"):
                    self._answer(status, {}, body, length=len(body), sent=len(body) // 2)
                    return
            shown = {name: headers[name] for name in headers if name == "Docker-Content-Digest"}
            challenge = {"WWW-Authenticate": faults["challenge"]} if "challenge" in faults else {}
            self._answer(status, {**shown, **challenge}, body)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {"Content-Type": self.headers.get("Content-Type", "application/octet-stream")}
        status, answered, content = self.server.fetch(self.command, self.path, headers, body)
        self._answer(status, {name: answered[name] for name in answered if name == "Location"}, content)

    do_POST = do_PUT
    do_PATCH = do_PUT

    def _direct(self, faults: Mapping[str, Any], asked: str) -> None:
        """A blob, or a part of it, from where the registry redirects to."""
        if "blob_status" in faults:
            self._answer(int(faults["blob_status"]), {}, b"secret words of another server")
            return
        status, _headers, body = self.server.fetch("GET", self.path[len(DIRECT) :], {}, None)
        if faults.get("wrong") and len(body) >= int(faults.get("wrong_from", 0)):
            body = bytes(len(body))
        found = _RANGE.fullmatch(asked)
        if status != 200 or found is None or faults.get("no_ranges"):
            self._answer(status, {}, body)
            return
        first, last = int(found[1]), min(int(found[2] or len(body)), len(body) - 1)
        part = body[first : last + 1]
        headers = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
        if faults.get("short_range"):
            part = part[: len(part) // 2]
        sent = len(part)
        if "cut_after" in faults and self.server.cuts < int(faults.get("cuts", 1)) and len(part) > faults["cut_after"]:
            self.server.cuts += 1
            sent = int(faults["cut_after"])
        self._answer(206, headers, part, length=len(part), sent=sent, faults=faults)

    def _answer(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        length: int | None = None,
        sent: int | None = None,
        faults: Mapping[str, Any] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "HEAD":
            return
        given = faults or {}
        body = body if sent is None else body[:sent]
        rate = given.get("rate")
        size = min(_BLOCK, max(rate // 20, 1)) if rate else _BLOCK
        for start in range(0, len(body), size):
            if start >= given.get("stall_after", len(body)):
                time.sleep(given.get("stall_seconds", 0))
            block = body[start : start + size]
            try:
                self.wfile.write(block)
            except OSError:
                break
            if rate:
                time.sleep(len(block) / rate)
        if sent is not None and length is not None and sent < length:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


if __name__ == "__main__":
    given = sys.argv[1:]
    own = Front(int(given[0]), int(given[1]) if len(given) > 1 else 0, Path(given[2]) if len(given) > 2 else None)
    if len(given) > 3:
        own.speak_tls(Path(given[3]))
    own.serve_forever()
