"""Access tokens, which are signed (RFC 7519, RFC 9068), and refresh tokens."""

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
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
"""Tolerated difference between the clocks of the issuing server and this one."""

TOKEN_MAX: Final = 4_096
"""Characters in a token; issued ones have about 400."""

VERIFIED_MAX: Final = 10_000
"""Verified tokens in the cache: at most 10 MB."""

ID_DIGITS: Final = 19
"""Digits in the largest id, 2^63 - 1."""

SECRET_BYTES: Final = 32
_REFRESH: Final = re.compile("([A-Za-z0-9_-]{43})([A-Za-z0-9_-]{43})")


class _Hmac(HMACAlgorithm):
    def prepare_key(self, key: str | bytes) -> bytes:
        """Accept any bytes: PyJWT refuses keys that look like public keys."""
        return key.encode() if isinstance(key, str) else key

    def check_key_length(self, key: bytes) -> str | None:  # noqa: ARG002 - the library's signature
        """Skip PyJWT's warning about short keys; `Settings.warnings` gives it once."""
        return None


for _name, _function in {"HS256": _Hmac.SHA256, "HS384": _Hmac.SHA384, "HS512": _Hmac.SHA512}.items():
    jwt.unregister_algorithm(_name)
    jwt.register_algorithm(_name, _Hmac(_function))


class JwtTokenCodec:
    """Signs tokens with the first key, the current one; the others only verify.

    The algorithm is pinned and every claim is required and checked here (RFC 8725): by default, PyJWT accepts a
    token that never expires.
    """

    def __init__(self, secret_keys: Sequence[str], algorithm: str, lifetime: timedelta) -> None:
        self._kid = key_id(secret_keys[0])
        self._keys = {key_id(key): key.encode() for key in reversed(secret_keys)}
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
        """Verify a token and return its account and session.

        Without a `kid`, the current key is assumed. Verified signatures are cached for the most
        recently used tokens; the times are checked on every call.

        Raises:
            InvalidToken: the token was not issued here, is malformed or has expired.
        """
        if len(token) > TOKEN_MAX:
            raise InvalidToken
        claims, begins, expires = self._verified(token)
        if not begins - LEEWAY_SECONDS <= now.timestamp() < expires:
            raise InvalidToken
        return claims

    def _verify(self, token: str) -> tuple[Claims, int, int]:
        """Verify a token except for its times, which are returned."""
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
                    "verify_exp": False,  # in `read`, by the clock of the caller
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
        begins = payload.get("nbf", issued)
        if {type(issued), type(begins), type(expires)} != {int}:  # a bool is an int to isinstance
            raise InvalidToken
        if not 0 < expires - issued <= self._lifetime:
            raise InvalidToken
        return Claims(_id(payload["sub"]), _id(payload["sid"])), max(issued, begins), expires


class RandomRefreshTokens:
    """Refresh tokens of two random parts: one per session, one per use.

    Each part has 256 bits. The first part finds the session of a token that was used long ago, without
    a list of used tokens. A fast hash suffices, as random bits cannot be guessed.
    """

    def first(self) -> FreshRefreshToken:
        """Generate the first token of a session."""
        return self._fresh(secrets.token_urlsafe(SECRET_BYTES), secrets.token_bytes(SECRET_BYTES))

    def successors(self, token: str) -> Sequence[FreshRefreshToken]:
        """Generate a successor of a token, in the same family."""
        return [self._fresh(self._parts(token)[0], secrets.token_bytes(SECRET_BYTES))]

    def hashes(self, token: str) -> RefreshHashes:
        """Hash both parts of a token."""
        family, secret = self._parts(token)
        return RefreshHashes(_hash(family), _hash(secret))

    def _fresh(self, family: str, secret: bytes) -> FreshRefreshToken:
        token = family + urlsafe_b64encode(secret).rstrip(b"=").decode()
        return FreshRefreshToken(token, self.hashes(token))

    @staticmethod
    def _parts(token: str) -> tuple[str, str]:
        found = _REFRESH.fullmatch(token)
        if found is None:
            raise InvalidToken
        return found[1], found[2]


class DerivedRefreshTokens(RandomRefreshTokens):
    """Refresh tokens with one successor each, for refreshes that are repeated.

    It is an HMAC of the token: storage still holds hashes only, and a token alone does not yield the next. The
    candidates under the previous secret key are for repeats during a rotation of keys.
    """

    def __init__(self, secret_keys: Sequence[str]) -> None:
        self._keys = [sha256(b"refresh\0" + key.encode()).digest() for key in secret_keys]

    def successors(self, token: str) -> Sequence[FreshRefreshToken]:
        """Derive the successor of a token under each key, the current one first."""
        family = self._parts(token)[0]
        return [self._fresh(family, hmac.digest(key, token.encode(), "sha256")) for key in self._keys]


def key_id(secret_key: str) -> str:
    """Identify a key without revealing it: the first 32 bits of its SHA-256 hash."""
    return sha256(secret_key.encode()).hexdigest()[:8]


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _id(digits: object) -> int:
    if not isinstance(digits, str) or not re.fullmatch(f"[1-9][0-9]{{0,{ID_DIGITS - 1}}}", digits):
        raise InvalidToken
    return int(digits)
