"""A database with rows in every table: for exports, imports, migrations, counters and the removal of accounts."""

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import URL

from application.quotas import Quota
from application.views import Attempt
from application.votes import CastVote, CastVotes
from domain.posts import PostChanges
from domain.sessions import IDLE, RefreshHashes, Session
from domain.users import Actor, Role, User
from domain.votes import Direction
from infrastructure.domain_names import to_ascii
from tests.fakes.services import FrozenClock
from tests.support.backends import sql_backend
from tests.support.samples import NOW, a_post, a_user, add, add_post, add_user

TEXT = "\\N \\. \t \r\n \" ' , \x01 \x7f \u2028 Ünïcødé 🦉 \\"
"""What any format that the text passes through may stumble over."""


def fill(url: URL) -> Actor:
    """Store rows in every table; return Bob: each foreign key to accounts refers to his too.

    The last account, post and session are deleted again.
    """
    with sql_backend(url) as backend:
        ann, bob = add_user(backend.uow, "ann", Role.ADMIN), add_user(backend.uow, "bob")
        with backend.uow() as tx:
            other = User.register(email="Ünï@Bücher.example", username=None, role=Role.USER, now=NOW, to_ascii=to_ascii)
            tx.users.add(other.with_password("$2b$12$" + "x" * 53))
            tx.users.save(replace(tx.users.lock(bob.id), is_active=False))
            tx.users.remove(tx.users.add(a_user("gone")).id)
        liked = add_post(backend.uow, ann, "Liked", minutes=1)
        odd = add_post(backend.uow, bob, published=False)
        with backend.uow() as tx:
            edited = tx.posts.lock(odd.id).edited_by(bob, PostChanges(content=TEXT), NOW + timedelta(days=1))
            tx.posts.save(replace(edited, title=TEXT))  # older than the rule for titles
            tx.idempotency.add(bob.id, "a key", tx.post_reader.get(bob, odd.id), NOW, NOW + IDLE)
            tx.posts.remove(add(tx, a_post(ann)).id)
            refresh = RefreshHashes("family", "secret")
            tx.sessions.add(Session.open(user_id=bob.id, user_agent="", refresh=refresh, now=NOW))
        cast = CastVote(CastVotes(backend.uow, FrozenClock(NOW + timedelta(microseconds=1)), quota=Quota(rows=9)))
        cast(ann, liked.id, Direction.UP)
        cast(bob, liked.id, Direction.DOWN)
        cast(bob, odd.id, Direction.UP)
        backend.throttle.count([Attempt("bucket", 1, IDLE)], NOW)
    return bob
