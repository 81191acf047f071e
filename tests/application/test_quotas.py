"""What use cases charge to the quota of an account."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from application.quotas import Quota
from application.views import PostCommand
from domain.posts import PostChanges
from domain.users import Actor
from domain.votes import Direction
from tests.support.app import World

TITLE, CONTENT = "Ä title", "Some content"
SIZE = len(TITLE.encode()) + len(CONTENT.encode())
ENDS_AT = datetime(2026, 1, 1, 1, tzinfo=UTC)


def charged(world: World, actor: Actor) -> tuple[int, int, datetime] | None:
    return world.database.rows.quotas.get(actor.id)


def test_each_write_is_charged_to_its_writer_until_the_hour_ends(world: World) -> None:
    ann, bob, commands = world.person("ann"), world.person("bob"), world.app.commands
    world.clock.advance(timedelta(minutes=20))

    post = commands.write_post(ann, TITLE, CONTENT, True)
    assert charged(world, ann) == (1, SIZE, ENDS_AT)
    commands.write_post_once(ann, TITLE, CONTENT, True, "a key")
    assert charged(world, ann) == (3, 3 * SIZE, ENDS_AT)
    commands.edit_post(ann, post.id, PostChanges(title=TITLE + "!"))
    assert charged(world, ann) == (4, 4 * SIZE + 1, ENDS_AT)
    commands.cast_vote(bob, post.id, Direction.UP)
    assert charged(world, bob) == (1, 0, ENDS_AT)


def test_posts_of_a_group_are_charged_by_ascending_account(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")

    world.app.commands.write_posts([PostCommand(actor, TITLE, CONTENT, True) for actor in (bob, ann)])

    assert list(world.database.rows.quotas) == [ann.id, bob.id]


@pytest.mark.parametrize("quota", [Quota(rows=2), Quota(size=1_000)])
def test_either_limit_is_counted_without_the_other(world: World, quota: Quota) -> None:
    ann = world.person()

    replace(world.app.commands.write_posts, quota=quota)([PostCommand(ann, TITLE, CONTENT, True)])

    assert charged(world, ann) is not None
