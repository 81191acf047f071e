"""Contract of token codecs."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from application.ports.services import RefreshTokens, TokenCodec
from application.views import Claims
from domain.users import InvalidToken
from infrastructure.tokens import DerivedRefreshTokens, JwtTokenCodec, RandomRefreshTokens
from tests.fakes.services import NumberedRefreshTokens, PlainTokens

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["plain", "jwt"])
def codec(request: pytest.FixtureRequest) -> TokenCodec:
    if request.param == "plain":
        return PlainTokens()
    return JwtTokenCodec(["a key of thirty-two bytes or more, for tests"], "HS256", timedelta(hours=1))


def test_a_token_names_the_session_it_was_issued_for(codec: TokenCodec) -> None:
    for claims in (Claims(1, 2**63 - 1), Claims(2**63 - 1, 1)):
        assert codec.read(codec.issue(claims, NOW).access_token, NOW) == claims


def test_a_token_lives_as_long_as_it_says(codec: TokenCodec) -> None:
    token = codec.issue(Claims(7, 8), NOW)
    end = NOW + timedelta(seconds=token.expires_in)

    assert codec.read(token.access_token, end - timedelta(seconds=1)) == Claims(7, 8)
    with pytest.raises(InvalidToken):
        codec.read(token.access_token, end)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "..", "é", "\ud800", "1", "1:", "0" * 10_000])
def test_anything_else_is_no_token(codec: TokenCodec, token: str) -> None:
    with pytest.raises(InvalidToken):
        codec.read(token, NOW)


KEYS = ["a key of thirty-two bytes or more, for tests", "another one"]


@pytest.fixture(params=[NumberedRefreshTokens, RandomRefreshTokens, partial(DerivedRefreshTokens, KEYS)])
def refresh_tokens(request: pytest.FixtureRequest) -> RefreshTokens:
    made: RefreshTokens = request.param()
    return made


def test_every_refresh_token_is_another_and_families_stay(refresh_tokens: RefreshTokens) -> None:
    first, other = refresh_tokens.first(), refresh_tokens.first()
    second = refresh_tokens.successors(first.token)[0]

    assert len({first.token, second.token, other.token}) == 3
    assert first.hashes.family == second.hashes.family != other.hashes.family
    assert first.hashes.secret != second.hashes.secret


def test_a_refresh_token_has_the_hashes_it_was_made_with(refresh_tokens: RefreshTokens) -> None:
    fresh = refresh_tokens.first()

    assert refresh_tokens.hashes(fresh.token) == fresh.hashes


@pytest.mark.parametrize("tokens", [NumberedRefreshTokens(), DerivedRefreshTokens(KEYS)])
def test_a_token_has_the_same_successor_every_time(tokens: RefreshTokens) -> None:
    token = tokens.first().token
    second = tokens.successors(token)

    assert tokens.successors(token) == second
    assert tokens.successors(second[0].token)[0] not in second


@pytest.mark.parametrize("token", ["", "x", "\ud800", "\xe9" * 86, "x" * 10_000])
def test_anything_else_is_no_refresh_token(refresh_tokens: RefreshTokens, token: str) -> None:
    with pytest.raises(InvalidToken):
        refresh_tokens.hashes(token)
    with pytest.raises(InvalidToken):
        refresh_tokens.successors(token)
