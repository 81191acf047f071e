"""The throttle's rows on SQLite, which stores values as they are bound."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

from sqlalchemy import URL

from application.views import Attempt
from tests.support.backends import sql_backend
from tests.support.samples import NOW


def test_windows_counted_together_are_stored_in_one_format(emptied: Callable[[str], URL]) -> None:
    url = emptied("sqlite")
    attempts = [Attempt(f"bucket {number}", 1, timedelta(minutes=1)) for number in range(3)]

    with sql_backend(url) as backend:
        backend.throttle.count(attempts, NOW)

    with closing(sqlite3.connect(str(url.database))) as connection:
        stored = connection.execute("SELECT DISTINCT ends_at FROM attempts").fetchall()
    assert stored == [((NOW + timedelta(minutes=1)).strftime("%Y-%m-%d %H:%M:%S.%f"),)]
