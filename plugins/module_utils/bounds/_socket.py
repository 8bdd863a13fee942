# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP connection with one deadline and one number of bytes for all that its peer, and a proxy before it, may do."""

from __future__ import annotations

import errno
import http.client
import io
import ipaddress
import socket
import ssl
import time
from dataclasses import field
from typing import Any

from ansible_collections.gpufleet.ollama.plugins.module_utils._dataclass import dataclass

# Of what a proxy says beside its status.
_REASON_CHARACTERS = 80
_NOT_TO_BE_SENT = "it lies on this machine or its own link, where no other may send anybody"


class TooLong(OSError):
    """The peer has sent more bytes than may be read."""


class ProxyRefusal(OSError):
    """The proxy does not let the request through; the message is what it answers. wants_login: whether for want of a login."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"it answers {status} {reason[:_REASON_CHARACTERS]}".rstrip())
        self.wants_login = status == http.client.PROXY_AUTHENTICATION_REQUIRED


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy. variable: which names it. authorization: its Proxy-Authorization header; empty without a login."""

    variable: str
    host: str
    port: int
    authorization: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"the proxy {_place(self.host, self.port)} (the service's {self.variable})"


class Budget:
    """What is left of an exchange: seconds on the monotonic clock, and bytes to be received."""

    def __init__(self, timeout_s: float, max_bytes: int) -> None:
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._max_bytes = max_bytes
        self._received = 0

    def prolong(self, timeout_s: float) -> None:
        """Give the exchange so long from now."""
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s

    def left_s(self) -> float:
        """Raises: TimeoutError when nothing is left."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no whole answer within {self._timeout_s:g} seconds")
        return left

    def count(self, received: int) -> None:
        """Raises: TooLong when more has come than may."""
        self._received += received
        if self._received > self._max_bytes:
            raise TooLong(f"the answer is longer than {self._max_bytes} bytes")


class _Incoming(io.RawIOBase):
    """What a socket receives, each piece within what is left."""

    def __init__(self, plain: socket.socket, budget: Budget) -> None:
        self._plain = plain
        self._budget = budget
        # Of the socket's own kind, so that it stays open until both are closed: a server that ends the connection after
        # its answer has it closed here before the answer is read.
        self._pieces = plain.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._plain.settimeout(self._budget.left_s())
        try:
            received = self._pieces.readinto(buffer)
        except socket.timeout:  # a TimeoutError from Python 3.10 on
            self._budget.left_s()
            raise
        self._budget.count(received or 0)
        return received

    def close(self) -> None:
        self._pieces.close()
        super().close()


class BoundedSocket:
    """The part of a socket that http.client uses, held to a budget."""

    def __init__(self, plain: socket.socket, budget: Budget) -> None:
        self._plain = plain
        self._budget = budget

    def sendall(self, data: bytes) -> None:
        self._plain.settimeout(self._budget.left_s())
        self._plain.sendall(data)

    def makefile(self, *_mode: Any) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._plain, self._budget))

    def shutdown(self, how: int) -> None:
        self._plain.shutdown(how)

    def close(self) -> None:
        self._plain.close()


class Connection(http.client.HTTPConnection):
    """A connection for one exchange; its deadline is counted from when it is made, before it is opened.

    Only the resolver has times of its own, where the host is a name that must be asked for.
    may_be_near: whether it may lead to this machine or to its own link, where others listen only for those that are there:
    a cloud's metadata, a service's administration. is_near: whether it has. By a proxy it does not lead here: where a name
    leads to is then the proxy's to know, and to refuse.
    """

    def __init__(
        self,
        host: str,
        port: int | None,
        is_tls: bool,
        timeout_s: float,
        max_bytes: int,
        may_be_near: bool = True,
        proxy: Proxy | None = None,
    ) -> None:
        # What is left out of the Host header, and taken where the URL has no port.
        self.default_port = http.client.HTTPS_PORT if is_tls else http.client.HTTP_PORT
        super().__init__(host, self.default_port if port is None else port)
        self._is_tls = is_tls
        self._may_be_near = may_be_near
        self._proxy = proxy
        self.is_near = False
        self._budget = Budget(timeout_s, max_bytes)

    def prolong(self, timeout_s: float) -> None:
        """Give the exchange so long from now, whatever was left."""
        self._budget.prolong(timeout_s)

    def connect(self) -> None:
        plain = self._connected()
        try:
            if self._is_tls:
                if self._proxy is not None:
                    self._tunnel(plain, self._proxy)
                plain.settimeout(self._budget.left_s())
                plain = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
        self.sock = BoundedSocket(plain, self._budget)

    def _connected(self) -> socket.socket:
        """A socket to the first address that answers, of the host or of the proxy before it."""
        failure: OSError | None = None
        host, port = (self._proxy.host, self._proxy.port) if self._proxy else (self.host, self.port)
        if self._proxy and not self._may_be_near and _is_near_by_name(self.host):
            raise OSError(errno.EPERM, _NOT_TO_BE_SENT)
        for family, kind, protocol, _name, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            self.is_near = not self._proxy and is_near(str(address[0]))
            if self.is_near and not self._may_be_near:
                failure = OSError(errno.EPERM, _NOT_TO_BE_SENT)
                continue
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(self._budget.left_s())
                plain.connect(address)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                plain.close()
                failure = error
            else:
                return plain
        raise failure or OSError(f"{host} has no address")

    def _tunnel(self, plain: socket.socket, proxy: Proxy) -> None:
        """Have the proxy connect to the host. Source: RFC 9110, 9.3.6 (CONNECT). Raises: ProxyRefusal."""
        place = _place(self.host, self.port)
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        bounded = BoundedSocket(plain, self._budget)
        bounded.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii"))
        answer = http.client.HTTPResponse(bounded, method="CONNECT")  # type: ignore[arg-type]
        try:
            answer.begin()
            if answer.status != http.client.OK:
                raise ProxyRefusal(answer.status, answer.reason)
        finally:
            # What comes next is the host's.
            answer.close()

    def putrequest(self, method: str, url: str, skip_host: bool = False, skip_accept_encoding: bool = False) -> None:
        """A proxy that is to ask itself, and not only to connect, is told where."""
        asks = self._proxy if not self._is_tls else None
        whole = f"http://{_place(self.host, None if self.port == self.default_port else self.port)}{url}" if asks else url
        super().putrequest(method, whole, skip_host, skip_accept_encoding)
        if asks and asks.authorization:
            self.putheader("Proxy-Authorization", asks.authorization)


def _place(host: str, port: int | None) -> str:
    """Host and port as in a URL."""
    name = host if host.isascii() else host.encode("idna").decode("ascii")
    return (f"[{name}]" if ":" in name else name) + (f":{port}" if port is not None else "")


def _is_near_by_name(host: str) -> bool:
    """Whether a host that only a proxy looks up says by itself that it is near."""
    try:
        return is_near(host)
    except ValueError:
        return host.rstrip(".").endswith("localhost")


def is_near(address: str) -> bool:
    """Whether an IP address is one of this machine, or one that only its own link knows."""
    one = ipaddress.ip_address(address.partition("%")[0])
    one = getattr(one, "ipv4_mapped", None) or one
    return one.is_loopback or one.is_link_local or one.is_unspecified
