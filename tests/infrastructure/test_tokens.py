"""Access tokens: ours are read, and nothing else is, however close it comes.

Forgeries are signed here by hand, with the right key where it says nothing else, so that no library keeps us from
writing a bad one.
"""

import base64
import hashlib
import hmac
import json
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from application.views import Claims
from domain.users import InvalidToken
from infrastructure.tokens import JwtTokenCodec, key_id

KEY = "a key of sixty-four bytes, which is what HMAC with SHA-512 wants"
OLD_KEY = "the key before it, which is as long as that one, or a bit longer"
NOW = datetime(2026, 1, 1, 12, 0, 0, 750_000, UTC)
ISSUED = int(NOW.timestamp())
LIFETIME = timedelta(minutes=30)
ALGORITHMS = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
LARGEST_ID = 2**63 - 1

HEADER = {"alg": "HS256", "typ": "at+jwt", "kid": key_id(KEY)}
CLAIMS = {
    "iss": "agora",
    "aud": "agora",
    "sub": "7",
    "sid": "70",
    "iat": ISSUED,
    "exp": ISSUED + 1800,
    "jti": "unique",
}
SPOKEN_FOR = Claims(7, 70)

CODEC = JwtTokenCodec([KEY], "HS256", LIFETIME)
REAL = CODEC.issue(SPOKEN_FOR, NOW).access_token


def part(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def unpart(text: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=="))
    return value


def sign(header: object, claims: object, key: str = KEY, algorithm: str = "HS256") -> str:
    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{part(hmac.digest(key.encode(), signed.encode(), ALGORITHMS[algorithm]))}"


def without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {other: value for other, value in values.items() if other != name}


def refused(token: str, codec: JwtTokenCodec = CODEC) -> bool:
    with pytest.raises(InvalidToken):
        codec.read(token, NOW)
    return True


# Ours.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("claims", [Claims(1, LARGEST_ID), SPOKEN_FOR, Claims(LARGEST_ID, 1)])
def test_a_token_speaks_for_its_account_and_session(algorithm: str, claims: Claims) -> None:
    codec = JwtTokenCodec([KEY], algorithm, LIFETIME)
    assert codec.read(codec.issue(claims, NOW).access_token, NOW) == claims


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_token_has_the_documented_header_and_claims(algorithm: str) -> None:
    signed = JwtTokenCodec([KEY], algorithm, LIFETIME).issue(SPOKEN_FOR, NOW)
    header, claims, _ = signed.access_token.split(".")
    assert unpart(header) == {"alg": algorithm, "typ": "at+jwt", "kid": key_id(KEY)}
    told = unpart(claims)
    assert told == {**CLAIMS, "jti": told["jti"]}
    assert re.fullmatch("[A-Za-z0-9_-]{22}", told["jti"])
    assert signed.expires_in == 1800


def test_the_key_is_the_bytes_of_the_text_of_the_setting() -> None:
    assert CODEC.read(sign(HEADER, CLAIMS), NOW) == SPOKEN_FOR
    hexadecimal = "0123456789abcdef" * 4
    codec = JwtTokenCodec([hexadecimal], "HS256", LIFETIME)
    assert codec.read(sign({**HEADER, "kid": key_id(hexadecimal)}, CLAIMS, key=hexadecimal), NOW) == SPOKEN_FOR


def test_no_two_tokens_are_alike() -> None:
    assert CODEC.issue(SPOKEN_FOR, NOW).access_token != CODEC.issue(SPOKEN_FOR, NOW).access_token


def test_another_process_with_the_same_key_reads_it() -> None:
    assert JwtTokenCodec([KEY], "HS256", LIFETIME).read(REAL, NOW) == SPOKEN_FOR


# Time.


def test_a_token_is_valid_until_it_expires() -> None:
    expires = datetime.fromtimestamp(ISSUED + 1800, UTC)
    assert CODEC.read(REAL, expires - timedelta(microseconds=1)) == SPOKEN_FOR
    with pytest.raises(InvalidToken):
        CODEC.read(REAL, expires)


def test_a_clock_ahead_of_ours_by_ten_seconds_is_forgiven() -> None:
    assert CODEC.read(sign(HEADER, {**CLAIMS, "iat": ISSUED + 10}), NOW) == SPOKEN_FOR
    assert refused(sign(HEADER, {**CLAIMS, "iat": ISSUED + 11}))


def test_a_token_may_live_as_long_as_ours_and_no_longer() -> None:
    assert CODEC.read(sign(HEADER, {**CLAIMS, "iat": ISSUED - 900, "exp": ISSUED + 900}), NOW) == SPOKEN_FOR
    assert refused(sign(HEADER, {**CLAIMS, "iat": ISSUED - 901, "exp": ISSUED + 900}))
    assert refused(sign(HEADER, {**CLAIMS, "iat": 0}))


def test_a_token_does_not_expire_before_it_is_issued() -> None:
    assert CODEC.read(sign(HEADER, {**CLAIMS, "iat": ISSUED, "exp": ISSUED + 1}), NOW) == SPOKEN_FOR
    assert refused(sign(HEADER, {**CLAIMS, "iat": ISSUED + 1, "exp": ISSUED + 1}))
    assert refused(sign(HEADER, {**CLAIMS, "iat": ISSUED + 5, "exp": ISSUED + 1}))


def test_a_shorter_lifetime_ends_older_tokens_at_once() -> None:
    assert refused(REAL, JwtTokenCodec([KEY], "HS256", timedelta(minutes=29)))


def test_a_token_is_refused_until_the_moment_of_its_nbf() -> None:
    assert CODEC.read(sign(HEADER, {**CLAIMS, "nbf": 0}), NOW) == SPOKEN_FOR
    assert CODEC.read(sign(HEADER, {**CLAIMS, "nbf": ISSUED + 10}), NOW) == SPOKEN_FOR
    assert refused(sign(HEADER, {**CLAIMS, "nbf": ISSUED + 11}))
    assert refused(sign(HEADER, {**CLAIMS, "nbf": None}))
    assert refused(sign(HEADER, {**CLAIMS, "iat": ISSUED + 11, "nbf": 0}))


@pytest.mark.parametrize("name", ["iat", "exp"])
@pytest.mark.parametrize(
    "value",
    [True, False, None, ISSUED + 0.0, ISSUED + 1.5, str(ISSUED), [ISSUED], {}, -1, 0, 2**63, 2**70, -(2**70), 10**2000],
    ids=lambda value: str(value)[:20],
)
def test_moments_are_integers_and_near(name: str, value: object) -> None:
    assert refused(sign(HEADER, {**CLAIMS, name: value}))


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"1e999", b"1e9"])
def test_moments_are_no_floating_numbers(text: bytes) -> None:
    assert refused(sign(HEADER, json.dumps(CLAIMS).encode().replace(str(ISSUED + 1800).encode(), text)))


