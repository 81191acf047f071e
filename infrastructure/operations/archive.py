"""Export of a whole instance as NDJSON, and its import.

PostgreSQL and SQLite give the same bytes: a header, then all users, posts and votes, then a trailer with their numbers
and the SHA-256 of all lines before it. Sessions are left out: an import would revive ended sessions and used refresh
tokens. Derived values are left out too, and computed at the import.
"""

import hashlib
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import IO, Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, create_model
from sqlalchemy import URL, Connection, Table, func, select
from sqlalchemy.exc import DataError, IntegrityError

from application.errors import Refused
from application.ports.storage import ID_MAX
from domain.errors import Invalid
from domain.posts import Post
from domain.text import is_storable
from domain.users import Role, User
from domain.votes import Tally
from infrastructure.database.tables import posts, users, votes
from infrastructure.domain_names import to_ascii
from infrastructure.operations.bulk import (
    add_posts,
    add_users,
    analyze,
    insert_rows,
    last_ids,
    load,
    require_empty,
    snapshot,
    stream,
    transaction,
)

FORMAT: Final = "agora-export"
VERSIONS: Final = range(1, 2)
"""Versions of the format that this release reads; it writes the last. A field that one adds has a default."""

LINE_MAX: Final = 1_048_576
"""Bytes of a line: more than the longest post takes in any characters."""

RowCounts = dict[str, int]


Number = Annotated[int, Field(ge=-ID_MAX, le=ID_MAX)]
Id = Annotated[int, Field(ge=1, le=ID_MAX)]


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("text that no database stores")
    return text


Stored = Annotated[str, AfterValidator(_storable)]
Moment = Annotated[AwareDatetime, AfterValidator(lambda moment: moment.astimezone(UTC))]


class _Fields(BaseModel):
    """All fields of a line, with their types, named as their columns."""

    model_config = ConfigDict(strict=True, extra="forbid")

    def entity(self) -> Any:
        """Return what its kind inserts: the columns, or an entity that derives more."""
        return self.model_dump()


class UserFields(_Fields):
    """An account."""

    id: Id
    email: Stored
    username: Stored | None
    password_hash: Stored
    role: Role
    is_active: bool
    created_at: Moment

    def entity(self) -> User:
        """Build the entity."""
        user = User.register(
            email=self.email, username=self.username, role=self.role, now=self.created_at, to_ascii=to_ascii
        )
        return replace(user, id=self.id, password_hash=self.password_hash, is_active=self.is_active)


class PostFields(_Fields):
    """A post."""

    id: Id
    owner_id: Id
    title: Stored
    content: Stored
    published: bool
    created_at: Moment
    updated_at: Moment
    version: Number
    upvotes: Number
    downvotes: Number

    def entity(self) -> Post:
        """Build the entity."""
        post = Post.restore(
            owner_id=self.owner_id,
            title=self.title,
            content=self.content,
            published=self.published,
            now=self.created_at,
        )
        tally = Tally(self.upvotes, self.downvotes)
        return replace(post, id=self.id, updated_at=self.updated_at, version=self.version, tally=tally)


class VoteFields(_Fields):
    """A vote."""

    post_id: Id
    user_id: Id
    dir: Annotated[int, Field(ge=-1, le=1)]
    created_at: Moment


KINDS: Final[dict[str, tuple[Table, type[_Fields], Callable[[Connection, Sequence[Any]], None]]]] = {
    "user": (users, UserFields, add_users),
    "post": (posts, PostFields, add_posts),
    "vote": (votes, VoteFields, partial(insert_rows, votes)),
}
"""Kinds of lines in their order in the file: each refers only to kinds before it."""

_MEMBERS: Final[dict[str, Any]] = {name: (fields | None, None) for name, (_, fields, _) in KINDS.items()}
Line: Final = create_model("Line", __base__=_Fields, **_MEMBERS)
"""A line, which holds one entity."""


