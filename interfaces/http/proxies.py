"""The client's address and scheme, from the forwarding headers of trusted proxies."""

import re
from collections.abc import Sequence
from contextvars import ContextVar
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

Network = IPv4Network | IPv6Network

client: ContextVar[str] = ContextVar("client", default="")
"""The client's address of the current request; `RequestContext` sets it."""

UNKNOWN: Final = "unknown"
HOPS_MAX: Final = 50
"""Hops that are read from a forwarding header, from its end."""

IPV6_PREFIX: Final = 64
"""Bits of a subscriber's network (RFC 6177): the subscriber can change the rest at will."""


_WITH_PORT: Final = re.compile(r"(?:\[([^]]*:[^]]*)]|([0-9.]+(?=:)))(?::(?:[0-9]{1,5}|_[\w.-]+))?")
"""An address as `Forwarded` and some proxies write it: IPv6 in brackets, and a port (RFC 7239, section 6)."""


class Proxies:
    """Trusts the forwarding headers of these proxies, and of no other peer.

    The headers are X-Forwarded-For and X-Forwarded-Proto, or `Forwarded` (RFC 7239); the others may be forged, because
    a proxy passes on what it does not know.
    """

    def __init__(self, networks: Sequence[str], header: str = "X-Forwarded-For") -> None:
        self._networks: list[Network] = [_ipv4_if_mapped(ip_network(network, strict=False)) for network in networks]
        self._reads_forwarded = header == "Forwarded"

    def client(self, scope: Scope) -> str:
        """Get the client's address; of an IPv6 address, its network."""
        return _network(self._client(scope)[0])

    def is_secure(self, scope: Scope) -> bool:
        """Test whether the client used TLS, to this server or to a trusted proxy."""
        return self._client(scope)[1].lower() == "https"

    def _client(self, scope: Scope) -> tuple[str, str]:
        """Get the client's address and scheme.

        The headers are read from their end, where the nearest proxy appends, and only as long as each hop is a
        trusted proxy: the first other hop may have written anything before it. A proxy that replaces the scheme
        instead of appending leaves fewer schemes than addresses; the first one then counts.
        """
        peer: str = scope["client"][0] if scope.get("client") else UNKNOWN
        scheme: str = scope["scheme"]
        if not self._is_trusted(peer):
            return peer, scheme
        headers = Headers(scope=scope)
        if self._reads_forwarded:
            elements = [_parameters(element) for element in _list(headers, "forwarded")]
            addresses = [element.get("for", "") for element in elements]
            schemes = [element.get("proto", scheme) for element in elements]
        else:
            addresses, schemes = _list(headers, "x-forwarded-for"), _list(headers, "x-forwarded-proto")
        hops = 0
        while self._is_trusted(peer) and addresses and addresses[-1]:
            peer = addresses.pop()
            hops += 1
        return peer, schemes[-min(max(hops, 1), len(schemes))] if schemes else scheme

    def _is_trusted(self, text: str) -> bool:
        if not self._networks:
            return False
        address = _address(text)
        return address is not None and any(address in network for network in self._networks)


def _list(headers: Headers, name: str) -> list[str]:
    lines = headers.getlist(name)
    return [element.strip() for element in ",".join(lines).rsplit(",", HOPS_MAX)[-HOPS_MAX:]] if lines else []


def _parameters(element: str) -> dict[str, str]:
    """Parse an element of `Forwarded`.

    A comma or semicolon in quotes makes it unreadable; no proxy has a reason to send one.
    """
    pairs = (pair.partition("=") for pair in element.split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _ipv4_if_mapped(network: Network) -> Network:
    """Convert a network of mapped IPv4 addresses, as `_address` does with each."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - 96))


@lru_cache(1024)  # the access log needs one for every request
def _network(text: str) -> str:
    address = _address(text)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), IPV6_PREFIX), strict=False))  # the number has no zone like %eth0
    return UNKNOWN if address is None else str(address)


@lru_cache(1024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address, with or without a port.

    IPv4 may be mapped to IPv6 (RFC 4291, section 2.5.5.2).
    """
    if with_port := _WITH_PORT.fullmatch(text):
        text = with_port[1] or with_port[2]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
