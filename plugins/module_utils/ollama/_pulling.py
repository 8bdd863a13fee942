# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server says while it makes a model: the lines of /api/pull and /api/create, for a slice of time.

A pull that is given up by its client goes on where it was when it is asked for again, so that one that takes an hour is
asked for in slices, after each of which its progress can be told.

Source: ollama v0.33.0-rc2, server/download.go (blobDownload.Run, release), server/images.go (PullModel), and the
recorded streams in tests/data/captures/real_cpu/pull.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._json import read_json
from ansible_collections.gpufleet.ollama.plugins.module_utils.model._fields import is_number
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import Api, ApiError, shown
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._manifest import MAX_LAYERS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked_text

MAX_LINE_BYTES = 64 * 1024
# A line every 60 ms of some 200 bytes: two hours are 24 MB.
MAX_STREAM_BYTES = 64 * 1024 * 1024
# Ollama reads all that has come once more, at 200 MB/s and more, and says nothing meanwhile; cut short it would never be read.
CHECK_SECONDS = 3600.0
_CHECKING = ("verifying sha256 digest", "writing manifest", "removing unused layers")
_SUCCESS = "success"
_ITEMS_OF_A_LINE = 1000
_READ_BYTES = 64 * 1024
# A pull that was given up ends when its parts have: one that waits to try again does so first, for up to 32 s.
_GIVEN_UP = "context canceled"
_AGAIN_SECONDS = 1.0
# The part of a URL that may be a signature.
_QUERY = re.compile(r"\?[^\s\"']+")

# What Ollama says, and what is to be done; the first that fits.
_REMEDIES = (
    ("file does not exist", "the registry has no such model: look for a slip in its name and tag"),
    (
        "no space left on device",
        "the disk is full: make room and run it again",
    ),
    ("disk quota exceeded", "the quota of the service's user is used up: raise it, or make room, and run it again"),
    ("permission denied", "the service's user may not write there: make the folder its own (chown), or set OLLAMA_MODELS"),
    ("read-only file system", "the disk cannot be written: mount it anew, or set OLLAMA_MODELS to one that can"),
    (
        "failed to verify certificate",
        "the host does not trust the registry's certificate, or that of a proxy before it: give the host that of who signed it",
    ),
    ("proxyconnect", "the proxy of the service does not answer: look at HTTPS_PROXY and HTTP_PROXY of its unit"),
    ("Proxy Authentication Required", "the proxy of the service wants a login: put it into the proxy variable of its unit"),
    (
        "digest mismatch",
        "what came is another file than the manifest names and was thrown away: run it again, or repair the registry",
    ),
    (
        "does not look like a TLS handshake",
        "the registry speaks plain HTTP: allow it with insecure: true, or give the registry a certificate",
    ),
    (
        "no Location header",
        "this version of Ollama pulls only from a registry that answers blobs with a redirect: put such a front before it",
    ),
    ("newer version of Ollama", "update Ollama on the host"),
    ("realm host", "the registry wants a login that Ollama does not have: let the host in without one"),
    ("no such host", "the host cannot resolve the registry's name: look at the name and the host's DNS"),
)
# What another try may find mended; everything else a person has to.
_MENDABLE = re.compile(
    r"EOF|timeout|deadline exceeded|connection re(?:fused|set)|broken pipe|no route to host|unreachable"
    r"|max retries exceeded|context canceled|: 5[0-9][0-9]: |: 429: |TLS handshake timeout|server misbehaving"
)


class MakingError(Exception):
    """Ollama has said why the model is not made. `may_mend`: whether another try may find it mended."""

    def __init__(self, message: str, may_mend: bool) -> None:
        super().__init__(message)
        self.may_mend = may_mend


