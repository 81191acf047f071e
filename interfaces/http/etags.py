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

LIST_MAX: Final = 4_096
"""Characters of a list of tags that are read, enough for some 140 of posts; a tag takes 0.5 microseconds."""

_TEXT: Final = r"[\x21\x23-\x7e\x80-\xff]*"
_LIST: Final = re.compile(rf'(?:(?:W/)?"{_TEXT}"[ \t]*(?:,[ \t,]*|\Z))*')
_OURS: Final = re.compile(rf'"([1-9][0-9]{{0,17}})-([0-9a-f]+)(?:[-;]{_TEXT})?"')
"""With or without a suffix, such as `-gzip` by Apache."""

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

    A header that is malformed, or longer than 4,096 characters, matches nothing.
    """
    known = ",".join(if_none_match or ())
    return known.strip() == "*" or any(f'"{version}-{digest}"' == tag for version, digest in _tags(known))


@dataclass(frozen=True, slots=True)
class _Versions:
    """Versions in the first container and not in the second."""

    allowed: Container[int]
    refused: Container[int]

    def __contains__(self, version: object) -> bool:
        return version in self.allowed and version not in self.refused


def changeable_versions(if_match: Sequence[str] | None, if_none_match: Sequence[str] | None) -> Container[int] | None:
    """Get the versions that may be changed; None means any.

    A malformed header names no version. One that is longer than 4,096 characters lets none be changed.
    """
    if if_match is None and if_none_match is None:
        return None
    allowed = _EVERY_VERSION if if_match is None else _versions(if_match)
    is_long = sum(map(len, if_none_match or ())) > LIST_MAX
    return _Versions(allowed, _EVERY_VERSION if is_long else _versions(if_none_match or ()))


def _versions(header: Sequence[str]) -> Container[int]:
    known = ",".join(header)
    return _EVERY_VERSION if known.strip() == "*" else frozenset(int(version) for version, _ in _tags(known))


def _tags(text: str) -> list[tuple[str, str]]:
    """Parse the tags of posts in a list of tags, each into its version and digest."""
    if len(text) > LIST_MAX:
        return []
    text = text.strip(" \t,")  # lists may have empty elements (RFC 9110, section 5.6.1)
    return _OURS.findall(text) if _LIST.fullmatch(text) else []
