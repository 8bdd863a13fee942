# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models that come from a registry and go to one.

Only a registry on this machine is asked, by plain HTTP where the request allows it; every other name is one that nobody
knows. A model comes as Ollama pulls it: in parts that go on where they were when a client was gone, from where the registry
redirects to. It goes in one piece, one layer after the other. Not stood in for: authorization.
Source: the streams, requests and stores in captures/real_cpu/pull; Ollama v0.33.0-rc2 server/download.go, server/images.go.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import select
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .making import Failed, digests, digests_of, status, write_manifest
from .store import Store

_LOCAL = ("localhost", "127.0.0.1", "::1")
_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_TIMEOUT_SECONDS = 30
Name = tuple[str, str, str, str]


def no_such_host(host: str) -> str:
    """What Go says of a name that nobody knows."""
    return f"dial tcp: lookup {host} on 127.0.0.53:53: no such host"


# Source: Ollama v0.33.0-rc2 server/download.go.
PART_BYTES = 100_000_000
MOST_PART_BYTES = 1_000_000_000
MOST_PARTS = 16
MOST_TRIES = 6
TICK_SECONDS = 0.06
STALL_SECONDS = 30.0
_READ_BYTES = 64 * 1024


def pull(store: Store, name: Name, insecure: bool) -> Iterator[dict[str, Any]]:
    """Bring a model here; given up, it is gone on with when it is asked for again. Raises: Failed."""
    yield status("pulling manifest")
    repository = f"/v2/{name[1]}/{name[2]}"
    try:
        code, text = _ask(name[0], insecure, "GET", f"{repository}/manifests/{name[3]}")
        if code == http.client.NOT_FOUND:
            raise Failed("file does not exist")
        if code == http.client.UNAUTHORIZED:
            raise Failed(f'realm host "" does not match original host "{name[0]}"')
        if code != http.client.OK:
            raise Failed(f"{code}: {text.decode().rstrip()}")
        try:
            manifest = json.loads(text)
        except ValueError:
            raise Failed(f"invalid character {text[:1].decode()!r} looking for beginning of value") from None
    except Failed as error:
        raise Failed(f"pull model manifest: {error}") from error
    unused = digests(store.manifest(*name)) - digests_of(manifest)
    fresh = []
    for layer in (*manifest["layers"], manifest["config"]):
        digest, size = layer["digest"], layer["size"]
        if store.blob(digest).exists():
            yield {"status": f"pulling {digest[7:19]}", "digest": digest, "total": size, "completed": size}
            continue
        fresh.append(digest)
        yield from _downloaded(store.blob(digest), digest, (name[0], insecure, f"{repository}/blobs/{digest}"))
    yield status("verifying sha256 digest")
    for digest in fresh:
        with open(store.blob(digest), "rb") as file:
            found = hashlib.sha256()
            for block in iter(lambda: file.read(1 << 20), b""):
                found.update(block)
        if f"sha256:{found.hexdigest()}" != digest:
            store.blob(digest).unlink()
            raise Failed(
                f"digest mismatch, file must be downloaded again: want {digest}, got sha256:{found.hexdigest()}"
            )
    yield status("writing manifest")
    write_manifest(store, name, text)
    unused -= {digest for other in store.names() for digest in digests(store.manifest(*other))}
    if unused:
        yield status("removing unused layers")
        for digest in unused:
            store.blob(digest).unlink(missing_ok=True)
    yield status("success")


# Downloads that run, by digest: whoever asks for one that another client has begun waits for the same.
_running: dict[str, _Download] = {}
_running_lock = threading.Lock()


def _downloaded(path: Path, digest: str, source: tuple[str, bool, str]) -> Iterator[dict[str, Any]]:
    """The lines of one blob's download, which ends with the last of its clients. Raises: Failed."""
    with _running_lock:
        download = _running.get(digest)
        if download is None:
            download = _running[digest] = _Download(path, digest, source)
        download.clients += 1
    try:
        while not download.done.wait(TICK_SECONDS):
            line = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": download.total}
            # Go leaves out a number that is 0.
            yield {**line, **({"completed": download.completed} if download.completed else {})}
    finally:
        with _running_lock:
            download.clients -= 1
            if not download.clients:
                download.cancelled.set()
    if download.error:
        raise Failed(download.error)


