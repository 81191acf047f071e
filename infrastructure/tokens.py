"""Tokens: access tokens are JSON Web Tokens (RFC 7519, RFC 9068) signed with HMAC, refresh tokens are random."""

import re
import secrets
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Final

import jwt
from jwt.algorithms import HMACAlgorithm

from application.views import Claims, FreshRefreshToken, SignedToken
from domain.sessions import RefreshHashes
from domain.users import InvalidToken

ISSUER: Final = "agora"
TYPE: Final = "at+jwt"
CLAIMS: Final = ("iss", "aud", "sub", "iat", "exp", "jti", "sid")
LEEWAY_SECONDS: Final = 10
"""How far ahead of ours the clock of the server that signed a token may be."""

TOKEN_MAX: Final = 4_096
"""Characters in a token; ours have about 400."""

VERIFIED_MAX: Final = 10_000
"""Tokens whose signature is remembered as good: 10 MB at the most that they can take."""

ID_DIGITS: Final = 19
"""Digits in the largest id, 2^63 - 1."""

SECRET_BYTES: Final = 32
_REFRESH: Final = re.compile("([A-Za-z0-9_-]{43})([A-Za-z0-9_-]{43})")


class _Hmac(HMACAlgorithm):
    def prepare_key(self, key: str | bytes) -> bytes:
        """Take any bytes: the library refuses what looks like a public key, which no setting of ours is."""
        return key.encode() if isinstance(key, str) else key

    def check_key_length(self, key: bytes) -> str | None:  # noqa: ARG002 - the library's signature
        """Leave the key's length alone: the library would warn of it in the log; `Settings.warnings` tells it once."""
        return None


for _name, _function in {"HS256": _Hmac.SHA256, "HS384": _Hmac.SHA384, "HS512": _Hmac.SHA512}.items():
    jwt.unregister_algorithm(_name)
    jwt.register_algorithm(_name, _Hmac(_function))


class JwtTokenCodec:
    """Signs tokens with the present key and reads back what this key or the previous one signed.

    The algorithm is pinned and every claim is required and checked here (RFC 8725): left alone, PyJWT accepts a
    token that never expires.
    """

    def __init__(self, secret_key: str, previous_key: str | None, algorithm: str, lifetime: timedelta) -> None:
        self._kid = key_id(secret_key)
        self._keys = {key_id(key): key.encode() for key in (previous_key, secret_key) if key}
        self._algorithm = algorithm
        self._lifetime = int(lifetime.total_seconds())
        self._verified = lru_cache(maxsize=VERIFIED_MAX)(self._verify)

    def issue(self, claims: Claims, now: datetime) -> SignedToken:
        """Sign a token for a session."""
        issued = int(now.timestamp())
        payload = {
            "iss": ISSUER,
            "aud": ISSUER,
            "sub": str(claims.user_id),
            "sid": str(claims.session_id),
            "iat": issued,
            "exp": issued + self._lifetime,
            "jti": secrets.token_urlsafe(16),
        }
        headers = {"typ": TYPE, "kid": self._kid}
        return SignedToken(jwt.encode(payload, self._keys[self._kid], self._algorithm, headers), self._lifetime)

    def read(self, token: str, now: datetime) -> Claims:
        """Tell which account and session a token speaks for. One that names no key is taken for the present key's.

        A signature that was found good stays so, and is remembered for the tokens used last; the time is asked anew.

        Raises:
            InvalidToken: it is not ours, not whole, or no longer valid.
        """
        if len(token) > TOKEN_MAX:
            raise InvalidToken
        claims, issued, expires = self._verified(token)
        if not issued - LEEWAY_SECONDS <= now.timestamp() < expires:
            raise InvalidToken
        return claims

    def _verify(self, token: str) -> tuple[Claims, int, int]:
        """Check all of a token but the time: whose it is, when it was issued and when it expires."""
        try:
            whole = jwt.decode_complete(
                token,
                self._keys[jwt.get_unverified_header(token).get("kid", self._kid)],
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
        except (jwt.PyJWTError, LookupError, TypeError, ValueError, RecursionError):
            raise InvalidToken from None
        header, payload = whole["header"], whole["payload"]
        canonical = urlsafe_b64encode(whole["signature"]).rstrip(b"=").decode()
        if header.get("typ") != TYPE or "crit" in header or not token.endswith("." + canonical):
            raise InvalidToken
        issued, expires = payload["iat"], payload["exp"]
        if type(issued) is not int or type(expires) is not int:  # a bool is an int to isinstance
            raise InvalidToken
        if not 0 < expires - issued <= self._lifetime:
            raise InvalidToken
        return Claims(_id(payload["sub"]), _id(payload["sid"])), issued, expires


class RandomRefreshTokens:
    """Refresh tokens of two parts with 256 random bits each: one stays with its session, one is good for one use.

    The first finds the session of a token that was spent long ago, with no list of spent ones to keep. A fast hash
    is enough for what nobody can guess.
    """

    def first(self) -> FreshRefreshToken:
        """Make the first token of a new session."""
        return self._fresh(secrets.token_urlsafe(SECRET_BYTES))

    def next(self, token: str) -> FreshRefreshToken:
        """Make the token that follows another one in its family."""
        return self._fresh(self._parts(token)[0])

    def hashes(self, token: str) -> RefreshHashes:
        """Hash a token that was shown."""
        family, secret = self._parts(token)
        return RefreshHashes(_hash(family), _hash(secret))

    def _fresh(self, family: str) -> FreshRefreshToken:
        token = family + secrets.token_urlsafe(SECRET_BYTES)
        return FreshRefreshToken(token, self.hashes(token))

    @staticmethod
    def _parts(token: str) -> tuple[str, str]:
        found = _REFRESH.fullmatch(token)
        if found is None:
            raise InvalidToken
        return found[1], found[2]


def key_id(secret_key: str) -> str:
    """Name a key without telling it: the first 32 bits of its SHA-256 hash."""
    return sha256(secret_key.encode()).hexdigest()[:8]


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _id(digits: object) -> int:
    if not isinstance(digits, str) or not re.fullmatch(f"[1-9][0-9]{{0,{ID_DIGITS - 1}}}", digits):
        raise InvalidToken
    return int(digits)
