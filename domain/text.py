"""What text is to Agora."""


def is_storable(text: str) -> bool:
    """Tell whether every storage can hold the text.

    PostgreSQL holds no U+0000, and a lone surrogate (U+D800 to U+DFFF) has no UTF-8 form (Unicode 15, D92).
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def search_key(text: str) -> str:
    """Fold a text for searches that ignore case.

    Lower-cased here by Unicode's rules, and stored, because databases disagree: SQLite folds ASCII only and
    PostgreSQL goes by the locale it was created with.
    """
    return text.lower()
