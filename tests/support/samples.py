"""Ready-made entities, so that a test names only what it is about."""

from datetime import UTC, datetime, timedelta

from application.ports.storage import UnitOfWorkFactory
from domain.posts import Post
from domain.users import Actor, Role, User

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def a_user(name: str = "ann", role: Role = Role.USER) -> User:
    """Make an account that is not stored yet."""
    user = User.register(email=f"{name}@example.com", username=name, role=role, now=NOW)
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
        return post.with_id(tx.posts.add(post).id)


BEYOND_64_BITS = 2**63


NO_IDS = [0, -1, 4_711, BEYOND_64_BITS, 10**40]
