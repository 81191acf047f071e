"""Signing in, and knowing who is asking."""

from dataclasses import dataclass

from application.ports import Clock, PasswordHasher, TokenCodec, UserReader
from application.views import SignedToken
from domain.errors import Invalid
from domain.users import AccountInactive, Actor, InvalidCredentials, InvalidToken, email_key


@dataclass(frozen=True, slots=True)
class SignIn:
    """Exchange an e-mail and a password for an access token.

    Whatever is wrong, one verification is paid for, so that the time it took tells nothing; that an account is
    deactivated is told only to somebody who knows its password.
    """

    users: UserReader
    hasher: PasswordHasher
    tokens: TokenCodec
    clock: Clock

    def __call__(self, email: str, password: str) -> SignedToken:
        """Sign in.

        Raises:
            InvalidCredentials: no account has this e-mail, or the password is not its.
            AccountInactive: the account has been deactivated.
        """
        try:
            account = self.users.find_account(email_key(email))
        except Invalid:
            account = None
        known = self.hasher.verify(password, account.password_hash if account else None)
        if account is None or not known:
            raise InvalidCredentials
        if not account.is_active:
            raise AccountInactive
        return self.tokens.issue(account.id, self.clock.now())


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Tell who is asking. The account is looked up each time: what happens to it holds on the next request."""

    users: UserReader
    tokens: TokenCodec
    clock: Clock

    def __call__(self, access_token: str) -> Actor:
        """Identify the caller.

        Raises:
            InvalidToken: the token is bad or expired, or its account is gone or deactivated.
        """
        actor = self.users.find_actor(self.tokens.read(access_token, self.clock.now()))
        if actor is None:
            raise InvalidToken
        return actor
