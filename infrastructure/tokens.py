"""Access tokens: JSON Web Tokens (RFC 7519), typed as RFC 9068 has it, signed with HMAC."""

import secrets
from datetime import datetime, timedelta
from typing import Any, Final

import jwt

from application.views import SignedToken
from domain.users import InvalidToken

ISSUER: Final = "agora"
TYPE: Final = "at+jwt"
CLAIMS: Final = ("iss", "aud", "sub", "iat", "exp", "jti")
LEEWAY_SECONDS: Final = 10
"""How far ahead of ours the clock of the server that signed a token may be."""

TOKEN_MAX: Final = 4_096
"""Characters in a token; ours have about 350."""

SUBJECT_DIGITS: Final = 19
"""Digits in the largest id, 2^63 - 1."""


class JwtTokenCodec:
    """Signs tokens and reads back its own.

    The algorithm is pinned and every claim is required and checked here (RFC 8725): left alone, PyJWT accepts a
    token that never expires.
    """

    def __init__(self, secret_key: str, algorithm: str, lifetime: timedelta) -> None:
        self._key = secret_key.encode()
        self._algorithm = algorithm
        self._lifetime = int(lifetime.total_seconds())

    def issue(self, user_id: int, now: datetime) -> SignedToken:
        """Sign a token for an account."""
        issued = int(now.timestamp())
        claims = {
            "iss": ISSUER,
            "aud": ISSUER,
            "sub": str(user_id),
            "iat": issued,
            "exp": issued + self._lifetime,
            "jti": secrets.token_urlsafe(16),
        }
        return SignedToken(jwt.encode(claims, self._key, self._algorithm, {"typ": TYPE}), self._lifetime)

    def read(self, token: str, now: datetime) -> int:
        """Tell which account a token speaks for.

        Raises:
            InvalidToken: it is not ours, not whole, or no longer valid.
        """
        if len(token) > TOKEN_MAX:
            raise InvalidToken
        try:
            whole = jwt.decode_complete(
                token,
                self._key,
                [self._algorithm],
                audience=ISSUER,
                issuer=ISSUER,
                options={
                    "require": list(CLAIMS),
                    "strict_aud": True,
                    "verify_exp": False,  # by our clock, below
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise InvalidToken from None
        header, claims = whole["header"], whole["payload"]
        if header.get("typ") != TYPE or "crit" in header:
            raise InvalidToken
        self._require_current(claims, now.timestamp())
        return _subject(claims["sub"])

    def _require_current(self, claims: dict[str, Any], now: float) -> None:
        issued, expires = claims["iat"], claims["exp"]
        if type(issued) is not int or type(expires) is not int:  # a bool is an int to isinstance
            raise InvalidToken
        if not issued - LEEWAY_SECONDS <= now < expires or not 0 < expires - issued <= self._lifetime:
            raise InvalidToken


def _subject(subject: str) -> int:
    if not (subject.isascii() and subject.isdigit() and len(subject) <= SUBJECT_DIGITS and subject[0] != "0"):
        raise InvalidToken
    return int(subject)
