"""What every token codec promises."""

from datetime import UTC, datetime, timedelta

import pytest

from application.ports import TokenCodec
from domain.users import InvalidToken
from infrastructure.tokens import JwtTokenCodec
from tests.fakes import PlainTokens

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["plain", "jwt"])
def codec(request: pytest.FixtureRequest) -> TokenCodec:
    if request.param == "plain":
        return PlainTokens()
    return JwtTokenCodec("a key of thirty-two bytes or more, for tests", "HS256", timedelta(hours=1))


def test_a_token_names_the_account_it_was_issued_for(codec: TokenCodec) -> None:
    for user_id in (1, 2**63 - 1):
        assert codec.read(codec.issue(user_id, NOW).access_token, NOW) == user_id


def test_a_token_lives_as_long_as_it_says(codec: TokenCodec) -> None:
    token = codec.issue(7, NOW)
    end = NOW + timedelta(seconds=token.expires_in)

    assert codec.read(token.access_token, end - timedelta(seconds=1)) == 7
    with pytest.raises(InvalidToken):
        codec.read(token.access_token, end)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "..", "é", "\ud800", "1", "1:", "0" * 10_000])
def test_anything_else_is_no_token(codec: TokenCodec, token: str) -> None:
    with pytest.raises(InvalidToken):
        codec.read(token, NOW)
