# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a registry tells of a model that is not here yet: its manifest, and its header by ranged requests.

It is asked from the host that is to have the model and by its service's proxies, which is the way that a pull will take.
Without credentials: a registry that wants some is one that cannot be looked at, although Ollama may pull from it.

Source: ollama v0.33.0-rc2, server/images.go (pullModelManifest), server/download.go; the OCI distribution
specification v1.1, "Pulling manifests" and "Pulling blobs"; RFC 9110, 14 (ranges).
"""

from __future__ import annotations

import hashlib
import http.client
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._json import read_json
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._socket import (
    Connection,
    Proxy,
    ProxyRefusal,
    TooLong,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import shown
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._gguf import joined, read_header_from
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._installed import (
    InstalledModel,
    ModelError,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._manifest import (
    Layer,
    layer_of,
    layers_of,
    model_of,
    refuse_unplannable,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._names import (
    is_name,
    name_parts,
    short_name,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._proxies import Proxies, ProxyError
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._secrets import masked_text

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
# A configuration or parameters: some hundred bytes.
MAX_TEXT_BYTES = 1024 * 1024
# A pebibyte: of the largest published models a thousand.
MAX_MODEL_BYTES = 1 << 50
MAX_REDIRECTS = 10
# Connections break off; one that does each time is the registry's or a proxy's way.
TRIES = 3
MAX_SHOWN_HOST = 80
# A header holds the vocabulary: 6 to 12 MiB of published models; the first piece suffices where it is small.
FIRST_PIECE_BYTES = 1024 * 1024
PIECE_BYTES = 4 * 1024 * 1024
MAX_HEADER_BYTES = 64 * 1024 * 1024
# Of all files of one model together: a manifest may name 20,000 files, and each text and header that is read stays in memory.
MAX_FETCHED_BYTES = 256 * 1024 * 1024
# What an answer may hold besides its body.
_HEADERS_BYTES = 64 * 1024
ANSWER_SECONDS = 20.0
# For all that is asked of one model.
MODEL_SECONDS = 60.0
_SCHEME = re.compile(r"[A-Za-z]{1,20}(?= |$)")
_REALM = re.compile(r'\brealm="([^"]{1,2000})"')
_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/(?:[0-9]{1,19}|\*)")


class RegistryError(OSError):
    """The registry cannot be looked at; the message says why. Ollama itself may still pull from it."""


class UnknownModelError(RegistryError):
    """The registry answers, and there is no such model, or what it has there is none."""


class _BrokenOffError(RegistryError):
    """The connection ended before the answer did."""


@dataclass(frozen=True)
class RegistryManifest:
    """What a registry has under a name. digest: of the manifest, 64 hex digits, as Ollama lists a model's."""

    name: str
    digest: str
    layers: tuple[Layer, ...]
    config: Layer

    @property
    def files(self) -> tuple[Layer, ...]:
        """All that a pull brings, each file once."""
        return tuple({layer.digest: layer for layer in (*self.layers, self.config)}.values())

    @property
    def size_bytes(self) -> int:
        return sum(layer.size_bytes for layer in self.files)


