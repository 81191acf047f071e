"""What tests of single adapters are given."""

from collections.abc import Callable

import pytest
from sqlalchemy import URL


@pytest.fixture
def postgres_url(emptied: Callable[[str], URL]) -> URL:
    """A migrated, empty database on PostgreSQL."""
    return emptied("postgres")
