"""The passwords that everybody uses, from a bundled list (see data/README.md)."""

from pathlib import Path
from typing import Final

LIST: Final = Path(__file__).parent / "data" / "common-passwords.txt"


class BundledCommonPasswords:
    """The 10,000 most used passwords, whatever their case."""

    def __init__(self) -> None:
        self._passwords = frozenset(LIST.read_text(encoding="utf-8").splitlines())

    def __contains__(self, password: object) -> bool:
        """Tell whether the password is one of them."""
        return isinstance(password, str) and password.casefold() in self._passwords