@pytest.mark.parametrize("moved", [2**31, 2**63, 2**70])
def test_a_token_of_the_far_future_is_refused(moved: int) -> None:
    assert refused(sign(HEADER, {**CLAIMS, "iat": ISSUED + moved, "exp": ISSUED + moved + 1800}))


# Claims.


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_is_required(name: str) -> None:
    assert refused(sign(HEADER, without(CLAIMS, name)))


@pytest.mark.parametrize("name", CLAIMS)
def test_no_claim_may_be_null(name: str) -> None:
    assert refused(sign(HEADER, {**CLAIMS, name: None}))


@pytest.mark.parametrize("name", ["iss", "aud"])
@pytest.mark.parametrize("value", ["", "Agora", "agora ", "other", ["agora"], ["agora", "other"], {"agora": 1}, 1])
def test_a_token_is_from_us_and_for_us(name: str, value: object) -> None:
    assert refused(sign(HEADER, {**CLAIMS, name: value}))


@pytest.mark.parametrize("name", ["sub", "sid"])
@pytest.mark.parametrize(
    "digits",
    ["0", "01", "-1", "+1", "", " ", "x", "1x", " 1", "1\n", "1_0", "1.0", "1e3", "9" * 20, "9" * 3000, "٣", "²", "\0"],
    ids=lambda digits: ascii(digits)[:20],
)
def test_an_account_and_a_session_are_numbers_in_their_only_form(name: str, digits: str) -> None:
    assert refused(sign(HEADER, {**CLAIMS, name: digits}))


@pytest.mark.parametrize("name", ["sub", "sid"])
@pytest.mark.parametrize("value", [7, 7.0, True, ["7"], {"7": 7}])
def test_an_account_and_a_session_are_text(name: str, value: object) -> None:
    assert refused(sign(HEADER, {**CLAIMS, name: value}))


@pytest.mark.parametrize("jti", [1, True, ["unique"]])
def test_a_token_id_is_text(jti: object) -> None:
    assert refused(sign(HEADER, {**CLAIMS, "jti": jti}))


@pytest.mark.parametrize("claims", [[], ["sub"], "7", 7, None, True, b"", b"{", b"\xff", b'{"sub": "7"', b"[" * 2500])
def test_claims_are_an_object(claims: object) -> None:
    assert refused(sign(HEADER, claims))


def test_claims_that_we_do_not_know_change_nothing() -> None:
    assert CODEC.read(sign(HEADER, {**CLAIMS, "role": "admin", "user_id": 8}), NOW) == SPOKEN_FOR


# Headers and signatures.


@pytest.mark.parametrize(
    "header",
    [
        without(HEADER, "typ"),
        {**HEADER, "typ": "JWT"},
        {**HEADER, "typ": "refresh+jwt"},
        {**HEADER, "typ": None},
        {**HEADER, "typ": ["at+jwt"]},
        {**HEADER, "crit": []},
        {**HEADER, "crit": ["exp"]},
        {**HEADER, "crit": ["b64"], "b64": False},
        {**HEADER, "crit": ["b64"], "b64": True},
        {**HEADER, "crit": None},
        {**HEADER, "b64": False},
        {**HEADER, "kid": 7},
        {**HEADER, "kid": None},
        {**HEADER, "kid": ""},
        {**HEADER, "kid": [key_id(KEY)]},
        {**HEADER, "kid": key_id(KEY).upper() + "0"},
        {**HEADER, "kid": "../../dev/null"},
        without(HEADER, "alg"),
        {**HEADER, "alg": None},
        {**HEADER, "alg": "hs256"},
        {**HEADER, "alg": "HS512"},
        {**HEADER, "alg": "RS256"},
        {**HEADER, "alg": ["HS256"]},
        [],
        "at+jwt",
        None,
        b"",
        b"{",
        b"\xff",
        b"[" * 2500,
    ],
    ids=lambda header: str(header)[:60],
)
def test_header_must_equal_that_of_issued_tokens(header: object) -> None:
    assert refused(sign(header, CLAIMS))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", ""])
@pytest.mark.parametrize("signature", ["", ".", ".AA"])
def test_an_unsigned_token_is_refused(alg: str, signature: str) -> None:
    assert refused(f"{part({**HEADER, 'alg': alg})}.{part(CLAIMS)}{signature}")


@pytest.mark.parametrize("theirs", ALGORITHMS)
@pytest.mark.parametrize("ours", ALGORITHMS)
def test_only_the_algorithm_of_the_settings_is_read(theirs: str, ours: str) -> None:
    codec, token = JwtTokenCodec([KEY], ours, LIFETIME), sign({**HEADER, "alg": theirs}, CLAIMS, algorithm=theirs)
    assert refused(token, codec) if theirs != ours else codec.read(token, NOW) == SPOKEN_FOR


@pytest.mark.parametrize("key", [KEY + " ", KEY[:-1], KEY.upper(), "x" * 64, ""])
def test_a_token_of_another_key_is_refused(key: str) -> None:
    for kid in (key_id(KEY), key_id(key), ""):
        assert refused(sign({**HEADER, "kid": kid}, CLAIMS, key=key))


@pytest.mark.parametrize("kid", ["1", key_id(KEY), key_id("their own key, of thirty-two bytes or more")])
def test_key_in_the_token_is_ignored(kid: str) -> None:
    theirs = "their own key, of thirty-two bytes or more"
    header = {**HEADER, "jwk": {"kty": "oct", "k": part(theirs.encode())}, "jku": "https://example.com/", "kid": kid}
    assert refused(sign(header, CLAIMS, key=theirs))


def test_a_token_of_the_key_before_is_read_and_none_is_signed_with_it() -> None:
    before, rotated = JwtTokenCodec([OLD_KEY], "HS256", LIFETIME), JwtTokenCodec([KEY, OLD_KEY], "HS256", LIFETIME)
    assert rotated.read(before.issue(SPOKEN_FOR, NOW).access_token, NOW) == SPOKEN_FOR
    fresh = rotated.issue(SPOKEN_FOR, NOW).access_token
    assert CODEC.read(fresh, NOW) == rotated.read(fresh, NOW) == SPOKEN_FOR
    assert refused(fresh, before)


def test_a_token_of_a_third_key_is_refused() -> None:
    rotated = JwtTokenCodec([KEY, OLD_KEY], "HS256", LIFETIME)
    third = "neither the one nor the other, yet long enough to be a real key!"
    for kid in (key_id(KEY), key_id(OLD_KEY), key_id(third)):
        assert refused(sign({**HEADER, "kid": kid}, CLAIMS, key=third), rotated)
    assert refused(sign({**HEADER, "kid": key_id(OLD_KEY)}, CLAIMS), rotated)


def test_key_id_does_not_reveal_the_key() -> None:
    assert re.fullmatch("[0-9a-f]{8}", key_id(KEY))
    assert key_id(KEY) != key_id(OLD_KEY)
    assert key_id(KEY) == key_id(KEY)


def test_a_signature_has_one_form() -> None:
    signed, _, signature = REAL.rpartition(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(signature[-1])
    assert last % 4 == 0  # 32 bytes leave two bits of the last character over, and ours are zero
    for other in range(last + 1, last + 4):
        twin = signature[:-1] + alphabet[other]
        assert base64.urlsafe_b64decode(twin + "=") == base64.urlsafe_b64decode(signature + "=")
        assert refused(f"{signed}.{twin}")
    assert refused(f"{REAL}=")
    assert refused(f"{signed}.{signature[:20]} {signature[20:]}")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_short_key_is_no_warning_at_every_token(algorithm: str) -> None:
    codec = JwtTokenCodec(["x" * 32], algorithm, LIFETIME)  # a warning would fail this test, as any other
    assert codec.read(codec.issue(SPOKEN_FOR, NOW).access_token, NOW) == SPOKEN_FOR


def test_parts_of_two_tokens_do_not_make_a_third() -> None:
    header, _, signature = REAL.split(".")
    _, other, other_signature = CODEC.issue(Claims(8, 80), NOW).access_token.split(".")
    assert refused(f"{header}.{other}.{signature}")
    assert refused(f"{header}.{REAL.split('.')[1]}.{other_signature}")


# Text that is no token at all.


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ".",
        "..",
        "...",
        "token",
        "a.b.c",
        "é.ü.ñ",
        "\0",
        "\ud800",
        "🔑" * 20,
        REAL + ".",
        REAL + "\ud800",
        "." + REAL,
        REAL + "." + REAL,
        REAL.replace(".", ".."),
        REAL.rpartition(".")[0],
        f"Bearer {REAL}",
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_other_text_is_refused(text: str) -> None:
    assert refused(text)


def test_a_token_over_four_thousand_characters_is_refused_unread() -> None:
    long = sign(HEADER, {**CLAIMS, "jti": "x" * 2000})
    assert CODEC.read(long, NOW) == SPOKEN_FOR
    too_long = sign(HEADER, {**CLAIMS, "jti": "x" * 4000})
    assert len(long) < 4096 < len(too_long)
    assert refused(too_long)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_refused_and_nothing_else_happens(text: str) -> None:
    assert refused(text)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=[]), max_size=40), st.sampled_from(range(4)))
def test_surrogates_and_dots_are_text_too(text: str, place: int) -> None:
    parts = REAL.split(".")
    parts.insert(place, text)
    assert refused(".".join(parts))


@settings(deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_that_are_signed_are_refused(header: bytes, claims: bytes) -> None:
    assert refused(sign(header, CLAIMS))
    assert refused(sign(HEADER, claims))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.sampled_from([*CLAIMS, "nbf"]), JSON)
def test_any_value_of_a_claim_is_read_or_refused(name: str, value: object) -> None:
    try:
        claims = CODEC.read(sign(HEADER, {**CLAIMS, name: value}), NOW)
    except InvalidToken:
        return
    assert str(claims.user_id) == (value if name == "sub" else "7")
    assert str(claims.session_id) == (value if name == "sid" else "70")


@settings(deadline=None)
@given(st.sampled_from(["alg", "typ", "crit", "kid", "b64", "jwk", "x5c", "zip", "cty"]), JSON)
def test_any_value_of_a_header_is_read_or_refused(name: str, value: object) -> None:
    with suppress(InvalidToken):
        assert CODEC.read(sign({**HEADER, name: value}, CLAIMS), NOW) == SPOKEN_FOR


@settings(deadline=None)
@given(st.integers(0, len(REAL) - 1), st.characters(exclude_categories=[]))
def test_one_character_changed_never_makes_it_speak_for_another(place: int, character: str) -> None:
    mutated = REAL[:place] + character + REAL[place + 1 :]
    with suppress(InvalidToken):
        assert CODEC.read(mutated, NOW) == SPOKEN_FOR


@settings(deadline=None)
@given(st.integers(0, len(REAL) - 1), st.integers(0, len(REAL)))
def test_a_piece_of_a_token_is_none(start: int, end: int) -> None:
    if (start, end) != (0, len(REAL)):
        assert refused(REAL[start:end])


def test_a_token_that_names_no_key_is_taken_for_the_present_keys() -> None:
    rotated = JwtTokenCodec([KEY, OLD_KEY], "HS256", LIFETIME)

    assert rotated.read(sign(without(HEADER, "kid"), CLAIMS), NOW) == SPOKEN_FOR
    assert refused(sign(without(HEADER, "kid"), CLAIMS, key=OLD_KEY), rotated)


def test_any_text_signs_even_one_that_looks_like_a_public_key() -> None:
    key = "-----BEGIN PUBLIC KEY-----\nof thirty-two bytes or more\n-----END PUBLIC KEY-----"
    codec = JwtTokenCodec([key], "HS256", LIFETIME)

    assert codec.read(codec.issue(Claims(7, 8), NOW).access_token, NOW) == Claims(7, 8)
