"""Entity tags of posts, for conditional requests (RFC 9110, section 13).

A tag is the version of the post and a digest of its representation. If-None-Match compares whole tags; If-Match
compares versions alone, so that a vote on the post does not refuse an edit.
"""

import re
from collections.abc import Container, Sequence
from hashlib import blake2b
from typing import Annotated, Any, Final

from fastapi import Header

DIGEST_BYTES: Final = 12

_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*(?:,[ \t,]*|\Z)')
_VERSIONED: Final = re.compile(r"([1-9][0-9]{0,17})-[0-9a-f]+")

IfMatch = Annotated[list[str] | None, Header(description="Tags of the versions that may be changed; others get 412.")]
IfNoneMatch = Annotated[list[str] | None, Header(description="Tags that the client has; a current one gets 304.")]

TAGGED: Final[dict[str, Any]] = {
    "headers": {"ETag": {"description": "Changes with every part of the response.", "schema": {"type": "string"}}}
}
"""A response with a tag in the OpenAPI document."""


def entity_tag(version: int, body: bytes) -> str:
    """Build the tag of a post from its version and representation."""
    return f'"{version}-{blake2b(body, digest_size=DIGEST_BYTES).hexdigest()}"'


def is_known(tag: str, if_none_match: Sequence[str] | None) -> bool:
    """Test whether the client has this tag, by weak comparison.

    A malformed header matches nothing.
    """
    if not if_none_match:
        return False
    known = ",".join(if_none_match)
    return known.strip() == "*" or any(f'"{opaque}"' == tag for _, opaque in _tags(known))


def known_versions(if_match: Sequence[str] | None) -> Container[int] | None:
    """Get the versions that may be changed, by strong comparison; None means any.

    A malformed header matches no version.
    """
    if if_match is None:
        return None
    known = ",".join(if_match)
    if known.strip() == "*":
        return None
    found = (_VERSIONED.fullmatch(opaque) for weak, opaque in _tags(known) if not weak)
    return frozenset(int(version[1]) for version in found if version)


def _tags(text: str) -> list[tuple[str, str]]:
    text = text.strip(" \t,")  # lists may have empty elements (RFC 9110, section 5.6.1)
    tags, at = [], 0
    while at < len(text):
        tag = _TAG.match(text, at)
        if tag is None:
            return []
        tags.append((tag[1] or "", tag[2]))
        at = tag.end()
    return tags
