"""Rules for accounts, actors and passwords."""

import sys
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.text import is_storable
from domain.users import (
    ANONYMOUS,
    EMAIL_INPUT_MAX,
    OPERATOR,
    Actor,
    AdminsOnly,
    Role,
    User,
    email_key,
    require_password,
)
from infrastructure.domain_names import to_ascii

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def registered(email: str = "ann@example.com", username: str | None = None) -> User:
    return User.register(email=email, username=username, role=Role.USER, now=NOW, to_ascii=to_ascii)


def test_a_new_account_is_active_and_has_no_password_yet() -> None:
    user = registered(" Ann@Example.com ", "Ann_1")

    assert (user.id, user.email, user.username) == (0, "Ann@Example.com", "Ann_1")
    assert (user.role, user.is_active, user.password_hash) == (Role.USER, True, "")
    assert (user.email_key, user.username_key) == ("ann@example.com", "ann_1")


@pytest.mark.parametrize(
    "spelling",
    ["ann@bücher.example", "ANN@BÜCHER.EXAMPLE", " Ann@bu\u0308cher.example ", "ann@xn--bcher-kva.example"],
)
def test_spellings_of_one_address_share_a_key(spelling: str) -> None:
    assert email_key(spelling, to_ascii) == "ann@xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("stra\u00dfe@x.org", "STRASSE@x.org", True),
        ("\u017fam@x.org", "sam@x.org", True),
        ("ren\u00e9@x.org", "rene\u0301@X.ORG", True),
        ("\u0130.k@x.org", "i.k@x.org", True),
        ("rene@x.org", "ren\u00e9@x.org", False),
        ("x\u00b2@x.org", "x2@x.org", False),
        ("ann@strasse.de", "ann@stra\u00dfe.de", False),
        ("bob@stra\u00dfe.de", "Bob@XN--STRAE-oqa.de", True),
        ("bob@stra\u00dfe.de", "bob@STRA\u1e9eE.de", True),
    ],
)
def test_addresses_are_one_or_two(one: str, other: str, same: bool) -> None:
    assert (email_key(one, to_ascii) == email_key(other, to_ascii)) is same


@pytest.mark.parametrize(
    "email",
    ["", "@", "ann", "ann@", "@example.com", "ann@a..b", "ann@" + "a" * 64, "a" * 250 + "@b.example", "a\0@b.c"],
)
def test_invalid_address_is_refused(email: str) -> None:
    with pytest.raises(Invalid) as refusal:
        registered(email)

    assert refusal.value.field == "email"


def test_email_of_254_characters_is_the_longest() -> None:
    longest = "a" * (254 - len("@example.com")) + "@example.com"

    assert registered(longest).email == longest
    with pytest.raises(Invalid):
        registered("a" + longest)


@given(st.one_of(st.text(), st.tuples(st.text(min_size=1), st.text(min_size=1)).map("@".join)))
def test_any_text_has_a_key_or_is_refused(text: str) -> None:
    try:
        key = email_key(text, to_ascii)
    except Invalid:
        return
    assert email_key(key, to_ascii) == key
    assert is_storable(key)


@pytest.mark.parametrize("username", ["abc", "A_9", "_" * 32])
def test_a_username_may_be_this(username: str) -> None:
    assert registered(username=username).username == username


@pytest.mark.parametrize("username", ["", "ab", "a" * 33, "with space", "ä_ä", "abc\n", "a-b", "\u0661\u0662\u0663"])
def test_invalid_username_is_refused(username: str) -> None:
    with pytest.raises(Invalid) as refusal:
        registered(username=username)

    assert refusal.value.field == "username"


@pytest.mark.parametrize(
    "password", ["x" * 7 + "y", "xy" * 64, " " * 7 + "x", "\U0001f98a" * 7 + "!", "\n\t\r\x7f    "]
)
def test_a_password_may_be_this(password: str) -> None:
    require_password(password, registered(), frozenset())


@pytest.mark.parametrize("password", ["agorabcd", "a new agora", "ann of aix", "joanna123", "example.com1", "bb123456"])
def test_a_word_among_other_letters_is_no_variation(password: str) -> None:
    require_password(password, registered("ann@example.com", "Ann_of_Aix"), frozenset())
    require_password(password, registered("bb@example.com"), frozenset())


@pytest.mark.parametrize(
    "password",
    [
        "",
        "x" * 7,
        "x" * 129,
        "12345678\0",
        "1234567\ud800",
        "password1",
        "ANN@example.com",
        "ann_of_aix",
        "x" * 8,
        "xX" * 64,
        "\U0001f98a" * 8,
        " " * 8,
        " \t\n\u00a0\u2003\u3000  ",
        "agora123",
        "!AGORA!!",
        "\uff41\uff47\uff4f\uff52\uff41 2026",
        "agoraagora",
        "ann12345",
        "123Ann45!",
        "2026 Ann_of_Aix.",
        "(ann@example.com)",
    ],
)
def test_invalid_password_is_refused(password: str) -> None:
    with pytest.raises(Invalid) as refusal:
        require_password(password, registered("ann@example.com", "Ann_of_Aix"), {"password1"}, "new_password")

    assert refusal.value.field == "new_password"
    assert not password or password not in refusal.value.detail


def test_actors_without_an_account_own_nothing() -> None:
    assert Actor(0, Role.USER, session_id=0) == ANONYMOUS
    assert Actor(0, Role.ADMIN, session_id=0) == OPERATOR
    assert Actor(7).session_id == 0


def test_only_administrators_are_administrators() -> None:
    Actor(1, Role.ADMIN).require_admin()
    for actor in (Actor(1), ANONYMOUS):
        with pytest.raises(AdminsOnly):
            actor.require_admin()


def functions_called(act: Callable[[], object]) -> list[object]:
    called: list[object] = []
    sys.setprofile(lambda _frame, event, function: called.append(function) if event == "c_call" else None)
    try:
        act()
    except Invalid:
        pass
    finally:
        sys.setprofile(None)
    return called


def test_overlong_email_is_refused_before_it_is_normalised() -> None:
    longest, longer = "\u0301" * EMAIL_INPUT_MAX, "\u0301" * (EMAIL_INPUT_MAX + 1)
    assert unicodedata.normalize in functions_called(lambda: email_key(longest, to_ascii))
    assert unicodedata.normalize not in functions_called(lambda: email_key(longer, to_ascii))


def test_email_is_measured_after_it_is_composed() -> None:
    local = "\u1f82" * 200  # four code points each when decomposed, the most there are
    decomposed = unicodedata.normalize("NFD", local) + "@example.org"
    assert len(decomposed) > 3 * 254
    assert email_key(decomposed, to_ascii) == email_key(f"{local}@example.org", to_ascii)
