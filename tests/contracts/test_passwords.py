"""Contract of password hashers."""

from functools import partial

import pytest

from application.ports.services import PasswordHasher
from infrastructure.passwords import Argon2PasswordHasher
from tests.fakes.services import PlainHasher


@pytest.fixture(scope="module", params=[PlainHasher, partial(Argon2PasswordHasher, 8, 1, 1)])
def hasher(request: pytest.FixtureRequest) -> PasswordHasher:
    made: PasswordHasher = request.param()
    return made


@pytest.mark.parametrize("password", ["correct horse", " \t\U0001f98a ", "p" * 128, "\ufb01", "\xe9", "e\u0301"])
def test_a_password_and_no_other_verifies_against_its_hash(hasher: PasswordHasher, password: str) -> None:
    hashed = hasher.hash(password)

    assert password not in hashed or isinstance(hasher, PlainHasher)
    assert hasher.verify(password, hashed).is_right
    for other in (password + "x", password.strip() + "y", password.upper() + "z", ""):
        assert not hasher.verify(other, hashed).is_right


def test_no_password_verifies_against_no_hash(hasher: PasswordHasher) -> None:
    assert not hasher.verify("correct horse", None).is_right
    assert not hasher.verify("", None).is_right


def test_no_password_verifies_against_a_broken_hash(hasher: PasswordHasher) -> None:
    assert not hasher.verify("correct horse", "!").is_right


def test_a_hash_that_was_just_made_is_not_outdated(hasher: PasswordHasher) -> None:
    assert not hasher.is_outdated(hasher.hash("correct horse"))
