"""Strict JSON (RFC 8259), parsed at the cost of its length."""

import json
import math
import re
from typing import Any, Final, NoReturn

STRUCTURE_MAX: Final = 4_096
"""Bytes of JSON beside text: lists and numbers cost a hundred times as much as text of their length."""

MEMBER_COST: Final = 64
"""Bytes of structure that each member of an object counts as."""

BACKSLASHES_MAX: Final = 140_000
"""Backslashes in JSON: two for each character of the longest post, and some more."""

_OPENING: Final = re.compile(r'[ \t\n\r]*\{[ \t\n\r]*"')
_COLON: Final = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_NEXT: Final = re.compile(r'[ \t\n\r]*(?:,[ \t\n\r]*"|\}[ \t\n\r]*\Z)')


def parse(body: bytes) -> Any:
    """Parse JSON text in UTF-8, more strictly than Python's own parser.

    Of a body above 4 KiB, all but the strings that are members of the object has at most 4 KiB.

    Raises:
        json.JSONDecodeError: it is malformed, in another encoding, begins with a byte order mark, or contains NaN,
            Infinity, a number that overflows, or more structure, escapes, nesting or digits than any request needs.
    """
    try:
        text = body.decode()
        return _decoder.decode(text) if len(text) <= STRUCTURE_MAX else _parse_long(text)
    except json.JSONDecodeError as error:
        reason, position = error.msg, error.pos
    except (ValueError, RecursionError):
        reason, position = "Not JSON in UTF-8, or a number or its nesting is out of bounds", 0
    # Outside the handler: as its context, the decoder's error would keep the whole text alive.
    raise json.JSONDecodeError(reason, "", position)


def _parse_long(text: str) -> dict[str, Any]:
    """Parse an object of long strings and little else."""
    if text.count("\\") > BACKSLASHES_MAX:
        raise json.JSONDecodeError(f"More than {BACKSLASHES_MAX:,} backslashes", "", 0)
    members: dict[str, Any] = {}
    left = STRUCTURE_MAX
    token, end = _OPENING.match(text), 0
    while token and token[0].endswith('"'):
        name, end = _decoder.raw_decode(text, token.end() - 1)
        colon = _COLON.match(text, end)
        if colon is None:
            raise json.JSONDecodeError("Expecting ':' delimiter", "", end)
        start = colon.end()
        if text.startswith('"', start):
            members[name], end = _decoder.raw_decode(text, start)
        else:
            members[name], length = _decoder.raw_decode(text[start : start + left])
            end, left = start + length, left - length
        left -= MEMBER_COST
        token = _NEXT.match(text, end) if left > 0 else None
    if token is None:
        reason = f"Expecting an object whose members, but for strings, have less than {STRUCTURE_MAX:,} characters"
        raise json.JSONDecodeError(reason, "", end)
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number overflows")
    return number


_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)