class Archive:
    """Exports and imports a database, with one batch of rows in memory."""

    def __init__(self, url: URL) -> None:
        self._url = url

    def export(self, out: IO[bytes], progress: Callable[[int, int], None]) -> RowCounts:
        """Write a consistent snapshot, and return the number of rows by kind.

        Raises:
            OSError: the file cannot be written.
            Unavailable: the database is unavailable.
        """
        digest = hashlib.sha256()

        def write(line: Mapping[str, object]) -> None:
            encoded = _ENCODER.encode(line).encode() + b"\n"
            digest.update(encoded)
            out.write(encoded)

        counts = dict.fromkeys(KINDS, 0)
        with snapshot(self._url) as connection:
            total = sum(
                connection.scalar(select(func.count()).select_from(table)) or 0 for table, _, _ in KINDS.values()
            )
            write({"format": FORMAT, "version": VERSIONS[-1], "last_ids": last_ids(connection)})
            for name, (table, fields, _) in KINDS.items():
                rows = select(*(table.c[field] for field in fields.model_fields)).order_by(*table.primary_key)
                for batch in stream(connection, rows).partitions():
                    for row in batch:
                        write({name: row._asdict()})
                    counts[name] += len(batch)
                    progress(sum(counts.values()), total)
        write(_trailer(counts, digest.hexdigest()))
        return counts

    def restore(self, source: IO[bytes], size: int, progress: Callable[[int, int], None]) -> RowCounts:
        """Read a file into an empty database, and return the number of rows by kind.

        The import is one transaction. `size` is the file's in bytes, 0 if unknown; if known, `progress` receives it
        with the bytes read.

        Raises:
            Refused: the database has users, or the file is no complete and unaltered export; nothing is changed.
            OSError: the file cannot be read.
            Unavailable: the database is unavailable.
        """
        reader = _Reader(source)
        with transaction(self._url) as connection:
            last = reader.header()
            require_empty(connection)
            parts = (
                (KINDS[name][2], (entity for _, entity in lines))
                for name, lines in groupby(reader.lines(), lambda line: line[0])
            )
            try:
                load(connection, parts, last, lambda _: progress(reader.bytes, size) if size else None)
            except (DataError, IntegrityError) as error:
                refusal = str(error.orig).partition("\n")[0]
                raise Refused(f"the lines of this file contradict each other: {refusal}") from error
        analyze(self._url)
        return reader.counts


class _Reader:
    """Reads lines, and checks number and checksum at the trailer."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._sum = hashlib.sha256()
        self._number = 0
        self.bytes = 0
        self.counts = dict.fromkeys(KINDS, 0)

    def header(self) -> Mapping[str, int]:
        """Read the first line, and return the last ids that were generated."""
        header = _decoded(self._take(self._source.readline(LINE_MAX).removeprefix(BOM_UTF8)))
        if header.get("format") != FORMAT:
            raise Refused("this file is no export of Agora: its first line is not the header of an export")
        version = header.get("version")
        if not isinstance(version, int) or version not in VERSIONS:
            raise Refused(
                f"this export has version {version} and this release reads {', '.join(map(str, VERSIONS))}:"
                " import it with the release that wrote it"
            )
        last = header.get("last_ids")
        if not isinstance(last, dict) or any(
            type(given) is not int or not 0 <= given <= ID_MAX for given in last.values()
        ):
            raise self._damaged()
        return last

    def lines(self) -> Iterator[tuple[str, Any]]:
        """Read each line as its kind and its entity.

        The trailer proves that none is missing or altered.
        """
        while line := self._source.readline(LINE_MAX):
            fields = _decoded(line)
            if "sha256" in fields:
                self._check(fields)
                return
            if len(line) < LINE_MAX and not line.endswith(b"\n"):
                break
            yield self._read(self._take(line))
        raise Refused("this export ends before its last line: it was cut off; copy or export it again")

    def _take(self, line: bytes) -> bytes:
        self._sum.update(line)
        self._number += 1
        self.bytes += len(line)
        return line

    def _read(self, line: bytes) -> tuple[str, Any]:
        try:
            whole = Line.model_validate_json(line)
            (name,) = whole.model_fields_set
            entity = getattr(whole, name).entity()
        except (ArithmeticError, AttributeError, Invalid, ValueError) as error:
            raise self._damaged() from error
        self.counts[name] += 1
        return name, entity

    def _check(self, trailer: Mapping[str, Any]) -> None:
        # An export of an earlier version does not name the kinds that came later.
        self.counts = {name: count for name, count in self.counts.items() if count or f"{name}s" in trailer}
        if trailer != _trailer(self.counts, self._sum.hexdigest()) or self._source.read(1):
            raise Refused("this export was altered after it was written: its checksum differs; copy it again")

    def _damaged(self) -> Refused:
        return Refused(f"line {self._number} of this file is no line of an export: the file was altered or damaged")


def _trailer(counts: RowCounts, digest: str) -> dict[str, object]:
    return {**{f"{name}s": count for name, count in counts.items()}, "sha256": digest}


def _decoded(line: bytes) -> Mapping[str, Any]:
    """Decode a complete line; anything else becomes a line without fields."""
    try:
        fields = json.loads(line) if line.endswith(b"\n") else {}
    except (RecursionError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_written)
