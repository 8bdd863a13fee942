# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running Ollama server answers over HTTP, and how it is asked.

Source: ollama v0.33.0-rc2, api/types.go, server/routes.go.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._json import TooManyItems, read_json
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._socket import Connection, TooLong
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._fields import is_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import MAX_NAME_CHARACTERS
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._values import DEFAULT_PORT, address

DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"
DEFAULT_TIMEOUT_S = 10.0
_READ_BYTES = 256 * 1024
_MAX_SHOWN_CHARACTERS = 300

MAX_VERSION_CHARACTERS = 128
MAX_INSTALLED = 10_000
MAX_LOADED = 1024


@dataclass(frozen=True)
class AnswerLimit:
    """What an answer may hold: bytes, its headers among them, and items of JSON."""

    max_bytes: int
    max_items: int


# 10,000 installed models, some 430 bytes and 20 items each.
MOST = AnswerLimit(4 * 1024 * 1024, 250_000)
# A verbose answer lists the whole vocabulary: 6 MiB and 800,000 items were recorded for 262,144 tokens, and the merges
# of other tokenizers are twice as many texts again.
MOST_SHOWN = AnswerLimit(32 * 1024 * 1024, 3_000_000)


class ApiError(OSError):
    """The server does not answer, or not as Ollama does; the message names the request and what came back."""


def url_of_host(host: str) -> str:
    """The URL at which a client on the same machine reaches a server whose OLLAMA_HOST is `host`; empty is the default."""
    return address(host).client_url


def address_of(url: str) -> tuple[str | None, int | None]:
    """Host and port of a server's URL; None and None where it is no URL, whatever OLLAMA_HOST says."""
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port
    except ValueError:
        return None, None


