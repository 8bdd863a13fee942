# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama makes of one value of its environment: text, a switch, the address it listens on."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import quote

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._go_text import parse_bool, parse_int

DEFAULT_PORT = 11434
_LOOPBACK = "127.0.0.1"
_PORT_OF_SCHEME = {"http": 80, "https": 443}
_PORT_MAX = 65535
# Source: Go src/unicode (White_Space), what strings.TrimSpace removes.
_WHITE_SPACE = " \t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
# Source: Go src/net (SplitHostPort): without a match it is an error.
_HOST_AND_PORT = re.compile(r"(?:\[(?P<six>[^\[\]]*)\]|(?P<name>[^\[\]:]*)):(?P<port>[^:\[\]]*)")

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?")


def cleaned(value: str) -> str:
    """A value as Ollama takes it: without white space around it, then without quotes around it.

    Source: Ollama v0.33.0-rc2 envconfig/config.go (Var).
    """
    return value.strip(_WHITE_SPACE).strip("\"'")


def boolean(value: str | None) -> bool | None:
    """A switch as Ollama takes it: None where nothing is set, and true for what does not parse.

    Source: Ollama v0.33.0-rc2 envconfig/config.go (BoolWithDefault).
    """
    text = cleaned(value or "")
    return parse_bool(text) is not False if text else None


@dataclass(frozen=True)
class Address:
    """What OLLAMA_HOST says: an empty host means every address of the machine; the port is a decimal number.

    `refused_port`: the port as it was given, where Ollama took the default in its place.
    """

    scheme: str
    host: str
    port: str
    path: str = ""
    refused_port: str | None = None

    @property
    def url(self) -> str:
        """As Ollama prints it.

        Source: Go src/net (JoinHostPort), src/net/url (URL.String, shouldEscape).
        """
        scheme = f"{self.scheme}:" if self.scheme else ""
        # What is no text can be in no environment, and ends here as what it is.
        host = quote(f"{_bracketed(self.host)}:{self.port}", "!$&'()*+,;=:[]<>\"", errors="surrogatepass")
        path = quote(self.path, "$&+,/:;=@", errors="surrogatepass")
        return f"{scheme}//{host}{'/' if self.path else ''}{path}"

    @property
    def client_url(self) -> str:
        """Where a client on the same machine reaches the server.

        A server listens at host and port for plain HTTP and answers at the root, whatever scheme and path say; an
        address that stands for all is reached by the loopback one.

        Source: Ollama v0.33.0-rc2 cmd/cmd.go (RunServer), envconfig/config.go (ConnectableHost).
        """
        # Ollama takes no credentials, and the URL stands in facts and messages.
        host = self.host.rpartition("@")[2] or _LOOPBACK
        ip = _ip(host)
        if ip is not None and ip.is_unspecified:
            host = _LOOPBACK if ip.version == 4 else "::1"
        return f"http://{_bracketed(host)}:{int(self.port)}"

    @property
    def can_be_listened_on(self) -> bool:
        """Whether the host is an address or may be a name, which `*` is not, nor a number.

        Source: Go src/net/dnsclient.go (isDomainName), without which no name is looked up.
        """
        is_name = _NAME.fullmatch(self.host) and not re.fullmatch(r"[0-9.]+", self.host)
        return not self.host or bool(is_name) or _ip(self.host.partition("%")[0]) is not None


def address(value: str) -> Address:
    """The address that Ollama makes of a value of OLLAMA_HOST; an empty one is the default.

    Source: Ollama v0.33.0-rc2 envconfig/config.go (Host).
    """
    text = cleaned(value).strip(_WHITE_SPACE)
    scheme, separator, rest = text.partition("://")
    default = DEFAULT_PORT
    if separator:
        default = _PORT_OF_SCHEME.get(scheme, DEFAULT_PORT)
    elif text == "ollama.com":
        scheme, rest = "https", "ollama.com:443"
    else:
        scheme, rest = "http", text
    host_and_port, _slash, path = rest.partition("/")
    match = _HOST_AND_PORT.fullmatch(host_and_port)
    if match is None:
        ip = None if "%" in host_and_port else _ip(host_and_port.strip("[]"))
        return Address(scheme, str(ip or host_and_port or _LOOPBACK), str(default), path)
    host, port = match["six"] or match["name"] or "", match["port"]
    number = parse_int(port)
    if number is None or not 0 <= number <= _PORT_MAX:
        return Address(scheme, host, str(default), path, refused_port=port)
    return Address(scheme, host, port, path)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IP address; one of version 4 in the form of version 6 is the former, as in Go."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip
