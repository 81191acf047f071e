"""Accounts and actors; rules for e-mail, username and password."""

import re
import unicodedata
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from domain.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from domain.text import fold, is_storable

EMAIL_MAX: Final = 254
"""Characters in an e-mail: RFC 5321's 256 octets for a path, minus its brackets."""

EMAIL_INPUT_MAX: Final = 4 * EMAIL_MAX
"""Characters that are normalised at all. NFC composes at most four code points into one (Unicode TR 15), and its time
grows with the square of a run of combining marks: a longer text cannot become an address, and would be costly."""

SERVICE: Final = "agora"
WORD_MIN: Final = 3
"""Letters of a word from which on a password may be a variation of it."""

PASSWORD_MIN: Final = 8
PASSWORD_MAX: Final = 128
USERNAME_PATTERN: Final = r"^[A-Za-z0-9_]{3,32}$"

RESERVED_USERNAMES: Final = frozenset(
    {"admin", "administrator", "agora", "me", "moderator", "null", "root", "support", "system", "undefined"}
)
"""Keys of usernames that readers take for the operator's, or programs for no username."""

DomainEncoder = Callable[[str], str]
"""Encodes the name of a domain in ASCII, and raises ValueError for what is none.

By IDNA 2008 (RFC 5891), after the mapping of Unicode TR 46, non-transitional.
"""

_USERNAME = re.compile(r"[A-Za-z0-9_]{3,32}")


class EmailTaken(Conflict):
    code = "email-taken"

    def __init__(self) -> None:
        super().__init__("this e-mail is already registered; sign in, or register with another one")


class UsernameTaken(Conflict):
    code = "username-taken"

    def __init__(self) -> None:
        super().__init__("this username is taken; choose another one")


class UserNotFound(NotFound):
    code = "user-not-found"

    def __init__(self, user: int | str) -> None:
        super().__init__(f"user with {'id' if isinstance(user, int) else 'e-mail'}: {user} not found")


class NotAuthenticated(Unauthenticated):
    code = "not-authenticated"

    def __init__(self) -> None:
        super().__init__("sign in and send the access token as: Authorization: Bearer <token>")


class InvalidToken(Unauthenticated):
    """One error for every bad token, so that a forger learns nothing from it."""

    code = "invalid-token"

    def __init__(self) -> None:
        super().__init__("the token is invalid, has expired or was used; refresh an access token, or sign in again")


class InvalidCredentials(Forbidden):
    """One error for an unknown e-mail and a wrong password, which reveals neither."""

    code = "invalid-credentials"

    def __init__(self) -> None:
        super().__init__("e-mail or password is wrong")


class AccountInactive(Forbidden):
    """Raised only after the right password was given."""

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
        super().__init__("this is the last active administrator; make another account one first")


class Role(StrEnum):
    """Rights of an account beyond its own content."""

    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Actor:
    """Identity behind one request, looked up for that request, with its session."""

    id: int
    role: Role = Role.USER
    session_id: int = 0

    @property
    def is_admin(self) -> bool:
        """Whether the actor is an administrator."""
        return self.role is Role.ADMIN

    def require_admin(self) -> None:
        """Require an administrator.

        Raises:
            AdminsOnly: the actor is no administrator.
        """
        if not self.is_admin:
            raise AdminsOnly


ANONYMOUS: Final = Actor(id=0)
"""The actor of a request without a token. Ids start at 1, so it owns nothing."""

OPERATOR: Final = Actor(id=0, role=Role.ADMIN)
"""The actor of the command line, with an administrator's rights."""


