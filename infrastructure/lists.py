"""Settings that are lists: how they are written, and what is equivalent in them."""

import json
import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import idna

from domain.users import USERNAME_PATTERN

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

PORTS: Final = range(1, 65_536)

WITHOUT_PAGES: Final = frozenset({"file", "ftp", "ws", "wss"})
"""Schemes that are never a page's origin."""

MAPPED: Final = IPv6Network("::ffff:0:0/96")
"""IPv4 addresses mapped to IPv6 (RFC 4291, section 2.5.5.2)."""

_ORIGIN: Final = re.compile(r"(?i)([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\s/?#@:\[\]]+)(?::([0-9]{1,5}))?/?")
_HOST: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?")


def entries(text: str) -> tuple[str, ...]:
    """Split a list that is written with commas or as JSON.

    Raises:
        ValueError: it begins like a JSON list and is none of texts.
    """
    found: object = text.split(",")
    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except (RecursionError, ValueError):
            found = None
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        raise ValueError("this is no JSON list of texts; separate the entries by commas")
    return tuple(entry.strip() for entry in found if entry.strip())


def web_origins(values: tuple[str, ...]) -> tuple[str, ...]:
    """Write origins as browsers send them: lower case, IDN in ASCII, no default port.

    Raises:
        ValueError: an entry is no origin, so no page could have it.
    """
    return tuple(dict.fromkeys(_origin(value, which) for which, value in enumerate(values, start=1)))


def networks(values: tuple[str, ...]) -> tuple[str, ...]:
    """Write networks in their canonical form, IPv4 that is mapped to IPv6 as IPv4.

    Raises:
        ValueError: an entry is neither an address nor a network.
    """
    return tuple(dict.fromkeys(_network(value, which) for which, value in enumerate(values, start=1)))


def header_names(values: tuple[str, ...]) -> tuple[str, ...]:
    """Check names of HTTP headers.

    Raises:
        ValueError: an entry is no name, or `*`, which browsers do not apply to every header.
    """
    for which, value in enumerate(values, start=1):
        if not re.fullmatch("[A-Za-z0-9_-]+", value):
            raise ValueError(f"entry {which} is no header's name: write letters, digits, - and _")
    return values


def usernames(values: tuple[str, ...]) -> tuple[str, ...]:
    """Write usernames as keys, in lower case.

    Raises:
        ValueError: an entry is no username, so no account could have it.
    """
    for which, value in enumerate(values, start=1):
        if not re.fullmatch(USERNAME_PATTERN, value):
            raise ValueError(f"entry {which} is no username of 3 to 32 letters without accents, digits and underscores")
    return tuple(dict.fromkeys(value.lower() for value in values))


def _origin(value: str, which: int) -> str:
    if value == "*":
        return value
    parts = _ORIGIN.fullmatch(value)
    host = _host(parts[2]) if parts else None
    if parts is None or host is None or parts[1].lower() in WITHOUT_PAGES or int(parts[3] or 1) not in PORTS:
        raise ValueError(
            f"entry {which} is no origin; write only a scheme, a host and, if it is not the usual one, a port, like"
            " https://app.example.com:8443, or * for all"
        )
    scheme, port = parts[1].lower(), int(parts[3] or 0)
    return f"{scheme}://{host}" + (f":{port}" if port and port != DEFAULT_PORTS.get(scheme) else "")


def _host(host: str) -> str | None:
    """Write a host as browsers do (IDNA 2008 by UTS 46); None if it is none."""
    try:
        if host.startswith("["):
            return f"[{IPv6Address(host[1:-1])}]"
        host = host.lower() if host.isascii() else idna.encode(host, uts46=True).decode()
        if host.rstrip(".").rpartition(".")[2].isdigit():
            return str(ip_address(host))
    except ValueError:  # of which IDNAError is a kind
        return None
    return host if _HOST.fullmatch(host) else None


def _network(value: str, which: int) -> str:
    try:
        network: IPv4Network | IPv6Network = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"entry {which} is neither an address nor a network like 10.0.0.0/8") from None
    if isinstance(network, IPv6Network) and network.subnet_of(MAPPED):
        network = IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - 96))
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
