"""Text: what storages can hold, what readers see, how comparisons ignore case."""

import re
import unicodedata
from typing import Final

# Default_Ignorable_Code_Point of DerivedCoreProperties.txt, the same in Unicode 9.0 to 17.0; `unicodedata` lacks it.
_IGNORABLE: Final = (
    "\u00ad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_BRAILLE_BLANK: Final = "\u2800"
_VISIBLE: Final = re.compile(rf"[^\s{_IGNORABLE}{_BRAILLE_BLANK}]")
_CONTROL: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")


def is_storable(text: str) -> bool:
    """Return whether every storage can hold the text.

    PostgreSQL stores no U+0000, and a lone surrogate (U+D800 to U+DFFF) has no UTF-8 form (Unicode 15, D92).
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def is_blank(text: str) -> bool:
    """Return whether readers see nothing: white space, ignorable characters, U+2800."""
    return _VISIBLE.search(text) is None


def has_control(text: str) -> bool:
    """Return whether a text has a control character or a line or paragraph separator."""
    return _CONTROL.search(text) is not None


def fold(text: str) -> str:
    """Fold a text, for comparisons that ignore case and the choice of code points.

    Full case folding between normalisations (Unicode, D145), so "STRASSE", "strasse" and "straße" are one text, and so
    are an accented letter and its parts. The dot that "İ" leaves on its "i" is dropped, for "istanbul" is how people
    search. The result is stored, because databases disagree: SQLite folds ASCII only, and PostgreSQL uses the locale of
    the database.
    """
    folded = unicodedata.normalize("NFD", text).casefold().replace("i\u0307", "i")
    return unicodedata.normalize("NFC", folded)
