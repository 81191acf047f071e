"""What tests of single adapters are given."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import URL

from tests.backends import empty


@pytest.fixture
def postgres_url(database_of: Callable[[str], URL]) -> URL:
    """A migrated, empty database on PostgreSQL."""
    url = database_of("postgres")
    empty(url)
    return url


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop do other things until the condition holds, of which nothing tells."""
    while not condition():  # noqa: ASYNC110 - as said
        await asyncio.sleep(0)
