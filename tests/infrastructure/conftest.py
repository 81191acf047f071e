"""What tests of single adapters are given."""

from collections.abc import Callable

import pytest
from sqlalchemy import URL

from tests.support.backends import empty


@pytest.fixture
def postgres_url(database_of: Callable[[str], URL]) -> URL:
    """A migrated, empty database on PostgreSQL."""
    url = database_of("postgres")
    empty(url)
    return url
