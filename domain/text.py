"""Text: what every storage can hold, and how searches ignore case."""


def is_storable(text: str) -> bool:
    """Return whether every storage can hold the text.

    PostgreSQL stores no U+0000, and a lone surrogate (U+D800 to U+DFFF) has no UTF-8 form (Unicode 15, D92).
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def search_key(text: str) -> str:
    """Lower-case a text by Unicode's rules, for searches that ignore case.

    The result is stored, because databases disagree: SQLite lower-cases ASCII only, and PostgreSQL uses the locale of
    the database.
    """
    return text.lower()
