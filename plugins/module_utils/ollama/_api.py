# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a running Ollama server over HTTP. Source: ollama v0.33.0-rc2, api/types.go, server/routes.go."""

from __future__ import annotations

import http.client
import ipaddress
import json
import time
from dataclasses import dataclass
from typing import Any, Mapping
from urllib.parse import urlsplit

DEFAULT_PORT = 11434
DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"
DEFAULT_TIMEOUT_S = 10.0
# A verbose reply lists the whole vocabulary: some 10 MiB for 262,144 tokens with scores and types.
MAX_REPLY_BYTES = 64 * 1024 * 1024
_READ_BYTES = 256 * 1024
_MAX_SHOWN_CHARACTERS = 300


class ApiError(OSError):
    """The server does not answer, or not as Ollama does; the message names the request and what came back."""


def url_of_host(host: str) -> str:
    """The URL at which a client reaches a server whose OLLAMA_HOST is `host`; empty is the default.

    Source: ollama v0.33.0-rc2, envconfig/config.go, Host and ConnectableHost.
    """
    text = host.strip().strip("\"'").strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    # Ollama takes no credentials, and the URL stands in facts and messages.
    rest = rest.rpartition("@")[2]
    default_port = {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT) if separator else DEFAULT_PORT
    address, _slash, path = rest.partition("/")
    name, port = _host_and_port(address, default_port)
    path = "/" + path.strip("/") if path.strip("/") else ""
    return f"{scheme}://{name}:{port}{path}"


def _host_and_port(address: str, default_port: int) -> tuple[str, int]:
    name, colon, port_text = address.rpartition(":")
    bare = address.strip("[]")
    if not colon or _ip(bare) is not None:
        name, port_text = bare or "127.0.0.1", str(default_port)
    name = name.strip("[]")
    ip = _ip(name)
    if not name or (ip is not None and ip.is_unspecified):
        name = "::1" if ip is not None and ip.version == 6 else "127.0.0.1"
    port = int(port_text) if port_text.isdigit() and int(port_text) <= 65535 else default_port
    return (f"[{name}]" if ":" in name else name), port


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


@dataclass(frozen=True)
class Api:
    """A client for one server, without redirects and proxies; `timeout_s` bounds each request."""

    url: str = DEFAULT_URL
    timeout_s: float = DEFAULT_TIMEOUT_S

    def version(self) -> str:
        """The server's version, such as '0.33.0'.

        Raises: ApiError.
        """
        version = self._ask("GET", "/api/version").get("version")
        if not isinstance(version, str) or not version:
            raise ApiError(f"{self.url}/api/version answers without a version: this is no Ollama server")
        return version

    def tags(self) -> list[dict[str, Any]]:
        """The installed models, as /api/tags lists them.

        Raises: ApiError.
        """
        return self._models("/api/tags")

    def loaded(self) -> list[dict[str, Any]]:
        """The loaded models, as /api/ps lists them.

        Raises: ApiError.
        """
        return self._models("/api/ps")

    def show(self, model: str, *, verbose: bool = False) -> dict[str, Any]:
        """What /api/show tells of a model; verbose with whole arrays.

        Raises: ApiError.
        """
        return self._ask("POST", "/api/show", {"model": model, "verbose": verbose})

    def load(self, model: str, *, embedding: bool = False, **request: Any) -> dict[str, Any]:
        """Load a model without a prompt; `request` may hold keep_alive and options.

        Raises: ApiError.
        """
        if embedding:
            return self._ask("POST", "/api/embed", {"model": model, "input": [], **request})
        return self._ask("POST", "/api/generate", {"model": model, "stream": False, **request})

    def unload(self, model: str, *, embedding: bool = False) -> dict[str, Any]:
        """Unload a model.

        Raises: ApiError.
        """
        return self.load(model, embedding=embedding, keep_alive=0)

    def _models(self, path: str) -> list[dict[str, Any]]:
        models = self._ask("GET", path).get("models")
        if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
            raise ApiError(f"{self.url}{path} answers without a list of models: this is no Ollama server")
        return models

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        what = f"{method} {self.url}{path}"
        try:
            status, content = self._exchange(method, path, body)
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{what} failed: {_reason(error)}") from error
        try:
            reply = json.loads(content)
        except (ValueError, RecursionError):
            reply = None
        if status != 200:
            message = reply.get("error") if isinstance(reply, dict) else None
            raise ApiError(f"{what} answers {status}: {shown(message or content.decode('utf-8', 'replace'))}")
        if not isinstance(reply, dict):
            raise ApiError(f"{what} answers with something that is no JSON mapping: this is no Ollama server")
        if "error" in reply:
            raise ApiError(f"{what} answers: {shown(reply['error'])}")
        return reply

    def _exchange(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        deadline = time.monotonic() + self.timeout_s
        connection, base = self.connection()
        content = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        try:
            connection.request(method, base + path, body=content, headers=headers)
            response = connection.getresponse()
            chunks: list[bytes] = []
            size = 0
            while True:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError(f"no whole answer within {self.timeout_s:g} seconds")
                if connection.sock is not None:
                    connection.sock.settimeout(left_s)
                chunk = response.read1(_READ_BYTES)
                if not chunk:
                    return response.status, b"".join(chunks)
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_REPLY_BYTES:
                    raise ApiError(f"the answer is longer than {MAX_REPLY_BYTES} bytes")
        finally:
            connection.close()

    def connection(self) -> tuple[http.client.HTTPConnection, str]:
        """A connection that is not open yet, and the path before every request's own.

        Raises: ApiError when the URL is none of a server.
        """
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ApiError(f"{self.url} is no URL ({error}); expected one like {DEFAULT_URL}") from error
        if parts.scheme not in ("http", "https") or not host:
            raise ApiError(f"{self.url} is no URL of a server; expected one like {DEFAULT_URL}")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(host, port, timeout=self.timeout_s), parts.path.rstrip("/")


def _reason(error: BaseException) -> str:
    if isinstance(error, ApiError):
        return str(error)
    if isinstance(error, TimeoutError):
        return str(error) if "seconds" in str(error) else "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}".strip(": ")


def shown(text: Any) -> str:
    """Text out of a reply, short enough for a message."""
    line = " ".join(str(text).split())
    return line if len(line) <= _MAX_SHOWN_CHARACTERS else f"{line[:_MAX_SHOWN_CHARACTERS]}..."
