"""Rules for errors."""

import re

import domain.posts
import domain.sessions
import domain.users
import domain.votes
from domain.errors import DomainError, Invalid, QuotaExceeded, TooManyRequests
from tests.support.samples import errors_below

WITHOUT_ARGUMENTS = (
    domain.posts.KeyInUse,
    domain.posts.KeyReused,
    domain.posts.NotYourPost,
    domain.posts.VersionMismatch,
    domain.users.AccountInactive,
    domain.users.AdminsOnly,
    domain.users.EmailTaken,
    domain.users.InvalidCredentials,
    domain.users.InvalidToken,
    domain.users.LastAdmin,
    domain.users.NotAuthenticated,
    domain.users.UsernameTaken,
)


def test_every_code_belongs_to_one_error() -> None:
    codes = [error.__dict__["code"] for error in errors_below(DomainError) if "code" in error.__dict__]

    assert len(codes) == len(set(codes)) >= len(WITHOUT_ARGUMENTS)
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", code) for code in codes)


def test_every_error_says_what_is_wrong() -> None:
    errors: list[DomainError] = [error() for error in WITHOUT_ARGUMENTS]
    errors += [domain.posts.PostNotFound(7), domain.sessions.SessionNotFound(7), domain.users.UserNotFound(7)]
    errors += [domain.votes.AlreadyVoted(1, 7), domain.votes.VoteNotFound(1, 7), TooManyRequests(7), QuotaExceeded(7)]

    kinds = set(DomainError.__subclasses__()) - {TooManyRequests}
    assert {type(error) for error in errors} == set(errors_below(DomainError)) - kinds
    for error in errors:
        assert str(error) == error.detail != ""
    assert all("7" in error.detail for error in errors[len(WITHOUT_ARGUMENTS) :])


def test_invalid_names_field_and_rule() -> None:
    error = Invalid("title", "string_too_long", "the title has 301 characters; 300 are allowed")

    assert (error.field, error.reason, error.code) == ("title", "string_too_long", "validation")
