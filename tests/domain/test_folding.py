"""Folding of texts for comparisons."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.text import fold
from tests.support.samples import FOUND, NOT_FOUND


@pytest.mark.parametrize(("text", "search"), FOUND)
def test_text_is_found_in_another_spelling(text: str, search: str) -> None:
    assert fold(search) in fold(text)


@pytest.mark.parametrize(("text", "search"), NOT_FOUND)
def test_other_text_is_not_found(text: str, search: str) -> None:
    assert fold(search) not in fold(text)


@given(st.text())
def test_fold_ignores_normal_form_and_case(text: str) -> None:
    folded = fold(text)
    assert fold(folded) == folded
    assert unicodedata.is_normalized("NFC", folded)
    for other in (unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text), text.lower()):
        assert fold(other) == folded