@dataclass(frozen=True)
class Api:
    """A client for one server, without redirects and proxies.

    `timeout_s` bounds each request as a whole, from the connection to the last byte of the answer. `refused`: why this
    server is not asked, in one sentence; every request ends with it.
    """

    url: str = DEFAULT_URL
    timeout_s: float = DEFAULT_TIMEOUT_S
    refused: str = ""

    def version(self) -> str:
        """The server's version, such as '0.33.0'.

        Raises: ApiError.
        """
        version = self._ask("GET", "/api/version").get("version")
        if not isinstance(version, str) or not version:
            raise ApiError(f"{self._shown}/api/version answers without a version: this is no Ollama server")
        if len(version) > MAX_VERSION_CHARACTERS:
            raise ApiError(
                f"{self._shown}/api/version answers with a version of {len(version)} characters, at most "
                f"{MAX_VERSION_CHARACTERS} are taken: this is no Ollama server"
            )
        return version

    def tags(self) -> list[dict[str, Any]]:
        """The installed models, as /api/tags lists them.

        Raises: ApiError.
        """
        return self._models("/api/tags", MAX_INSTALLED)

    def loaded(self) -> list[dict[str, Any]]:
        """The loaded models, as /api/ps lists them; None for a value that is not of its kind.

        Raises: ApiError.
        """
        return [_loaded(model) for model in self._models("/api/ps", MAX_LOADED)]

    def show(self, model: str, *, verbose: bool = False) -> dict[str, Any]:
        """What /api/show tells of a model; verbose with whole arrays.

        Raises: ApiError.
        """
        return self._ask("POST", "/api/show", {"model": model, "verbose": verbose}, MOST_SHOWN)

    def load(self, model: str, *, embedding: bool = False, **request: Any) -> dict[str, Any]:
        """Load a model without a prompt; `request` may hold keep_alive and options.

        Raises: ApiError.
        """
        if embedding:
            return self._ask("POST", "/api/embed", {"model": model, "input": [], **request})
        return self._ask("POST", "/api/generate", {"model": model, "stream": False, **request})

    def delete(self, model: str) -> None:
        """Remove an installed model.

        Raises: ApiError.
        """
        self._done("DELETE", "/api/delete", {"model": model})

    def has_blob(self, digest: str) -> bool:
        """Whether the server's store holds a file; `digest` is `sha256:` and 64 hex digits.

        Raises: ApiError.
        """
        path = f"/api/blobs/{digest}"
        try:
            status, _content = self._exchange("HEAD", path, None, MOST.max_bytes)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(f"HEAD {self._shown}{path} failed: {_reason(error)}") from error
        return status == http.client.OK

    def put_blob(self, digest: str, file: BinaryIO, size_bytes: int) -> None:
        """Give the server a file for its store, within the client's time.

        Raises: ApiError.
        """
        self._done("POST", f"/api/blobs/{digest}", file, {"Content-Length": str(size_bytes)})

    @property
    def _shown(self) -> str:
        return shown(self.url)

    def _models(self, path: str, most: int) -> list[dict[str, Any]]:
        models = self._ask("GET", path).get("models")
        if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
            raise ApiError(f"{self._shown}{path} answers without a list of models: this is no Ollama server")
        if len(models) > most:
            raise ApiError(f"{self._shown}{path} lists {len(models)} models, at most {most} are read")
        for model in models:
            name = model.get("name")
            if not isinstance(name, str) or len(name) > MAX_NAME_CHARACTERS:
                raise ApiError(
                    f"{self._shown}{path} lists a model that is called {shown(name, 60)}, expected a text of at most "
                    f"{MAX_NAME_CHARACTERS} characters: this is no Ollama server"
                )
        return models

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, limit: AnswerLimit = MOST
    ) -> dict[str, Any]:
        what = f"{method} {self._shown}{path}"
        try:
            status, content = self._exchange(method, path, body, limit.max_bytes)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(f"{what} failed: {_reason(error)}") from error
        try:
            reply = read_json(content, limit.max_items)
        except TooManyItems as error:
            raise ApiError(f"{what} is answered with more than is read: {error}") from error
        except ValueError:
            reply = None
        if status != 200:
            message = reply.get("error") if isinstance(reply, dict) else None
            raise ApiError(f"{what} answers {status}: {shown(message or content.decode('utf-8', 'replace'))}")
        if not isinstance(reply, dict):
            raise ApiError(f"{what} answers with something that is no JSON mapping: this is no Ollama server")
        if "error" in reply:
            raise ApiError(f"{what} answers: {shown(reply['error'])}")
        return reply

    def _done(
        self, method: str, path: str, body: Mapping[str, Any] | BinaryIO, headers: Mapping[str, str] | None = None
    ) -> None:
        """A request that is answered without a word where it succeeds. Raises: ApiError."""
        what = f"{method} {self._shown}{path}"
        try:
            status, content = self._exchange(method, path, body, MOST.max_bytes, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(f"{what} failed: {_reason(error)}") from error
        if status not in (http.client.OK, http.client.CREATED):
            try:
                message = read_json(content, MOST.max_items)["error"]
            except (ValueError, LookupError, TypeError):
                message = content.decode("utf-8", "replace")
            raise ApiError(f"{what} answers {status}: {shown(message)}")

    def _exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | BinaryIO | None,
        max_bytes: int,
        more_headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        connection, base = self.connection(self.timeout_s, max_bytes)
        connection.blocksize = _READ_BYTES
        content = json.dumps(body).encode() if isinstance(body, Mapping) else body
        headers = {"Accept": "application/json", "Content-Type": "application/json", **(more_headers or {})}
        try:
            connection.request(method, base + path, body=content, headers=headers)
            response = connection.getresponse()
            chunks: list[bytes] = []
            # A piece at a time: Python makes room at once for all that a length in the headers promises.
            while True:
                chunk = response.read1(_READ_BYTES)
                if not chunk:
                    return response.status, b"".join(chunks)
                chunks.append(chunk)
        finally:
            connection.close()

    def connection(self, timeout_s: float, max_bytes: int) -> tuple[Connection, str]:
        """A connection that is not open yet, for one exchange, and the path before every request's own.

        The whole exchange may take `timeout_s`, counted from now, and its answer `max_bytes`.
        Raises: ApiError when the URL is none of a server, or the server is not to be asked.
        """
        if self.refused:
            raise ApiError(self.refused)
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
            if parts.scheme not in ("http", "https") or not host:
                raise ApiError(f"{self._shown} is no URL of a server; expected one like {DEFAULT_URL}")
            connection = Connection(host, port, parts.scheme == "https", timeout_s, max_bytes)
        except (ValueError, http.client.HTTPException) as error:
            raise ApiError(f"{self._shown} is no URL ({error}); expected one like {DEFAULT_URL}") from error
        return connection, parts.path.rstrip("/")


def _loaded(model: Mapping[str, Any]) -> dict[str, Any]:
    texts = {key: model.get(key) for key in ("digest", "expires_at")}
    numbers = {key: model.get(key) for key in ("size", "size_vram", "context_length")}
    return {
        "name": model["name"],
        **{key: one if _is_short(one) else None for key, one in texts.items()},
        **{key: one if is_number(one) else None for key, one in numbers.items()},
    }


def _is_short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_VERSION_CHARACTERS


def _reason(error: BaseException) -> str:
    if isinstance(error, (ApiError, TooLong)):
        return str(error)
    if isinstance(error, TimeoutError):
        return str(error) if "seconds" in str(error) else "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}".strip(": ")


def shown(text: Any, most: int = _MAX_SHOWN_CHARACTERS) -> str:
    """Text out of a reply, short enough for a message."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[:most]}..."
