"""The bundled list: whole, readable, and asked in any case."""

import pytest

from infrastructure.common_passwords import LIST, BundledCommonPasswords

COMMON = BundledCommonPasswords()
LINES = LIST.read_text(encoding="utf-8").splitlines()


def test_the_list_has_ten_thousand_passwords_each_once() -> None:
    assert len(LINES) == len(set(LINES)) == 10_000


def test_every_line_is_found() -> None:
    assert [line for line in LINES if line not in COMMON] == []


def test_no_line_is_blank_or_has_blanks_around_it() -> None:
    assert [line for line in LINES if line != line.strip() or not line] == []


@pytest.mark.parametrize("password", ["password", "PASSWORD", "PassWord1", "iloveyou", "Princess1", "1234567890"])
def test_a_common_password_is_known_whatever_its_case(password: str) -> None:
    assert password in COMMON


@pytest.mark.parametrize(
    "password", ["", " ", "password ", "correct horse battery staple", "p\u00e4ssword", "\ud800", "\0", "x" * 128]
)
def test_another_one_is_not(password: str) -> None:
    assert password not in COMMON


@pytest.mark.parametrize("other", [None, 123456, b"password"])
def test_what_is_no_text_is_no_password(other: object) -> None:
    assert other not in COMMON


def test_where_the_list_comes_from_and_its_licence_are_told() -> None:
    told = (LIST.parent / "README.md").read_text(encoding="utf-8")
    assert LIST.name in told
    assert "licence" in told