@dataclass(frozen=True, slots=True)
class User:
    """An account. E-mail and username are stored as given and unique by their keys."""

    id: int
    email: str
    email_key: str
    username: str | None
    password_hash: str
    role: Role
    is_active: bool
    created_at: datetime

    @classmethod
    def register(
        cls, *, email: str, username: str | None, role: Role, now: datetime, to_ascii: DomainEncoder
    ) -> "User":
        """Make an active account with id 0 and no password; storage assigns the id.

        Raises:
            Invalid: the e-mail or the username breaks a rule.
        """
        user = cls(0, "", "", None, password_hash="", role=role, is_active=True, created_at=now)
        user = user.with_email(email, to_ascii)
        return user if username is None else user.with_username(username)

    def with_id(self, user_id: int) -> "User":
        """Return the account with the id that storage assigned."""
        return replace(self, id=user_id)

    def with_password(self, password_hash: str) -> "User":
        """Return the account with this password hash."""
        return replace(self, password_hash=password_hash)

    def with_email(self, email: str, to_ascii: DomainEncoder) -> "User":
        """Return the account with another e-mail.

        Raises:
            Invalid: the text is no e-mail address.
        """
        email = email.strip()
        return replace(self, email=email, email_key=email_key(email, to_ascii))

    def with_username(self, username: str) -> "User":
        """Return the account with another username.

        Raises:
            Invalid: the username breaks the rule.
        """
        if not _USERNAME.fullmatch(username):
            raise Invalid(
                "username",
                "string_pattern_mismatch",
                "a username has 3 to 32 characters: letters without accents, digits and underscores",
            )
        return replace(self, username=username)

    def require_unreserved(self, reserved: Container[str]) -> None:
        """Require a username whose key is not among the reserved ones.

        Raises:
            UsernameTaken: it is; a reserved name is refused like one that another account has.
        """
        if self.username_key in reserved:
            raise UsernameTaken

    @property
    def is_active_admin(self) -> bool:
        """Whether the account is active and an administrator's."""
        return self.is_active and self.role is Role.ADMIN

    @property
    def guessable_words(self) -> set[str]:
        """Words that a guesser tries first: service, e-mail, its local part, username."""
        return {SERVICE, self.email, self.email.rpartition("@")[0], self.username or SERVICE}

    @property
    def username_key(self) -> str | None:
        """Folded username, which is unique; None without a username."""
        return None if self.username is None else fold(self.username)


def email_key(email: str, to_ascii: DomainEncoder) -> str:
    """Normalize an e-mail address; two accounts never share the result.

    Trimmed, its local part folded, its domain in ASCII: spellings that a reader takes for one address belong to one
    account. Deliverability is not checked.

    Raises:
        Invalid: the text is no e-mail address.
    """
    address = email.strip()
    address = unicodedata.normalize("NFC", address) if len(address) <= EMAIL_INPUT_MAX else ""
    local, at, domain = address.rpartition("@")
    if len(address) <= EMAIL_MAX and local and at and domain and is_storable(address):
        try:
            return f"{fold(local)}@{to_ascii(domain)}"
        except ValueError:
            pass
    raise Invalid("email", "value_error", "this is not an e-mail address")


def require_password(password: str, owner: User, common: Container[str], field: str = "password") -> None:
    """Require a password of 8 to 128 characters that is hard to guess.

    Every character but U+0000 and lone surrogates is allowed; nothing is trimmed or normalized. The bounds follow OWASP
    ASVS 5.0, 6.2.1 and 6.2.9, which demands an upper bound of at least 64. Common passwords (6.2.4), blanks only,
    one repeated character, and the account's guessable words with digits and signs (6.2.11) are refused, in any case.

    Raises:
        Invalid: the password breaks a rule; the detail says which and never contains the password.
    """
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        reason, detail = "password_length", f"a password has {PASSWORD_MIN} to {PASSWORD_MAX} characters"
    elif not is_storable(password):
        reason, detail = "text_unstorable", "a password has no NUL and no lone surrogate"
    elif password in common:
        reason, detail = "password_common", "this password is among the most used ones; choose one of your own"
    elif password.isspace() or len(set(password.casefold())) == 1:
        reason, detail = "password_repeated", "this password is blank or one repeated character; choose another one"
    elif any(_is_variation(_folded(password), _folded(word)) for word in owner.guessable_words):
        reason, detail = (
            "password_personal",
            f"this password is little more than your own e-mail or username, or the name {SERVICE}; choose another one",
        )
    else:
        return
    raise Invalid(field, reason, detail)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _is_variation(password: str, word: str) -> bool:
    """Return whether a password is a word, perhaps repeated, with digits or signs."""
    if password == word:
        return True
    rest = password.replace(word, "") if len(word) >= WORD_MIN else password
    return rest != password and not any(char.isalpha() for char in rest)
