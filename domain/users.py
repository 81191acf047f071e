"""People: who they are, who is asking, and the rules for e-mail, username and password."""

import re
import unicodedata
from collections.abc import Container
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from domain.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from domain.text import is_storable

EMAIL_MAX: Final = 254
"""Characters in an e-mail address: RFC 5321's limit of 256 octets for a path, less its angle brackets."""

EMAIL_INPUT_MAX: Final = 4 * EMAIL_MAX
"""Characters that are normalised at all. NFC composes at most four code points into one (Unicode TR 15), and its time
grows with the square of a run of combining marks: a longer text cannot become an address, and would be costly."""

PASSWORD_MIN: Final = 8
PASSWORD_MAX: Final = 128
USERNAME_PATTERN: Final = r"^[A-Za-z0-9_]{3,32}$"

_USERNAME = re.compile(r"[A-Za-z0-9_]{3,32}")


class EmailTaken(Conflict):
    code = "email-taken"

    def __init__(self) -> None:
        super().__init__("this e-mail is already registered; sign in, or register with another one")


class UsernameTaken(Conflict):
    code = "username-taken"

    def __init__(self) -> None:
        super().__init__("this username belongs to somebody else; choose another one")


class UserNotFound(NotFound):
    code = "user-not-found"

    def __init__(self, who: int | str) -> None:
        super().__init__(f"user with {'id' if isinstance(who, int) else 'e-mail'}: {who} not found")


class NotAuthenticated(Unauthenticated):
    code = "not-authenticated"

    def __init__(self) -> None:
        super().__init__("sign in and send the access token as: Authorization: Bearer <token>")


class InvalidToken(Unauthenticated):
    """One error for every bad token, so that it tells a forger nothing."""

    code = "invalid-token"

    def __init__(self) -> None:
        super().__init__("the token is not valid, or no longer; sign in again")


class InvalidCredentials(Forbidden):
    """One error for an unknown e-mail and for a wrong password, so that it tells nobody who is registered."""

    code = "invalid-credentials"

    def __init__(self) -> None:
        super().__init__("e-mail or password is wrong")


class AccountInactive(Forbidden):
    """Told only to somebody who knows the password."""

    code = "account-inactive"

    def __init__(self) -> None:
        super().__init__("this account has been deactivated; ask an administrator")


class AdminsOnly(Forbidden):
    code = "admins-only"

    def __init__(self) -> None:
        super().__init__("only administrators may do this")


class LastAdmin(Conflict):
    code = "last-admin"

    def __init__(self) -> None:
        super().__init__("this is the last active administrator; make somebody else one first")


class Role(StrEnum):
    """What an account may do beyond its own things."""

    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who is asking: the identity behind one request, as fresh as that request, and the session it came in."""

    id: int
    role: Role = Role.USER
    session_id: int = 0

    @property
    def is_admin(self) -> bool:
        """Whether the actor is an administrator."""
        return self.role is Role.ADMIN

    def require_admin(self) -> None:
        """Let administrators pass.

        Raises:
            AdminsOnly: the actor is not one.
        """
        if not self.is_admin:
            raise AdminsOnly


ANONYMOUS: Final = Actor(id=0)
"""Somebody who did not sign in. Ids start at 1, so nothing is ever theirs."""

OPERATOR: Final = Actor(id=0, role=Role.ADMIN)
"""Somebody at a shell of the machine. Whoever has the settings can do more than any administrator, account or none."""


@dataclass(frozen=True, slots=True)
class User:
    """An account. Its e-mail and username are kept as they were given and are unique by their keys."""

    id: int
    email: str
    username: str | None
    password_hash: str
    role: Role
    is_active: bool
    created_at: datetime

    @classmethod
    def register(cls, *, email: str, username: str | None, role: Role, now: datetime) -> "User":
        """Make a new, active account, with no password yet; storage gives it its id.

        Raises:
            Invalid: the e-mail or the username breaks a rule.
        """
        user = cls(0, "", None, password_hash="", role=role, is_active=True, created_at=now).with_email(email)
        return user if username is None else user.with_username(username)

    def with_id(self, user_id: int) -> "User":
        """Give the account the id that storage chose."""
        return replace(self, id=user_id)

    def with_password(self, password_hash: str) -> "User":
        """Give the account a password, as its hash."""
        return replace(self, password_hash=password_hash)

    def with_email(self, email: str) -> "User":
        """Give the account another e-mail.

        Raises:
            Invalid: it is no e-mail address.
        """
        email = email.strip()
        email_key(email)
        return replace(self, email=email)

    def with_username(self, username: str) -> "User":
        """Give the account a username.

        Raises:
            Invalid: it breaks the rule for usernames.
        """
        if not _USERNAME.fullmatch(username):
            raise Invalid(
                "username",
                "string_pattern_mismatch",
                "a username has 3 to 32 characters: letters without accents, digits and underscores",
            )
        return replace(self, username=username)

    @property
    def is_active_admin(self) -> bool:
        """Whether the account can do what only administrators can."""
        return self.is_active and self.role is Role.ADMIN

    @property
    def email_key(self) -> str:
        """The form of the e-mail that is unique."""
        return email_key(self.email)

    @property
    def obvious_passwords(self) -> set[str]:
        """What somebody who knows the account would try first, case-folded."""
        return {text.casefold() for text in (self.email, self.username) if text}

    @property
    def username_key(self) -> str | None:
        """The form of the username that is unique, if it has one."""
        return None if self.username is None else self.username.lower()


def email_key(email: str) -> str:
    """Fold an e-mail address to the form by which accounts are told apart.

    Trimmed, in Unicode's NFC, its domain in IDNA (RFC 3490, the standard library's), the whole case-folded: two
    addresses that a person would take for one are one account. Whether mail can reach it is not asked here.

    Raises:
        Invalid: it has no such form.
    """
    address = email.strip()
    address = unicodedata.normalize("NFC", address) if len(address) <= EMAIL_INPUT_MAX else ""
    local, at, domain = address.rpartition("@")
    if len(address) <= EMAIL_MAX and local and at and domain and is_storable(address):
        try:
            return local.casefold() + "@" + domain.encode("idna").decode("ascii").casefold()
        except UnicodeError:
            pass
    raise Invalid("email", "value_error", "this is not an e-mail address")


def require_password(password: str, owner: User, common: Container[str], field: str = "password") -> None:
    """Accept a password of 8 to 128 characters, any characters but U+0000 and lone surrogates, that is no easy guess.

    Nothing is trimmed or normalised: what people type is what they have to type again. The bounds are those of
    OWASP ASVS 5.0, 6.2.1 and 6.2.9, which asks for at least 64 at the upper end. Refused as guesses are passwords
    that everybody uses (6.2.4), and the e-mail and username of the account itself, whatever their case (6.2.11).

    Raises:
        Invalid: it breaks a rule; the message says which and never repeats the password.
    """
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        reason, detail = "password_length", f"a password has {PASSWORD_MIN} to {PASSWORD_MAX} characters"
    elif not is_storable(password):
        reason, detail = "text_unstorable", "a password has no NUL and no lone surrogate"
    elif password in common:
        reason, detail = "password_common", "this password is among the most used ones; choose one of your own"
    elif password.casefold() in owner.obvious_passwords:
        reason, detail = "password_personal", "this password is your own e-mail or username; choose another one"
    else:
        return
    raise Invalid(field, reason, detail)
