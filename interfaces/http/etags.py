"""Entity tags of posts, for conditional requests (RFC 9110, section 13).

A tag is the version of the post and a digest of its representation. A read compares both, a change the version alone,
so that a vote on the post does not refuse an edit. Tags that a compressing proxy weakened or suffixed count as well
(docs/adr/0030-conditions-compare-versions.md).
"""

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, Final

from fastapi import Header
from pydantic import WithJsonSchema

DIGEST_BYTES: Final = 12

_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*(?:,[ \t,]*|\Z)')
_OURS: Final = re.compile(r"(([1-9][0-9]{0,17})-[0-9a-f]+)(?:[-;].*)?")
"""Without a suffix, such as `-gzip` by Apache."""

_EVERY_VERSION: Final = range(10**18)

_TAGS: Final = WithJsonSchema({"type": "string", "examples": ['"1-8f2bd06c57e14a3990cd1b7a"']})
"""One string in the document; a list is read, since a header may come in several lines (RFC 9110, section 5.3)."""

IfMatch = Annotated[
    list[str] | None,
    Header(alias="If-Match", description="Tags of the versions that may be changed; others get 412."),
    _TAGS,
]
IfNoneMatch = Annotated[
    list[str] | None,
    Header(alias="If-None-Match", description="Tags that the client has; a current one gets 304."),
    _TAGS,
]
UnlessMatch = Annotated[
    list[str] | None,
    Header(alias="If-None-Match", description="Tags of the versions that must stay unchanged; these get 412."),
    _TAGS,
]

TAGGED: Final[dict[str, Any]] = {
    "headers": {"ETag": {"description": "Changes with every part of the response.", "schema": {"type": "string"}}}
}
"""A response with a tag in the OpenAPI document."""


def entity_tag(version: int, body: bytes) -> str:
    """Build the tag of a post from its version and representation."""
    return f'"{version}-{blake2b(body, digest_size=DIGEST_BYTES).hexdigest()}"'


def is_known(tag: str, if_none_match: Sequence[str] | None) -> bool:
    """Test whether the client has this tag.

    A malformed header matches nothing.
    """
    known = ",".join(if_none_match or ())
    return known.strip() == "*" or any(f'"{known_tag}"' == tag for known_tag, _ in _tags(known))


@dataclass(frozen=True, slots=True)
class _Versions:
    """Versions in the first container and not in the second."""

    allowed: Container[int]
    refused: Container[int]

    def __contains__(self, version: object) -> bool:
        return version in self.allowed and version not in self.refused


def changeable_versions(if_match: Sequence[str] | None, if_none_match: Sequence[str] | None) -> Container[int] | None:
    """Get the versions that may be changed; None means any.

    A malformed header names no version.
    """
    if if_match is None and if_none_match is None:
        return None
    allowed = _EVERY_VERSION if if_match is None else _versions(if_match)
    return _Versions(allowed, _versions(if_none_match or ()))


def _versions(header: Sequence[str]) -> Container[int]:
    known = ",".join(header)
    return _EVERY_VERSION if known.strip() == "*" else frozenset(version for _, version in _tags(known))


def _tags(text: str) -> list[tuple[str, int]]:
    """Parse the tags of posts in a list of tags, each with its version."""
    text = text.strip(" \t,")  # lists may have empty elements (RFC 9110, section 5.6.1)
    tags, at = [], 0
    while at < len(text):
        tag = _TAG.match(text, at)
        if tag is None:
            return []
        if ours := _OURS.fullmatch(tag[1]):
            tags.append((ours[1], int(ours[2])))
        at = tag.end()
    return tags