@dataclass
class Registry:
    """The registry of one model, asked within one time for all. `insecure`: by plain HTTP, as Ollama then does."""

    name: str
    insecure: bool = False
    proxies: Proxies = field(default_factory=Proxies)
    _deadline: float = field(default_factory=lambda: time.monotonic() + MODEL_SECONDS)
    _text_bytes: int = 0
    _fetched_bytes: int = 0

    @property
    def host(self) -> str:
        return name_parts(self.name)[0]

    def manifest(self) -> RegistryManifest:
        """Raises: UnknownModelError, RegistryError."""
        host, namespace, model, tag = name_parts(self.name)
        if not is_name(host, namespace, model, tag):
            raise UnknownModelError(
                f"{shown(self.name, 80)!r} is no model's name: write [HOST[:PORT]/][NAMESPACE/]MODEL[:TAG]"
            )
        answer = self._get(f"/v2/{namespace}/{model}/manifests/{tag}", MAX_MANIFEST_BYTES)
        if answer.status == http.client.NOT_FOUND:
            raise UnknownModelError(
                f"{host} has no model {namespace}/{model}:{tag}: look for a slip in its name and tag, or push it there"
            )
        self._expect(answer, http.client.OK)
        return manifest_in(answer.body, self.name)

    def model(self, manifest: RegistryManifest) -> InstalledModel:
        """The model as it will be when it is here, read from the first bytes of its files.

        Raises: RegistryError; ModelError, UnplannableError as of a model that is installed.
        """
        config = self._text(manifest.config)
        refuse_unplannable(config, manifest.layers)
        where = f"its manifest at {self.host}"
        return model_of(manifest.name, manifest.layers, config, where, self._header, self._text)

    def _header(self, files: Sequence[Layer]) -> dict[str, Any]:
        headers = []
        for layer in files:
            name = f"{layer.digest[:19]} at {self.host}"
            headers.append(read_header_from(_Pieces(self, layer), name, layer.size_bytes))
        return joined(f"the model at {self.host}", headers)

    def _text(self, layer: Layer) -> Mapping[str, Any]:
        self._text_bytes += layer.size_bytes
        if self._text_bytes > MAX_TEXT_BYTES:
            raise RegistryError(
                f"{self.host} says that the texts of {self.name} have {self._text_bytes} bytes, at most {MAX_TEXT_BYTES} are read"
            )
        content = self.piece(layer, 0, layer.size_bytes) if layer.size_bytes else b"{}"
        try:
            value = read_json(content)
        except ValueError as error:
            raise RegistryError(f"a text of {self.name} at {self.host} is no JSON ({error})") from error
        return value if isinstance(value, dict) else {}

    def piece(self, layer: Layer, start: int, count: int) -> bytes:
        """Bytes of a layer's file.

        Raises: RegistryError.
        """
        self._fetched_bytes += count
        if self._fetched_bytes > MAX_FETCHED_BYTES:
            raise RegistryError(f"the headers of {self.name} at {self.host} are longer than {MAX_FETCHED_BYTES} bytes")
        _host, namespace, model, _tag = name_parts(self.name)
        digest = layer.digest.replace("-", ":", 1)
        asked = {"Range": f"bytes={start}-{start + count - 1}"}
        answer = self._get(f"/v2/{namespace}/{model}/blobs/{digest}", count, asked)
        if answer.status == http.client.OK and start == 0 and len(answer.body) == layer.size_bytes == count:
            return answer.body
        if answer.status in (http.client.OK, http.client.REQUESTED_RANGE_NOT_SATISFIABLE):
            raise RegistryError(f"{self.host} does not give a part of a file, so that a model there cannot be looked into")
        self._expect(answer, http.client.PARTIAL_CONTENT)
        given = _RANGE.fullmatch(answer.content_range)
        if given is None or int(given[1]) != start or len(answer.body) != count:
            raise RegistryError(
                f"{self.host} answers half: {len(answer.body)} bytes came of {count} that were asked for"
            )
        return answer.body

    def _expect(self, answer: _Answer, status: int) -> None:
        if answer.status == status:
            return
        if answer.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            raise RegistryError(
                f"{answer.host} answers {answer.status}{answer.through}: it lets only those in who log in, {self._login(answer)}"
            )
        # What stands behind a redirect is none of the registry's words.
        said = f": {shown(masked_text(_error_in(answer.body)), 200)}" if answer.host == self.host else ""
        raise RegistryError(f"{answer.host} answers {answer.status}{answer.through}{said}")

    def _login(self, answer: _Answer) -> str:
        """Whether Ollama may be one of those: it signs with a key of its own, for a realm of the registry's own host alone.

        Source: ollama v0.33.0-rc2, server/auth.go (getAuthorizationToken), server/images.go (makeRequestWithRetry).
        """
        if answer.status != http.client.UNAUTHORIZED or answer.host != self.host:
            return "as Ollama may"
        realm = _REALM.search(answer.challenge)
        if realm and _host_in(realm[1]) == self.host:
            return "as Ollama does with its key, where the registry knows that"
        scheme = _SCHEME.match(answer.challenge)
        return f"and asks for {scheme[0] if scheme else 'it'} in a way that Ollama does not have: let the host in without a login"

    def _get(self, path: str, max_bytes: int, headers: Mapping[str, str] | None = None) -> _Answer:
        """The answer behind all redirects. Raises: RegistryError."""
        url, may_be_near = f"{'http' if self.insecure else 'https'}://{self.host}{path}", True
        for _redirect in range(MAX_REDIRECTS + 1):
            answer = self._answer(url, max_bytes, headers or {}, may_be_near)
            if answer.status not in (301, 302, 303, 307, 308):
                return answer
            # Only who is on this machine himself sends there.
            may_be_near = answer.is_near
            url = _redirected(url, answer.location)
            if not url.startswith(("https://", "http://") if self.insecure else "https://"):
                speech = "HTTP" if self.insecure else "HTTPS"
                raise RegistryError(f"{answer.host} redirects to another place than one of {speech}")
        raise RegistryError(f"{self.host} redirects more than {MAX_REDIRECTS} times")

    def _answer(self, url: str, max_bytes: int, headers: Mapping[str, str], may_be_near: bool) -> _Answer:
        """The answer to one request, which is made again where the connection breaks off."""
        for _try in range(TRIES - 1):
            try:
                return self._exchange(url, max_bytes, headers, may_be_near)
            except _BrokenOffError:
                continue
        return self._exchange(url, max_bytes, headers, may_be_near)

    def _exchange(self, url: str, max_bytes: int, headers: Mapping[str, str], may_be_near: bool = True) -> _Answer:
        left = self._deadline - time.monotonic()
        host = self.host
        proxy: Proxy | None = None
        try:
            parts = urlsplit(url)
            host = shown(parts.netloc.rpartition("@")[2], MAX_SHOWN_HOST)
            if left <= 0:
                raise TimeoutError(f"not all was told within {MODEL_SECONDS:g} seconds")
            proxy = self.proxies(parts.scheme, parts.hostname or "", parts.port)
            connection = Connection(
                parts.hostname or "",
                parts.port,
                parts.scheme == "https",
                min(left, ANSWER_SECONDS),
                max_bytes + 2 * _HEADERS_BYTES,
                may_be_near,
                proxy,
            )
            try:
                target = parts.path + (f"?{parts.query}" if parts.query else "")
                connection.request("GET", target, headers={"Accept": MANIFEST_TYPE, **headers})
                response = connection.getresponse()
                if proxy and response.status == http.client.PROXY_AUTHENTICATION_REQUIRED:
                    raise ProxyRefusal(response.status, response.reason)
                is_whole_file = response.status == http.client.OK and "Range" in headers
                is_unread = 300 <= response.status < 400 or (is_whole_file and (response.length or 0) > max_bytes)
                body = b"" if is_unread else _whole(response, max_bytes)
                return _Answer(
                    host,
                    response.status,
                    body,
                    response.getheader("Location") or "",
                    response.getheader("Content-Range") or "",
                    connection.is_near,
                    response.getheader("WWW-Authenticate") or "",
                    _through(proxy),
                )
            finally:
                connection.close()
        except http.client.IncompleteRead as error:
            raise _BrokenOffError(f"{host} answers half{_through(proxy)}: {error}") from error
        except ConnectionError as error:
            raise _BrokenOffError(f"{host} cannot be asked{_through(proxy)}: {_reason(error)}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, RegistryError):
                raise
            if isinstance(error, ProxyRefusal) and error.wants_login and proxy:
                login = "but does not take that of the variable" if proxy.authorization else "and the variable has none"
                raise RegistryError(f"{host} cannot be asked{_through(proxy)}: it wants a login {login}") from error
            reason = shown(masked_text(_reason(error)), 200)
            raise RegistryError(f"{host} cannot be asked{_through(proxy)}: {reason}") from error


def _through(proxy: Proxy | None) -> str:
    return f" through {proxy}" if proxy else ""


def manifest_in(body: bytes, name: str) -> RegistryManifest:
    """The manifest that a registry has answered for a model's name.

    Raises: UnknownModelError.
    """
    host, namespace, model, tag = name_parts(name)
    where = f"what {host} has as {namespace}/{model}:{tag}"
    try:
        manifest = read_json(body)
        if not isinstance(manifest, dict):
            raise ValueError("it is no mapping")
        layers = tuple(layers_of(manifest, where))
        config = layer_of(manifest.get("config"), where)
    except ModelError as error:
        raise UnknownModelError(f"{error}: Ollama cannot pull it") from error
    except ValueError as error:
        raise UnknownModelError(
            f"{where} is no manifest ({error}): the registry, or a proxy before it, answers half or for another"
        ) from error
    found = RegistryManifest(short_name(name), hashlib.sha256(body).hexdigest(), layers, config)
    if found.size_bytes > MAX_MODEL_BYTES:
        raise UnknownModelError(f"{where} is to have {found.size_bytes} bytes, which no disk holds")
    return found


@dataclass(frozen=True)
class _Answer:
    host: str
    status: int
    body: bytes
    location: str
    content_range: str
    is_near: bool = False
    challenge: str = ""
    through: str = ""


class _Pieces:
    """The first bytes of a file in a registry, for a reader that goes forwards."""

    def __init__(self, registry: Registry, layer: Layer) -> None:
        self._registry = registry
        self._layer = layer
        self._start, self._held = 0, b""
        self._position = 0
        self._fetched = 0

    def seek(self, offset: int, /) -> int:
        self._position = offset
        return offset

    def read(self, size: int, /) -> bytes:
        parts = []
        while size > 0:
            if not self._start <= self._position < self._start + len(self._held):
                self._fetch()
            inner = self._position - self._start
            part = self._held[inner : inner + size]
            if not part:
                break
            parts.append(part)
            self._position += len(part)
            size -= len(part)
        return b"".join(parts)

    def _fetch(self) -> None:
        most = PIECE_BYTES if self._fetched else FIRST_PIECE_BYTES
        count = min(most, self._layer.size_bytes - self._position)
        self._start, self._held = self._position, b""
        if count <= 0:
            return
        self._fetched += count
        if self._fetched > MAX_HEADER_BYTES:
            raise RegistryError(f"the header at {self._registry.host} is longer than {MAX_HEADER_BYTES} bytes")
        self._held = self._registry.piece(self._layer, self._position, count)


def _whole(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    """The body, of which no more is read than may be; of an answer that is an error the room of its headers is."""
    most = max_bytes if response.status in (http.client.OK, http.client.PARTIAL_CONTENT) else _HEADERS_BYTES
    promised = response.length
    body = bytearray()
    while True:
        part = response.read1(65536)
        if not part:
            break
        body += part
        if len(body) > most:
            raise RegistryError(f"the answer is longer than {most} bytes")
    if promised is not None and len(body) < promised:
        raise http.client.IncompleteRead(bytes(body), promised - len(body))
    return bytes(body)


def _host_in(url: str) -> str:
    """The host of a URL with its port; empty where it has none."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _redirected(url: str, location: str) -> str:
    """Where an answer's Location leads; empty where that is no place."""
    try:
        return urlunsplit(urlsplit(urljoin(url, location)))
    except ValueError:
        return ""


def _error_in(body: bytes) -> str:
    """The message in a registry's answer; its beginning where it has none."""
    try:
        return str(read_json(body)["errors"][0]["message"])
    except (ValueError, LookupError, TypeError):
        return body[:500].decode("utf-8", "replace")


def _reason(error: BaseException) -> str:
    if isinstance(error, (TooLong, ProxyError, ProxyRefusal)):
        return str(error)
    if isinstance(error, TimeoutError):
        return str(error) or "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the host does not trust its certificate ({error.verify_message}): give the host that of who signed it"
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or error}: a registry that speaks plain HTTP needs insecure: true"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}".strip(": ")
