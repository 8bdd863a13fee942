# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: one request for text, answered token by token."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Mapping

from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._figures import (
    BUSY,
    FAILED,
    Sent,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, shown

# One token with what the last line of an answer tells besides; its list of numbers grows with the prompt.
MAX_LINE_BYTES = 4 * 1024 * 1024
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
    connection, base = api.connection()
    answer = _Answer()
    status = 0
    try:
        connection.connect()
        open_connections.add(connection)
        body = json.dumps({**request, "stream": True}).encode()
        connection.request(
            "POST", f"{base}/api/generate", body=body, headers={"Content-Type": "application/json"}
        )
        _wait_no_longer(connection, started + timeout_s)
        response = connection.getresponse()
        status = response.status
        if status == http.client.OK:
            _read(response, connection, started + timeout_s, answer)
        else:
            answer.error = f"HTTP {status}: {shown(response.read(MAX_LINE_BYTES).decode('utf-8', 'replace'))}"
    except (TimeoutError, socket.timeout):  # the same from Python 3.10 on
        answer.error = f"no whole answer within {timeout_s:g} s"
    except (OSError, http.client.HTTPException, ValueError) as error:
        answer.error = f"the answer broke off ({type(error).__name__}: {error})"
    finally:
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


def _read(
    response: http.client.HTTPResponse,
    connection: http.client.HTTPConnection,
    deadline: float,
    answer: _Answer,
) -> None:
    pending = bytearray()
    while answer.end is None and not answer.error:
        _wait_no_longer(connection, deadline)
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
    part = json.loads(line)
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


def _wait_no_longer(connection: http.client.HTTPConnection, deadline: float) -> None:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    if connection.sock is not None:
        connection.sock.settimeout(left_s)


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
    return value if isinstance(value, int) and value > 0 else 0
