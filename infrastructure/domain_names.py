"""Domain names in ASCII."""

import idna


def to_ascii(name: str) -> str:
    """Encode a domain name by IDNA 2008.

    It is mapped by Unicode TR 46 before, non-transitional: "ß" is a letter of its own. Names in ASCII only pass
    whatever IDNA says of them, as "_" stands in names of hosts; the standard library checks the lengths of labels.

    Raises:
        UnicodeError: this is no name of a domain.
    """
    if name.isascii() and "xn--" not in name.lower():
        return name.encode("idna").decode("ascii").lower()
    return idna.encode(name, uts46=True).decode("ascii")
