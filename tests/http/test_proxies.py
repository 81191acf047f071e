"""Client addresses and schemes, from the headers of trusted proxies alone."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interfaces.http.proxies import UNKNOWN, Proxies

OURS = Proxies(["10.0.0.0/8", "2001:db8:aaaa::/48"])
NO_PROXIES = Proxies([])
PROXY, OTHER_PROXY, PROXY_6 = "10.0.0.1", "10.0.0.2", "2001:db8:aaaa::1"
CLIENT, SPOOFED = "198.51.100.7", "203.0.113.9"


def request(
    peer: str | None,
    *forwarded: str | bytes,
    scheme: str = "http",
    proto: str | Sequence[str] | None = None,
    header: bytes = b"x-forwarded-for",
) -> dict[str, Any]:
    """Make the scope of a request that arrives from an address, with forwarding headers as given."""
    values = [value if isinstance(value, bytes) else value.encode() for value in forwarded]
    headers = [(header, value) for value in values]
    schemes = [] if proto is None else [proto] if isinstance(proto, str) else proto
    headers += [(b"x-forwarded-proto", value.encode()) for value in schemes]
    return {
        "type": "http",
        "scheme": scheme,
        "headers": headers,
        "client": None if peer is None else (peer, 50_000),
    }


# Without a proxy.


def test_the_client_is_who_connects() -> None:
    assert NO_PROXIES.client(request(CLIENT)) == CLIENT
    assert OURS.client(request(CLIENT)) == CLIENT


@pytest.mark.parametrize("proxies", [NO_PROXIES, OURS])
def test_what_a_stranger_writes_is_not_believed(proxies: Proxies) -> None:
    assert proxies.client(request(CLIENT, SPOOFED)) == CLIENT
    assert proxies.client(request(CLIENT, f"{SPOOFED}, {PROXY}")) == CLIENT


# Through proxies.


def test_a_proxy_of_ours_tells_the_client() -> None:
    assert OURS.client(request(PROXY, CLIENT)) == CLIENT
    assert OURS.client(request(PROXY_6, CLIENT)) == CLIENT
    assert NO_PROXIES.client(request(PROXY, CLIENT)) == PROXY


def test_a_chain_of_ours_is_followed_to_its_beginning() -> None:
    assert OURS.client(request(PROXY, f"{CLIENT}, {OTHER_PROXY}")) == CLIENT
    assert OURS.client(request(PROXY, f"{CLIENT},{PROXY_6} , {OTHER_PROXY}")) == CLIENT


def test_a_chain_may_be_spread_over_several_headers() -> None:
    assert OURS.client(request(PROXY, SPOOFED, CLIENT, OTHER_PROXY)) == CLIENT


def test_entries_before_the_first_untrusted_address_are_ignored() -> None:
    assert OURS.client(request(PROXY, f"{SPOOFED}, {CLIENT}")) == CLIENT
    assert OURS.client(request(PROXY, f"{SPOOFED}, {PROXY}, {CLIENT}, {OTHER_PROXY}")) == CLIENT


def test_chain_of_trusted_proxies_ends_at_its_first() -> None:
    assert OURS.client(request(PROXY)) == PROXY
    assert OURS.client(request(PROXY, "")) == PROXY
    assert OURS.client(request(PROXY, f"{OTHER_PROXY}, {PROXY}")) == OTHER_PROXY


@pytest.mark.parametrize(
    "garbage",
    ["unknown", "x", "1.2.3", "1.2.3.4.5", "010.0.0.1", "1.2.3.4:x", "[::1", "[1.2.3.4]", "\0", "\u00fc", "9" * 9_000],
)
def test_entry_that_is_no_address_is_an_unknown_client(garbage: str) -> None:
    assert OURS.client(request(PROXY, f"{SPOOFED}, {garbage}")) == UNKNOWN
    assert OURS.client(request(PROXY, f"{SPOOFED}, {garbage}, {OTHER_PROXY}")) == UNKNOWN


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_a_blank_entry_ends_the_chain_at_the_proxy_before_it(blank: str) -> None:
    assert OURS.client(request(PROXY, f"{SPOOFED},{blank}")) == PROXY
    assert OURS.client(request(PROXY, f"{SPOOFED},{blank},{OTHER_PROXY}")) == OTHER_PROXY


def test_without_an_address_the_client_is_unknown_and_untrusted() -> None:
    everybodys = Proxies(["0.0.0.0/0", "::/0"])
    for proxies in (NO_PROXIES, OURS, everybodys):
        assert proxies.client(request(None)) == UNKNOWN
        assert proxies.client(request(None, SPOOFED)) == UNKNOWN
        assert proxies.client(request("", SPOOFED)) == UNKNOWN


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_header_yields_an_address_or_unknown(values: list[bytes]) -> None:
    assert OURS.client(request(CLIENT, *values)) == CLIENT
    found = OURS.client(request(PROXY, *values))
    assert found == UNKNOWN or Proxies([found])


# Forms of addresses.


@pytest.mark.parametrize("address", ["2001:db8:1:2::1", "2001:db8:1:2:ffff::", "2001:DB8:1:2:3:4:5:6"])
def test_of_an_ipv6_address_its_network_counts(address: str) -> None:
    assert NO_PROXIES.client(request(address)) == "2001:db8:1:2::/64"
    assert OURS.client(request(PROXY, address)) == "2001:db8:1:2::/64"


def test_neighbouring_networks_are_told_apart() -> None:
    assert NO_PROXIES.client(request("2001:db8:1:3::1")) != NO_PROXIES.client(request("2001:db8:1:2::1"))


@pytest.mark.parametrize("zone", ["%eth0", "%1", "%anything at all"])
def test_a_zone_makes_no_other_client(zone: str) -> None:
    assert NO_PROXIES.client(request(f"fe80::1{zone}")) == NO_PROXIES.client(request("fe80::1")) == "fe80::/64"


def test_an_ipv4_address_in_an_ipv6_one_is_the_ipv4_one() -> None:
    assert NO_PROXIES.client(request(f"::ffff:{CLIENT}")) == CLIENT
    assert OURS.client(request(PROXY, f"::ffff:{CLIENT}")) == CLIENT
    assert OURS.client(request(f"::ffff:{PROXY}", f"{CLIENT}, ::ffff:{OTHER_PROXY}")) == CLIENT


@pytest.mark.parametrize(
    ("written", "client"),
    [
        (f"{CLIENT}:50000", CLIENT),
        ("2001:db8::1", "2001:db8::/64"),
        ("[2001:db8::1]", "2001:db8::/64"),
        ("[2001:db8::1]:443", "2001:db8::/64"),
        (f"[::ffff:{CLIENT}]:443", CLIENT),
        (f"{CLIENT}:_port", CLIENT),
    ],
)
def test_an_address_may_have_a_port_and_brackets(written: str, client: str) -> None:
    assert OURS.client(request(PROXY, written)) == client
    assert OURS.client(request(PROXY, f"{written}, {OTHER_PROXY}:443, [{PROXY_6}]:80")) == client


@pytest.mark.parametrize("network", ["::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "::ffff:a00:1/128"])
def test_network_mapped_to_ipv6_is_the_ipv4_one(network: str) -> None:
    assert Proxies([network]).client(request(PROXY, CLIENT)) == CLIENT
    assert Proxies([network]).client(request(f"::ffff:{PROXY}", CLIENT)) == CLIENT
    assert Proxies([network]).client(request("11.0.0.1", CLIENT)) == "11.0.0.1"


def test_one_address_is_a_network_too_and_its_last_bits_do_not_matter() -> None:
    assert Proxies(["192.0.2.1"]).client(request("192.0.2.1", CLIENT)) == CLIENT
    assert Proxies(["192.0.2.1"]).client(request("192.0.2.2", CLIENT)) == "192.0.2.2"
    assert Proxies(["192.0.2.9/24"]).client(request("192.0.2.2", CLIENT)) == CLIENT


# TLS.


@pytest.mark.parametrize(("scheme", "secure"), [("https", True), ("http", False)])
def test_a_connection_without_a_proxy_is_as_secure_as_itself(scheme: str, *, secure: bool) -> None:
    for proto in (None, "https", "http"):
        assert OURS.is_secure(request(CLIENT, scheme=scheme, proto=proto)) is secure
        assert OURS.is_secure(request(None, scheme=scheme, proto=proto)) is secure
        assert NO_PROXIES.is_secure(request(PROXY, scheme=scheme, proto=proto)) is secure


@pytest.mark.parametrize(
    ("proto", "secure"),
    [
        ("https", True),
        ("HTTPS", True),
        ("https, https", True),
        (["https", "https"], True),
        (["http", " Https "], True),
        ("http", False),
        ("", False),
        ("wss", False),
        ("https, http", False),
        ("https,", False),
    ],
)
def test_a_proxy_of_ours_tells_whether_the_client_came_over_tls(proto: str | list[str], *, secure: bool) -> None:
    assert OURS.is_secure(request(PROXY, proto=proto)) is secure
    assert OURS.is_secure(request(f"::ffff:{PROXY}", proto=proto)) is secure


def test_without_forwarded_proto_the_scheme_of_the_connection_counts() -> None:
    assert OURS.is_secure(request(PROXY)) is False
    assert OURS.is_secure(request(PROXY, scheme="https")) is True


@pytest.mark.parametrize(("proto", "secure"), [("https, http", True), ("http, https", False), ("https", True)])
def test_scheme_of_the_hop_from_the_client_counts(proto: str, *, secure: bool) -> None:
    assert OURS.is_secure(request(PROXY, f"{SPOOFED}, {CLIENT}, {OTHER_PROXY}", proto=f"{proto}")) is secure
    assert OURS.is_secure(request(PROXY, f"{SPOOFED}, {CLIENT}, {OTHER_PROXY}", proto=proto.split(","))) is secure


# Forwarded (RFC 7239).

BY_RFC = Proxies(["10.0.0.0/8", "2001:db8:aaaa::/48"], "Forwarded")


def forwarded(*lines: str, proto: str | None = None) -> dict[str, Any]:
    return request(PROXY, *lines, header=b"forwarded", proto=proto)


@pytest.mark.parametrize(
    ("line", "client", "secure"),
    [
        (f"for={CLIENT};proto=https;by=10.0.0.1", CLIENT, True),
        (f'Proto="HTTPS" ; For="{CLIENT}:4711"', CLIENT, True),
        ('for="[2001:db8::1]:4711";proto=http', "2001:db8::/64", False),
        (f"for={CLIENT}", CLIENT, False),
        (f"for={SPOOFED};proto=https, for={CLIENT};proto=http, for={OTHER_PROXY};proto=https", CLIENT, False),
        (f"for={SPOOFED};proto=http,for={CLIENT};proto=https,for={OTHER_PROXY};proto=http", CLIENT, True),
        (f'for=", for={CLIENT};proto=https', CLIENT, True),
        (f'for="{SPOOFED}, for={CLIENT}', CLIENT, False),
        (f"for={SPOOFED}, for=unknown", UNKNOWN, False),
        (f"for={SPOOFED}, for=_hidden", UNKNOWN, False),
        (f"for={SPOOFED}, proto=https", PROXY, True),
        ("", PROXY, False),
        ("=;;=,;", PROXY, False),
    ],
)
def test_forwarded_names_client_and_scheme(line: str, client: str, *, secure: bool) -> None:
    assert BY_RFC.client(forwarded(line)) == client
    assert BY_RFC.is_secure(forwarded(line)) is secure
    assert BY_RFC.client(forwarded(*line.split(","))) == client


def test_the_last_hops_alone_are_read() -> None:
    for hops, client in ((49, CLIENT), (50, PROXY)):
        assert OURS.client(request(PROXY, ", ".join([CLIENT, *[PROXY] * hops]))) == client
        line = ", ".join(f"for={address}" for address in [CLIENT, *[PROXY] * hops])
        assert BY_RFC.client(forwarded(line)) == client


def test_only_the_header_of_the_setting_is_read() -> None:
    assert OURS.client(forwarded(f"for={SPOOFED};proto=https")) == PROXY
    assert OURS.is_secure(forwarded(f"for={SPOOFED};proto=https")) is False
    assert BY_RFC.client(request(PROXY, SPOOFED, proto="https")) == PROXY
    assert BY_RFC.is_secure(request(PROXY, SPOOFED, proto="https")) is False
    assert BY_RFC.client(request(CLIENT, f"for={SPOOFED}", header=b"forwarded")) == CLIENT


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_forwarded_header_yields_an_address_or_unknown(values: list[bytes]) -> None:
    found = BY_RFC.client(request(PROXY, *values, header=b"forwarded"))
    assert found == UNKNOWN or Proxies([found])
