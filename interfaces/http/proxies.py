"""The client's address and scheme, from the forwarding headers of trusted proxies."""

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
IPV6_PREFIX: Final = 64
"""Bits of a subscriber's network (RFC 6177): the subscriber can change the rest at will."""


class Proxies:
    """Trusts the forwarding headers of these proxies, and of no other peer."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks: list[Network] = [ip_network(network, strict=False) for network in networks]

    def client(self, scope: Scope) -> str:
        """Get the client's address; of an IPv6 address, its network.

        X-Forwarded-For is read from its end, where the nearest proxy appends, and only as long as each hop is a
        trusted proxy: the first other hop may have written anything before it.
        """
        peer = scope["client"][0] if scope.get("client") else UNKNOWN
        if not self._networks:
            return _network(peer)
        chain = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
        while self._is_trusted(peer) and chain and chain[-1].strip():
            peer = chain.pop().strip()
        return _network(peer)

    def is_secure(self, scope: Scope) -> bool:
        """Test whether the client used TLS, to this server or to a trusted proxy."""
        if scope.get("client") and self._is_trusted(scope["client"][0]):
            return Headers(scope=scope).get("x-forwarded-proto", scope["scheme"]) == "https"
        return bool(scope["scheme"] == "https")

    def _is_trusted(self, text: str) -> bool:
        if not self._networks:
            return False
        address = _address(text)
        return address is not None and any(address in network for network in self._networks)


@lru_cache(1024)  # the access log needs one for every request
def _network(text: str) -> str:
    address = _address(text)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), IPV6_PREFIX), strict=False))  # the number has no zone like %eth0
    return UNKNOWN if address is None else str(address)


@lru_cache(1024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address; IPv4 may be mapped to IPv6 (RFC 4291, section 2.5.5.2)."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
