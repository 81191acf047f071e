"""Where a request comes from, as far as it can be believed."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

Network = IPv4Network | IPv6Network

UNKNOWN: Final = "unknown"
IPV6_PREFIX: Final = 64
"""Bits that name a subscriber's network (RFC 6177): the rest is theirs to change at will."""


class Proxies:
    """The proxies whose forwarding headers are believed, and nobody else's."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks: list[Network] = [ip_network(network, strict=False) for network in networks]

    def client(self, scope: Scope) -> str:
        """Tell the client's address; of an IPv6 address, its network.

        The chain of X-Forwarded-For is read from its end, where our own proxy wrote, and only as far as each hop is
        one of ours: what lies before the first stranger was written by that stranger.
        """
        peer = scope["client"][0] if scope.get("client") else UNKNOWN
        if not self._networks:
            return _network(peer)
        chain = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
        while self._is_ours(peer) and chain and chain[-1].strip():
            peer = chain.pop().strip()
        return _network(peer)

    def is_secure(self, scope: Scope) -> bool:
        """Tell whether the client came over TLS, to us or to a proxy of ours."""
        if scope.get("client") and self._is_ours(scope["client"][0]):
            return Headers(scope=scope).get("x-forwarded-proto", scope["scheme"]) == "https"
        return bool(scope["scheme"] == "https")

    def _is_ours(self, text: str) -> bool:
        if not self._networks:
            return False
        address = _address(text)
        return address is not None and any(address in network for network in self._networks)


@lru_cache(1024)  # every request's line in the log names one
def _network(text: str) -> str:
    address = _address(text)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), IPV6_PREFIX), strict=False))  # the number has no zone like %eth0
    return UNKNOWN if address is None else str(address)


@lru_cache(1024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address; a socket for both protocols shows IPv4 ones as IPv6 (RFC 4291, section 2.5.5.2)."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
