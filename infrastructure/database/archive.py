"""A whole instance in a file: one JSON object a line (NDJSON), the same bytes whichever database it came from.

First a header, then every user, every post and every vote, then a trailer with their numbers and a SHA-256 of all
that came before it. Left out are sessions, because a file is kept and may be read back long afterwards: one that had
ended would come to life again, and so would refresh tokens that were spent. What is derived is left out too, and made
anew by the present rules.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import IO, Any, Final

from sqlalchemy import URL, Connection, Select, func, select, union_all
from sqlalchemy.exc import DataError, IntegrityError

from application.errors import Refused
from application.ports.storage import ID_MAX
from domain.errors import Invalid
from domain.posts import Post
from domain.text import is_storable
from domain.users import Role, User
from domain.votes import Direction, Tally, Vote
from infrastructure.database.bulk import (
    NUMBERED,
    add_posts,
    add_users,
    add_votes,
    batches,
    checked_at_the_end,
    last_ids,
    move_on,
    require_empty,
    snapshot,
    stream,
    tidy,
    transaction,
)
from infrastructure.database.sql import is_id
from infrastructure.database.tables import posts, users, votes

FORMAT: Final = "agora-export"
VERSION: Final = 1

LINE_MAX: Final = 1_048_576
"""Bytes of a line: more than the longest post takes, whatever is in it."""

Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of line: where it comes from, the types of its fields, what it means and where it goes."""

    statement: Select[Any]
    fields: Mapping[str, tuple[type, ...]]
    read: Callable[[Mapping[str, Any]], Any]
    add: Callable[[Connection, Sequence[Any]], None]


def _user(fields: Mapping[str, Any]) -> User:
    user = User.register(
        email=fields["email"],
        username=fields["username"],
        role=Role(fields["role"]),
        now=_moment(fields["created_at"]),
    )
    return replace(user, id=_id(fields["id"]), password_hash=fields["password_hash"], is_active=fields["is_active"])


def _post(fields: Mapping[str, Any]) -> Post:
    post = Post.write(
        owner_id=_id(fields["owner_id"]),
        title=fields["title"],
        content=fields["content"],
        published=fields["published"],
        now=_moment(fields["created_at"]),
    )
    return replace(
        post,
        id=_id(fields["id"]),
        updated_at=_moment(fields["updated_at"]),
        version=fields["version"],
        tally=Tally(fields["upvotes"], fields["downvotes"]),
    )


def _vote(fields: Mapping[str, Any]) -> Vote:
    return Vote(
        user_id=_id(fields["user_id"]),
        post_id=_id(fields["post_id"]),
        direction=Direction(fields["dir"]),
        created_at=_moment(fields["created_at"]),
    )


KINDS: Final = {
    "user": Kind(
        select(
            users.c.id,
            users.c.email,
            users.c.username,
            users.c.password_hash,
            users.c.role,
            users.c.is_active,
            users.c.created_at,
        ).order_by(users.c.id),
        {
            "id": (int,),
            "email": (str,),
            "username": (str, type(None)),
            "password_hash": (str,),
            "role": (str,),
            "is_active": (bool,),
            "created_at": (str,),
        },
        _user,
        add_users,
    ),
    "post": Kind(
        select(
            posts.c.id,
            posts.c.owner_id,
            posts.c.title,
            posts.c.content,
            posts.c.published,
            posts.c.created_at,
            posts.c.updated_at,
            posts.c.version,
            posts.c.upvotes,
            posts.c.downvotes,
        ).order_by(posts.c.id),
        {
            "id": (int,),
            "owner_id": (int,),
            "title": (str,),
            "content": (str,),
            "published": (bool,),
            "created_at": (str,),
            "updated_at": (str,),
            "version": (int,),
            "upvotes": (int,),
            "downvotes": (int,),
        },
        _post,
        add_posts,
    ),
    "vote": Kind(
        select(votes.c.post_id, votes.c.user_id, votes.c.dir, votes.c.created_at).order_by(
            votes.c.post_id, votes.c.user_id
        ),
        {"post_id": (int,), "user_id": (int,), "dir": (int,), "created_at": (str,)},
        _vote,
        add_votes,
    ),
}
"""In the order in which they are written: each refers only to what came before."""

ROWS: Final = union_all(*(select(func.count()).select_from(table) for table in (users, posts, votes)))


