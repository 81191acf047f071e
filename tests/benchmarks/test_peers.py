"""What is compared does the same: the real servers, on PostgreSQL, filled with the same rows."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.agreement import require_agreement
from benchmarks.data import Data
from benchmarks.databases import declare, fill
from benchmarks.naive.models import Base
from benchmarks.peers import NODE, PeerError, agora, naive
from infrastructure.database.tables import metadata
from tests.support.backends import PostgresServer

POSTS = 1_000


def test_agora_and_the_naive_application_answer_the_same(postgres: PostgresServer, tmp_path: Path) -> None:
    data = Data(POSTS, datetime.now(UTC).replace(microsecond=0), drafts_a_voter=1)
    with postgres.database() as ours, postgres.database(migrated=False) as theirs:
        fill(ours, metadata, data)
        declare(theirs, Base.metadata)
        fill(theirs, Base.metadata, replace(data, drafts_a_voter=0))
        with agora(ours, tmp_path) as first, naive(theirs, tmp_path) as second:
            require_agreement([first, second], POSTS)

            # Each has a post of its own by now, written at a moment of its own.
            with pytest.raises(
                PeerError,
                match=r"^GET /posts\?limit=10: naive differs from agora in 0\.created_at, 0\.id, 0\.updated_at$",
            ):
                require_agreement([first, second], POSTS)


def test_the_lock_file_of_node_packages_names_no_host() -> None:
    lock = (NODE / "package-lock.json").read_text(encoding="utf-8")

    assert "://" not in lock
    assert '"resolved"' not in lock
    assert '"integrity": "sha512-' in lock
