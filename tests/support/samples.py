"""Ready-made entities, so that a test names only what it is about."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from application.errors import only
from application.ports.storage import UnitOfWork, UnitOfWorkFactory
from application.views import Caller, PostView
from domain.errors import DomainError
from domain.posts import Post
from domain.users import Actor, Role, User
from domain.votes import Vote, VoteContext
from infrastructure.domain_names import to_ascii

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def a_user(name: str = "ann", role: Role = Role.USER) -> User:
    """Make an account that is not stored yet."""
    user = User.register(email=f"{name}@example.com", username=name, role=role, now=NOW, to_ascii=to_ascii)
    return user.with_password("a hash")


def add_user(uow: UnitOfWorkFactory, name: str = "ann", role: Role = Role.USER) -> Actor:
    """Store an account and act as it."""
    with uow() as tx:
        user = tx.users.add(a_user(name, role))
    return Actor(user.id, user.role)


def a_post(owner: Actor, title: str = "A title", *, published: bool = True, minutes: int = 0) -> Post:
    """Make a post that is not stored yet, this many minutes after the first."""
    return Post.write(
        owner_id=owner.id,
        title=title,
        content="Some content",
        published=published,
        now=NOW + timedelta(minutes=minutes),
    )


def add_post(
    uow: UnitOfWorkFactory, owner: Actor, title: str = "A title", *, published: bool = True, minutes: int = 0
) -> Post:
    """Store a post."""
    post = a_post(owner, title, published=published, minutes=minutes)
    with uow() as tx:
        return post.with_id(add(tx, post).id)


def add(tx: UnitOfWork, post: Post) -> PostView:
    """Store a post inside a transaction."""
    return only(tx.posts.add_all([(Actor(post.owner_id), post)]))


def lock_context(tx: UnitOfWork, caller: Caller, post_id: int, *, wait: bool = True) -> VoteContext:
    """Lock one post inside a transaction; return what voting on it depends on."""
    return only(tx.votes.lock_contexts([(caller, post_id)], wait=wait))


def record(tx: UnitOfWork, vote: Vote, counted: VoteContext) -> None:
    """Store one vote inside a transaction."""
    tx.votes.record_all([vote], [counted])


BEYOND_64_BITS = 2**63


NO_IDS = [0, -1, 4_711, BEYOND_64_BITS, 10**40]


FOUND = [
    (
        "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3",
        "\u039f\u0394\u03a5\u03a3",
    ),  # its sigma is final only when searched for
    ("\u03bf\u03b4\u03c5\u03c3\u03c3\u03b5\u03cd\u03c2", "\u03a3\u0395\u038e\u03a3"),
    ("\u0130stanbul", "istanbul"),
    ("\u0130stanbul", "ISTANBUL"),
    ("istanbul", "\u0130STANBUL"),
    ("Die Stra\u00dfe", "STRASSE"),
    ("Die Strasse", "stra\u00dfe"),
    ("STRA\u1e9eE", "stra\u00dfe"),
    ("\ufb01nal", "final"),
    ("a final", "\ufb01"),
    ("\u017fail", "SAIL"),
    ("Caf\u00e9", "CAFE\u0301"),
    ("Cafe\u0301", "caf\u00e9"),
    ("\u212bngstr\u00f6m", "a\u030angstro\u0308m"),
    ("\u1e69", "s\u0307\u0323"),
]
"""Texts, and searches that find them."""

NOT_FOUND = [
    ("Caf\u00e9", "cafe"),  # an accent makes another letter
    ("\u0131sparta", "isparta"),  # and so does a missing dot
    ("x\u00b2", "x2"),  # compatibility is no equality: NFC, not NFKC
    ("\uff21pfel", "apfel"),
]
"""Texts, and searches that do not find them."""


def errors_below(kind: type[DomainError]) -> Iterator[type[DomainError]]:
    """Yield the errors of the domain that are subclasses of a kind."""
    for error in kind.__subclasses__():
        if error.__module__.startswith("domain."):
            yield error
            yield from errors_below(error)