class Archive:
    """Writes a database into a file and reads one back, a batch of rows in memory at a time."""

    def __init__(self, url: URL) -> None:
        self._url = url

    def export(self, out: IO[bytes], progress: Callable[[int, int], None]) -> Counts:
        """Write the whole instance, as it is at one moment, and tell how much that was.

        Raises:
            OSError: it cannot be written there.
            Unavailable: the database cannot answer now.
        """
        writer = _Writer(out)
        counts = dict.fromkeys(KINDS, 0)
        with snapshot(self._url) as connection:
            total = sum(
                connection.scalar(select(func.count()).select_from(table)) or 0 for table in (users, posts, votes)
            )
            writer.write({"format": FORMAT, "version": VERSION, "last_ids": last_ids(connection)})
            for name, kind in KINDS.items():
                for batch in batches(stream(connection, kind.statement)):
                    for row in batch:
                        writer.write({name: row._asdict()})
                    counts[name] += len(batch)
                    progress(sum(counts.values()), total)
        writer.write(_trailer(counts, writer.digest))
        return counts

    def restore(self, source: IO[bytes], size: int, progress: Callable[[int, int], None]) -> Counts:
        """Read a file back into an empty database, in one transaction, and tell how much that was.

        `size` is the file's in bytes, or 0 where it is not known; then no progress is told.

        Raises:
            Refused: the database has users, or the file is no whole and unaltered export; nothing is changed.
            OSError: it cannot be read.
            Unavailable: the database cannot answer now.
        """
        reader = _Reader(source)
        with transaction(self._url) as connection:
            last = reader.header()
            require_empty(connection)
            with _refusals_named(), checked_at_the_end(connection):
                for name, lines in groupby(reader.lines(), lambda line: line[0]):
                    for batch in batches(lines):
                        KINDS[name].add(connection, [entity for _, entity in batch])
                        if size:
                            progress(reader.bytes, size)
            move_on(connection, last)
        tidy(self._url)
        return reader.counts


@contextmanager
def _refusals_named() -> Iterator[None]:
    """Say in a sentence what the database does not let us store."""
    try:
        yield
    except (DataError, IntegrityError) as error:
        said = str(error.orig).partition("\n")[0]
        raise Refused(f"the lines of this file do not go together: {said}") from error


class _Writer:
    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._sum = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._sum.hexdigest()

    def write(self, line: Mapping[str, object]) -> None:
        encoded = _ENCODER.encode(line).encode() + b"\n"
        self._sum.update(encoded)
        self._out.write(encoded)


class _Reader:
    """Reads line after line, and believes none before it has seen the trailer."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._sum = hashlib.sha256()
        self._number = 0
        self.bytes = 0
        self.counts = dict.fromkeys(KINDS, 0)

    def header(self) -> Mapping[str, int]:
        """Read the first line, and tell the last ids that were given."""
        header = _decoded(self._take(self._source.readline(LINE_MAX)))
        if header.get("format") != FORMAT:
            raise Refused("this is no export of Agora: its first line is not the header of one")
        if header.get("version") != VERSION:
            raise Refused(
                f"this export has version {header.get('version')} and this release reads version {VERSION}:"
                " import it with the release that wrote it"
            )
        last = header.get("last_ids")
        if not isinstance(last, dict) or any(
            type(last.get(table.name)) is not int or not 0 <= last[table.name] <= ID_MAX for table in NUMBERED
        ):
            raise self._damaged()
        return last

    def lines(self) -> Iterator[tuple[str, Any]]:
        """Read what follows, as its kind and its entity, and check at the end that nothing is missing or altered."""
        while line := self._source.readline(LINE_MAX):
            fields = _decoded(line)
            if "sha256" in fields:
                self._check(fields)
                return
            if len(line) < LINE_MAX and not line.endswith(b"\n"):
                break
            self._take(line)
            yield self._read(fields)
        raise Refused("this export ends before its last line: it was cut off; copy it anew, or export anew")

    def _take(self, line: bytes) -> bytes:
        self._sum.update(line)
        self._number += 1
        self.bytes += len(line)
        return line

    def _read(self, line: Mapping[str, Any]) -> tuple[str, Any]:
        try:
            ((name, fields),) = line.items()
            kind = KINDS[name]
            entity = kind.read(_checked(fields, kind.fields))
        except (ArithmeticError, AttributeError, Invalid, LookupError, ValueError) as error:
            raise self._damaged() from error
        self.counts[name] += 1
        return name, entity

    def _check(self, trailer: Mapping[str, Any]) -> None:
        if trailer != _trailer(self.counts, self._sum.hexdigest()) or self._source.read(1):
            raise Refused("this export is not as it was written: its checksum does not hold; copy it anew")

    def _damaged(self) -> Refused:
        return Refused(f"line {self._number} of this file is none that an export has: it was altered or damaged")


def _trailer(counts: Counts, digest: str) -> dict[str, object]:
    return {**{f"{name}s": count for name, count in counts.items()}, "sha256": digest}


def _decoded(line: bytes) -> Mapping[str, Any]:
    """Read a line, if it is whole; what is none becomes one without fields."""
    try:
        fields = json.loads(line) if line.endswith(b"\n") else {}
    except (RecursionError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _checked(fields: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]) -> Mapping[str, Any]:
    if fields.keys() != types.keys():
        raise ValueError("not the fields of this kind")
    for name, value in fields.items():
        if type(value) not in types[name]:
            raise ValueError("a field of another type")
        if type(value) is int and abs(value) > ID_MAX:
            raise ValueError("a number that no database holds")
        if type(value) is str and not is_storable(value):
            raise ValueError("text that no database holds")
    return fields


def _id(number: int) -> int:
    if not is_id(number):
        raise ValueError("no row could have this id")
    return number


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment without its zone")
    return moment.astimezone(UTC)


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_written)
