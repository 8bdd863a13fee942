# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models that come from a registry and go to one, in one piece and one after the other.

Only a registry on this machine is asked, by plain HTTP where the request allows it; every other name is one that nobody
knows. Not stood in for: parts, resuming, authorization. Source: tests/data/captures/real_cpu/calls/registry.jsonl.
"""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from .making import Failed, keep_blob, status, write_manifest
from .store import Store

_LOCAL = ("localhost", "127.0.0.1", "::1")
_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_TIMEOUT_SECONDS = 30
Name = tuple[str, str, str, str]


def no_such_host(host: str) -> str:
    """What Go says of a name that nobody knows."""
    return f"dial tcp: lookup {host} on 127.0.0.53:53: no such host"


def pull(store: Store, name: Name, insecure: bool) -> Iterator[dict[str, Any]]:
    """Bring a model here. Raises: Failed."""
    yield status("pulling manifest")
    path = f"/v2/{name[1]}/{name[2]}/manifests/{name[3]}"
    try:
        code, text = _ask(name[0], insecure, "GET", path)
    except Failed as error:
        raise Failed(f"pull model manifest: {error}") from error
    if code == http.client.NOT_FOUND:
        raise Failed("pull model manifest: file does not exist")
    manifest = json.loads(text)
    downloaded: dict[str, bytes] = {}
    for layer in (*manifest["layers"], manifest["config"]):
        digest, size = layer["digest"], layer["size"]
        if store.blob(digest).exists():
            yield {"status": f"pulling {digest[7:19]}", "digest": digest, "total": size, "completed": size}
            continue
        # A download tells of itself every 60 ms; what is there sooner is not told.
        downloaded[digest] = _ask(name[0], insecure, "GET", f"/v2/{name[1]}/{name[2]}/blobs/{digest}")[1]
    yield status("verifying sha256 digest")
    for digest, content in downloaded.items():
        found = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if found != digest:
            raise Failed(f"digest mismatch, file must be downloaded again: want {digest}, got {found}")
        keep_blob(store, digest, content)
    yield status("writing manifest")
    write_manifest(store, name, text)
    yield status("success")


def push(store: Store, name: Name, insecure: bool) -> Iterator[dict[str, Any]]:
    """Bring a model to a registry. Raises: Failed."""
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
            _ask(name[0], insecure, "POST", f"{repository}/blobs/uploads/?digest={digest}", body)
        yield {"status": f"pushing {digest[7:19]}", "digest": digest, "total": size, "completed": size}
    yield status("pushing manifest")
    _ask(name[0], insecure, "PUT", f"{repository}/manifests/{name[3]}", text)
    yield status("success")


def _ask(host: str, insecure: bool, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    scheme = "http" if insecure else "https"
    place = urlsplit(f"{scheme}://{host}")
    told = f'{method.capitalize()} "{scheme}://{host}{path}"'
    if place.hostname not in _LOCAL:
        raise Failed(f"{told}: {no_such_host(str(place.hostname))}")
    if not insecure:
        raise Failed(f"{told}: tls: first record does not look like a TLS handshake")
    headers: Mapping[str, str] = {"Accept": _MANIFEST_TYPE}
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request(method, path, body, dict(headers))
        reply = connection.getresponse()
        return reply.status, reply.read()
    except ConnectionRefusedError:
        raise Failed(f"{told}: dial tcp [::1]:{place.port}: connect: connection refused") from None
    finally:
        connection.close()