@dataclass
class Told:
    """What the lines of a stream have said. completed: bytes by digest, of those that were told. totals: likewise."""

    status: str = ""
    is_done: bool = False
    completed: dict[str, int] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)
    digest: str = ""

    @property
    def is_checking(self) -> bool:
        """Whether it must not be cut short."""
        return self.status in _CHECKING

    def take(self, line: Mapping[str, Any]) -> None:
        """Raises: MakingError where the line is an error."""
        if "error" in line:
            raise made_error(str(line["error"]))
        self.status = shown(line.get("status", ""), 120)
        self.is_done = self.status == _SUCCESS
        digest: Any = line.get("digest")
        total: Any = line.get("total")
        # Left out while it is 0.
        completed: Any = line.get("completed", 0)
        if isinstance(digest, str) and is_number(total) and is_number(completed):
            if digest[:80] not in self.totals and len(self.totals) >= MAX_LAYERS:
                return
            self.digest = digest[:80]
            self.totals[self.digest] = total
            self.completed[self.digest] = completed


def made_error(said: str) -> MakingError:
    """What Ollama has said, without what may be a secret, with what to do."""
    text = shown(_QUERY.sub("?...", masked_text(said)))
    remedy = next((remedy for sign, remedy in _REMEDIES if sign in said), "")
    return MakingError(f"Ollama says: {text}" + (f"; {remedy}" if remedy else ""), bool(_MENDABLE.search(said)))


def pull(
    api: Api, name: str, insecure: bool, seconds: float, on_line: Callable[[Told], None] = lambda _told: None
) -> Told:
    """Have a model pulled for so many seconds, or until it is there; given up and taken up again nothing is lost.

    The check of what has come is waited for, however long. on_line: is told of each line.
    Raises: MakingError; ApiError where the server does not answer, or as no Ollama does.
    """
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        try:
            return stream(api, "/api/pull", {"model": name, "insecure": insecure}, left, on_line)
        except MakingError as error:
            # The download that was given up before has not ended yet.
            if _GIVEN_UP not in str(error) or deadline - time.monotonic() <= 2 * _AGAIN_SECONDS:
                raise
            time.sleep(_AGAIN_SECONDS)


def stream(
    api: Api, path: str, body: Mapping[str, Any], seconds: float, on_line: Callable[[Told], None] = lambda _told: None
) -> Told:
    """What a server says of a request until it has done it, or until the time is over.

    Raises: MakingError, ApiError.
    """
    told = Told()
    what = f"POST {shown(api.url)}{path}"
    connection, base = api.connection(max(seconds, 1.0), MAX_STREAM_BYTES)
    try:
        connection.request(
            "POST", base + path, body=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise _refusal(what, response)
        for line in _lines(response):
            was_checking = told.is_checking
            told.take(line)
            if told.is_checking and not was_checking:
                connection.prolong(CHECK_SECONDS)
            on_line(told)
            if told.is_done:
                return told
    except (TimeoutError, socket.timeout):  # the same from Python 3.10 on
        if told.is_checking:
            raise ApiError(f"{what}: Ollama has checked what came for {CHECK_SECONDS:g} s and not ended") from None
        return told
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, ApiError):
            raise
        raise ApiError(f"{what} broke off: {type(error).__name__}: {error}".rstrip(": ")) from error
    finally:
        connection.close()
    raise ApiError(f"{what} ended after {told.status or 'nothing'!r}: the server was stopped, run it again")


def _refusal(what: str, response: http.client.HTTPResponse) -> Exception:
    content = response.read(MAX_LINE_BYTES)
    try:
        said = read_json(content)["error"]
    except (ValueError, LookupError, TypeError):
        return ApiError(f"{what} answers {response.status}: {shown(content.decode('utf-8', 'replace'))}")
    return made_error(str(said))


def _lines(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    pending = bytearray()
    while True:
        # Not readline(), which takes a chunked answer that broke off for one that has ended.
        part = response.read1(_READ_BYTES)
        if not part:
            return
        pending += part
        *lines, rest = pending.split(b"\n")
        pending = bytearray(rest)
        for line in lines:
            value = read_json(bytes(line), _ITEMS_OF_A_LINE)
            if not isinstance(value, dict):
                raise ValueError("a line is no JSON mapping")
            yield value
        if len(pending) > MAX_LINE_BYTES:
            raise ValueError(f"a line is longer than {MAX_LINE_BYTES} bytes")