class _Download:
    """One blob on its way, in parts that each have a file which says how far it is."""

    def __init__(self, path: Path, digest: str, source: tuple[str, bool, str]) -> None:
        self._partial = Path(f"{path}-partial")
        self._path, self._digest, self._source = path, digest, source
        self.clients = 0
        self.total = 0
        self.completed = 0
        self.error = ""
        self.done, self.cancelled = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._prepare()
            self._bring()
        except Failed as error:
            self.error = str(error)
        except OSError as error:
            words = "no space left on device" if error.errno == errno.ENOSPC else str(error.strerror).lower()
            self.error = f"write {error.filename or self._partial}: {words}"
        finally:
            with _running_lock:
                _running.pop(self._digest, None)
            self.done.set()

    def _prepare(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        files = sorted(self._path.parent.glob(f"{self._partial.name}-*"))
        self._parts = [json.loads(file.read_bytes()) for file in files]
        if not self._parts:
            code, length = _length(*self._source)
            if code == http.client.NOT_FOUND:
                raise Failed("file does not exist")
            size = min(max(length // MOST_PARTS, PART_BYTES), MOST_PART_BYTES)
            for number, offset in enumerate(range(0, length, size)):
                part = {"N": number, "Offset": offset, "Size": min(size, length - offset), "Completed": 0}
                self._parts.append(part)
                self._keep(part)
        self.total = sum(part["Size"] for part in self._parts)
        self.completed = sum(part["Completed"] for part in self._parts)

    def _bring(self) -> None:
        with open(self._partial, "r+b" if self._partial.exists() else "x+b") as file:
            file.truncate(self.total)
            direct = _redirected(*self._source)
            errors: list[BaseException] = []
            threads = [
                threading.Thread(target=self._part, args=(direct, file.fileno(), part, errors), daemon=True)
                for part in self._parts
                if part["Completed"] < part["Size"]
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]
        for part in self._parts:
            os.remove(f"{self._partial}-{part['N']}")
        os.rename(self._partial, self._path)

    def _part(self, direct: str, file: int, part: dict[str, int], errors: list[BaseException]) -> None:
        tries = 0
        while True:
            try:
                self._chunk(direct, file, part)
                return
            except (_Stalled, ConnectionError, http.client.HTTPException) as error:
                if isinstance(error, _Stalled):
                    continue
                if tries == MOST_TRIES - 1:
                    reason = "unexpected EOF" if isinstance(error, http.client.IncompleteRead) else "EOF"
                    errors.append(Failed(f"max retries exceeded: {reason}"))
                    break
                time.sleep(2**tries)
                tries += 1
            except (OSError, Failed) as error:
                errors.append(error)
                break
        self.cancelled.set()

    def _chunk(self, direct: str, file: int, part: dict[str, int]) -> None:
        """What is still missing of a part. Raises: Failed, OSError, _Stalled, http.client.IncompleteRead."""
        place = urlsplit(direct)
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=STALL_SECONDS)
        first, last = part["Offset"] + part["Completed"], part["Offset"] + part["Size"] - 1
        came, told_at = 0, time.monotonic()
        try:
            connection.connect()
            plain = connection.sock
            target = place.path + (f"?{place.query}" if place.query else "")
            connection.request("GET", target, headers={"Range": f"bytes={first}-{last}"})
            reply = connection.getresponse()
            while came < last - first + 1:
                if self.cancelled.is_set():
                    raise Failed("context canceled")
                # At first the answer's beginning may have come with its headers.
                if came and not select.select([plain], [], [], TICK_SECONDS)[0]:
                    if time.monotonic() - told_at > STALL_SECONDS:
                        raise _Stalled
                    continue
                block = reply.read1(min(_READ_BYTES, last - first + 1 - came))
                if not block:
                    raise http.client.IncompleteRead(b"")
                os.pwrite(file, block, first + came)
                came, told_at = came + len(block), time.monotonic()
                with self._lock:
                    self.completed += len(block)
        except (OSError, _Stalled):
            with self._lock:
                self.completed -= came
            came = 0
            raise
        finally:
            connection.close()
            if came:
                part["Completed"] += came
                self._keep(part)

    def _keep(self, part: Mapping[str, int]) -> None:
        path = Path(f"{self._partial}-{part['N']}")
        try:
            path.write_bytes(json.dumps(part, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None


class _Stalled(Exception):
    """Nothing has come for a while."""


def _length(host: str, insecure: bool, path: str) -> tuple[int, int]:
    code, _text, headers = _exchange(host, insecure, "HEAD", path)
    return code, int(headers.get("Content-Length") or 0)


def _redirected(host: str, insecure: bool, path: str) -> str:
    """Where a blob is to be taken from. Raises: Failed."""
    _code, _text, headers = _exchange(host, insecure, "GET", path, is_read=False)
    if not headers.get("Location"):
        raise Failed("http: no Location header in response")
    return str(headers["Location"])


def push(store: Store, name: Name, insecure: bool) -> Iterator[dict[str, Any]]:
    """Bring a model to a registry, each file in one piece. Raises: Failed."""
    yield status("retrieving manifest")
    path = store.manifest(*name)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        yield status("couldn't retrieve manifest")
        raise Failed(f"open {path}: no such file or directory") from None
    manifest = json.loads(text)
    repository = f"/v2/{name[1]}/{name[2]}"
    for layer in (*manifest["layers"], manifest["config"]):
        digest, size = layer["digest"], layer["size"]
        if _ask(name[0], insecure, "HEAD", f"{repository}/blobs/{digest}")[0] == http.client.NOT_FOUND:
            body = store.blob(digest).read_bytes()
            _code, _text, headers = _exchange(name[0], insecure, "POST", f"{repository}/blobs/uploads/")
            place = urlsplit(headers.get("Location", ""))
            ending = f"{place.query}&digest={digest}" if place.query else f"digest={digest}"
            _ask(name[0], insecure, "PUT", f"{place.path}?{ending}", body)
        yield {"status": f"pushing {digest[7:19]}", "digest": digest, "total": size, "completed": size}
    yield status("pushing manifest")
    code, said = _ask(name[0], insecure, "PUT", f"{repository}/manifests/{name[3]}", text)
    if code not in (http.client.OK, http.client.CREATED):
        raise Failed(f"{code}: {said.decode()}")
    yield status("success")


def _ask(host: str, insecure: bool, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    return _exchange(host, insecure, method, path, body)[:2]


def _exchange(
    host: str, insecure: bool, method: str, path: str, body: bytes | None = None, *, is_read: bool = True
) -> tuple[int, bytes, Mapping[str, str]]:
    scheme = "http" if insecure else "https"
    place = urlsplit(f"{scheme}://{host}")
    told = f'{method.capitalize()} "{scheme}://{host}{path}"'
    if place.hostname not in _LOCAL:
        raise Failed(f"{told}: {no_such_host(str(place.hostname))}")
    if not insecure:
        raise Failed(f"{told}: tls: first record does not look like a TLS handshake")
    headers: Mapping[str, str] = {"Accept": _MANIFEST_TYPE, **({"Content-Type": _MANIFEST_TYPE} if body else {})}
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request(method, path, body, dict(headers))
        reply = connection.getresponse()
        return reply.status, reply.read() if is_read else b"", dict(reply.getheaders())
    except ConnectionRefusedError:
        raise Failed(f"{told}: dial tcp [::1]:{place.port}: connect: connection refused") from None
    finally:
        connection.close()
