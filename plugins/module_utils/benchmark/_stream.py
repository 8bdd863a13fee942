# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request for text, answered token by token."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._figures import (
    BUSY,
    FAILED,
    Sent,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._fields import is_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, ApiError, shown

# One token with what the last line of an answer tells besides; its list of numbers grows with the prompt.
MAX_LINE_BYTES = 4 * 1024 * 1024
# All lines of an answer of tens of thousands of tokens, some 200 bytes each.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
_READ_BYTES = 64 * 1024
_QUEUE_FULL = 503
_NANOSECONDS = 1e9


class Open:
    """The connections in use, so that they can all be cut at once; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: set[http.client.HTTPConnection] = set()
        self._is_cut = False

    def add(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._connections.add(connection)
        if self._is_cut:
            self.cut()

    def remove(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._connections.discard(connection)
        connection.close()

    def cut(self) -> None:
        """End all requests; Ollama stops generating for a client that is gone."""
        with self._lock:
            self._is_cut = True
            for connection in self._connections:
                with suppress(OSError):
                    if connection.sock is not None:
                        connection.sock.shutdown(socket.SHUT_RDWR)


@dataclass
class _Answer:
    first_token_s: float | None = None
    tokens: int = 0
    is_whole: bool = False
    end: Mapping[str, Any] | None = None
    error: str = ""


def ask(api: Api, request: Mapping[str, Any], timeout_s: float, open_connections: Open) -> Sent:
    """Send one request to /api/generate and read the whole answer; what goes wrong is part of the result."""
    started = time.monotonic()
    answer = _Answer()
    status = 0
    connection: http.client.HTTPConnection | None = None
    try:
        connection, base = api.connection(timeout_s, MAX_ANSWER_BYTES)
        connection.connect()
        open_connections.add(connection)
        body = json.dumps({**request, "stream": True}).encode()
        connection.request(
            "POST", f"{base}/api/generate", body=body, headers={"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        status = response.status
        if status == http.client.OK:
            _read(response, answer)
        else:
            answer.error = f"HTTP {status}: {shown(response.read(MAX_LINE_BYTES).decode('utf-8', 'replace'))}"
    except (TimeoutError, socket.timeout):  # the same from Python 3.10 on
        answer.error = f"no whole answer within {timeout_s:g} s"
    except ApiError as error:
        answer.error = str(error)
    except (OSError, http.client.HTTPException, ValueError) as error:
        answer.error = f"the answer broke off ({type(error).__name__}: {error})"
    finally:
        if connection is not None:
            open_connections.remove(connection)
    sent = Sent(started, time.monotonic(), first_token_s=answer.first_token_s)
    if status == _QUEUE_FULL:
        return replace(sent, outcome=BUSY, error=answer.error)
    if answer.error:
        return replace(sent, outcome=FAILED, error=answer.error)
    if answer.end is not None:
        return _counted(sent, answer.end)
    if not answer.is_whole or not answer.tokens:
        return replace(sent, outcome=FAILED, error="the answer ended before it was whole")
    # Ollama ends an answer after more than 30 equal tokens, without a last line and its counts.
    # Source: Ollama v0.33.0-rc2 llm/llama_server.go (tokenRepeat).
    return replace(sent, output_tokens=answer.tokens, cut_short=True)


def _read(response: http.client.HTTPResponse, answer: _Answer) -> None:
    pending = bytearray()
    while answer.end is None and not answer.error:
        # Not readline(), which takes a chunked answer that broke off for one that has ended.
        part = response.read1(_READ_BYTES)
        if not part:
            answer.is_whole = response.chunked and not pending
            return
        pending += part
        if b"\n" in part:
            *lines, rest = pending.split(b"\n")
            pending = bytearray(rest)
            for line in lines:
                _take(bytes(line), answer)
        if len(pending) > MAX_LINE_BYTES:
            raise ValueError(f"a line is longer than {MAX_LINE_BYTES} bytes")


def _take(line: bytes, answer: _Answer) -> None:
    try:
        part = json.loads(line)
    except RecursionError as error:
        raise ValueError("a line is nested too deep") from error
    if not isinstance(part, dict):
        raise ValueError("a line is no JSON mapping")
    if "error" in part:
        answer.error = shown(part["error"])
    elif part.get("response") or part.get("thinking"):
        answer.tokens += 1  # a line is one token
        if answer.first_token_s is None:
            answer.first_token_s = time.monotonic()
    if part.get("done"):
        answer.end = part


def _counted(sent: Sent, end: Mapping[str, Any]) -> Sent:
    return replace(
        sent,
        prompt_tokens=_count(end, "prompt_eval_count"),
        prompt_s=_count(end, "prompt_eval_duration") / _NANOSECONDS,
        output_tokens=_count(end, "eval_count"),
        output_s=_count(end, "eval_duration") / _NANOSECONDS,
    )


def _count(end: Mapping[str, Any], key: str) -> int:
    value = end.get(key, 0)
    return value if is_number(value) else 0
