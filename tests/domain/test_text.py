"""What readers see of a text."""

import sys
import unicodedata

import pytest

from domain.text import has_control, is_blank

CHARACTERS = [chr(number) for number in range(sys.maxunicode + 1)]
SHOWN_FORMATS = {
    *"\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd",
    *map(chr, range(0xFFF9, 0xFFFC)),
    *map(chr, range(0x13430, 0x13440)),
}
"""Characters of category Cf that are no Default_Ignorable_Code_Point: they have a glyph (Unicode, section 5.21)."""


def test_every_format_character_without_a_glyph_is_ignorable() -> None:
    formats = {each for each in CHARACTERS if unicodedata.category(each) == "Cf"}

    assert {each for each in formats if not is_blank(each)} == SHOWN_FORMATS & formats


def test_every_named_filler_and_selector_is_ignorable() -> None:
    named = [each for each in CHARACTERS if "VARIATION SELECTOR" in unicodedata.name(each, "")]
    fillers = [each for each in CHARACTERS if unicodedata.name(each, "").endswith(("HANGUL FILLER", "SEONG FILLER"))]

    assert is_blank("".join(named + fillers))
    assert len(named) > 256
    assert len(fillers) == 4


def test_letters_marks_numbers_symbols_and_controls_are_visible() -> None:
    blank = {each for each in CHARACTERS if unicodedata.category(each)[0] in "LMNPS" and is_blank(each)}

    assert {unicodedata.name(each) for each in blank if "SELECTOR" not in unicodedata.name(each)} == {
        "BRAILLE PATTERN BLANK",
        "COMBINING GRAPHEME JOINER",
        "HALFWIDTH HANGUL FILLER",
        "HANGUL CHOSEONG FILLER",
        "HANGUL FILLER",
        "HANGUL JUNGSEONG FILLER",
        "KHMER VOWEL INHERENT AA",
        "KHMER VOWEL INHERENT AQ",
    }
    assert not is_blank("\x01")


@pytest.mark.parametrize("text", ["", " ", "\u200b", "\u2800", "\u2003\u00ad\n\ufe0f"])
def test_text_without_a_visible_character_is_blank(text: str) -> None:
    assert is_blank(text)
    assert not is_blank(text + "a" + text)


def test_controls_and_separators_are_those_of_unicode() -> None:
    found = {each for each in CHARACTERS if has_control(f"a{each}b")}

    assert found == {each for each in CHARACTERS if unicodedata.category(each) in {"Cc", "Zl", "Zp"}}
