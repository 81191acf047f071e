"""The dashboard."""

from datetime import timedelta

import pytest

from application.views import EntityCounts
from domain.users import AdminsOnly
from tests.support.app import World


def test_dashboard_counts_the_last_24_hours_as_new(world: World) -> None:
    root = world.admin()
    world.clock.advance(timedelta(hours=24, microseconds=1))
    world.app.commands.write_post(root, "A title", "Some content", True)

    dashboard = world.app.queries.get_dashboard(root)

    assert dashboard.total == EntityCounts(users=1, posts=1, votes=0)
    assert dashboard.last_24h == EntityCounts(users=0, posts=1, votes=0)


def test_only_administrators_see_it(world: World) -> None:
    with pytest.raises(AdminsOnly):
        world.app.queries.get_dashboard(world.person())
