# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which proxy Ollama goes to a registry, as Go reads its service's environment.

Source: golang.org/x/net/http/httpproxy (FromEnvironment, init, useProxy), which Go's default transport goes by, and that
ollama v0.33.0-rc2, server/images.go and server/download.go; net/url (validUserinfo).
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Union
from urllib.parse import unquote_to_bytes

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._socket import Proxy

# Of each the first that is not empty.
_BY_SCHEME = {"https": ("HTTPS_PROXY", "https_proxy"), "http": ("HTTP_PROXY", "http_proxy")}
_EXCEPT = ("NO_PROXY", "no_proxy")
_PORTS = {"http": 80, "https": 443}
_LAST_PORT = 65535
_URL = re.compile(
    r"(?:([A-Za-z][A-Za-z0-9+.-]*)://|(?![^/]*://))"
    r"(?:((?:[A-Za-z0-9._:~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})*)@)?"
    r"(\[[^\]\s]+\]|[^\s/?#@:\[\]]*)(?::([0-9]{0,5}))?(?:[/?#].*)?"
)
_WITH_PORT = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([^:\[\]]*)")
_RANGE = re.compile(r"[0-9A-Fa-f:.]+/[0-9]{1,3}")
_Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


class ProxyError(ValueError):
    """The proxy is one that only Ollama goes by, or none at all; the message names the variable, and no password."""


@dataclass(frozen=True)
class Proxies:
    """The variables of a service's environment that name its proxies; they may hold a password, and are in no repr."""

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __call__(self, scheme: str, host: str, port: int | None) -> Proxy | None:
        """The proxy of a URL with these parts; None where it is asked without one.

        Raises: ProxyError.
        """
        name = self._first(_BY_SCHEME.get(scheme, ()))
        if not name or self._is_excepted(_ascii(host), port or _PORTS[scheme]):
            return None
        return _proxy(name, self.variables[name])

    def _first(self, names: tuple[str, ...]) -> str:
        return next((name for name in names if self.variables.get(name)), "")

    def _is_excepted(self, host: str, port: int) -> bool:
        address = _address(host)
        if host == "localhost" or (address and address.is_loopback):
            return True
        excepted = self.variables.get(self._first(_EXCEPT), "")
        return any(_excepts(entry.strip().lower(), host, address, port) for entry in excepted.split(","))


def proxies_of(environment: Mapping[str, str]) -> Proxies:
    """What a process with this environment goes by."""
    names = (*_EXCEPT, *(name for names in _BY_SCHEME.values() for name in names))
    return Proxies({name: environment[name] for name in names if environment.get(name)})


def _excepts(entry: str, host: str, address: _Address | None, port: int) -> bool:
    """Whether an entry of NO_PROXY means this host and port."""
    if entry == "*":
        return True
    if _RANGE.fullmatch(entry):
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            pass
        else:
            return address is not None and address.version == network.version and address in network
    found = _WITH_PORT.fullmatch(entry)
    name, of_port = (found[1] or found[2] or "", found[3]) if found else (entry, "")
    if not name or (of_port and of_port != str(port)):
        return False
    meant = _address(name)
    if meant is not None:
        return meant == address
    name = _ascii(name[1:] if name.startswith("*.") else name)
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _address(text: str) -> _Address | None:
    """An IP address; one of IPv4 that is written as IPv6 is the same."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _ascii(host: str) -> str:
    """A name as it is asked for, in lower case."""
    try:
        return host.lower() if host.isascii() else host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return host.lower()


def _proxy(name: str, value: str) -> Proxy:
    found = _URL.fullmatch(value)
    if found is None or not (found[3] or found[4]) or int(found[4] or 0) > _LAST_PORT:
        raise ProxyError(f"the service's {name} is no URL of a proxy: expected one like http://proxy.example.com:3128")
    scheme, login, host, port = (found[1] or "http").lower(), found[2], found[3].strip("[]"), found[4]
    if scheme != "http":
        raise ProxyError(
            f"the service's {name} is a proxy of the kind {scheme[:20]}, by which Ollama may go and this look cannot, that takes "
            "only those of http://"
        )
    return Proxy(name, host or "localhost", int(port or _PORTS["http"]), _authorization(login))


def _authorization(login: str | None) -> str:
    if login is None:
        return ""
    user, _colon, password = login.partition(":")
    given = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    return f"Basic {base64.b64encode(given).decode('ascii')}"
