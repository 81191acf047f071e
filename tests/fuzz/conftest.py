"""The real server on a database, and people in it who start over whatever they do to themselves."""

from collections.abc import Callable, Iterator

import httpx2
import pytest
from sqlalchemy import URL

from infrastructure.database.engine import open_engine
from tests.support.fuzz import EXAMPLES, FEW_EXAMPLES, FuzzWorld
from tests.support.servers import serving

STORAGES = ["postgres"] if EXAMPLES == FEW_EXAMPLES else ["sqlite", "postgres"]
"""`make test` has few examples, the same in every run; tests/http/test_hostile.py sends more to both storages."""


@pytest.fixture(scope="module", params=STORAGES)
def world(request: pytest.FixtureRequest, database_of: Callable[[str], URL]) -> Iterator[FuzzWorld]:
    """A server on each kind of database, without throttling."""
    url = database_of(request.param)
    engine = open_engine(url, connections=1)
    with serving(url, THROTTLE="false") as server:
        with httpx2.Client(base_url=server.address, timeout=30) as client:
            yield FuzzWorld(client, engine)
        assert server.end() == 0
        assert "Traceback" not in server.said
    engine.dispose()
