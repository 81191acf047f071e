"""Rules for sessions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from domain.sessions import IDLE, LIFETIME, RefreshHashes, Session

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST, SECOND = RefreshHashes("family", "first"), RefreshHashes("family", "second")


def opened() -> Session:
    return Session.open(user_id=1, user_agent="a" * 1_000, refresh=FIRST, now=NOW)


def test_a_new_session_ends_when_it_is_not_used() -> None:
    session = opened()

    assert session.id == 0
    assert session.ends_at == NOW + timedelta(days=7)
    assert session.user_agent == "a" * 200


def test_use_prolongs_a_session_up_to_its_lifetime() -> None:
    assert replace(opened(), last_used_at=NOW + IDLE).ends_at == NOW + 2 * IDLE
    assert replace(opened(), last_used_at=NOW + LIFETIME - IDLE / 2).ends_at == NOW + timedelta(days=30)


def test_the_latest_token_is_exchanged() -> None:
    later = NOW + timedelta(days=1)

    rotated = opened().rotated(FIRST, SECOND, later)

    assert rotated == replace(opened(), refresh=SECOND, last_used_at=later)


def test_a_spent_token_is_not_exchanged() -> None:
    rotated = opened().rotated(FIRST, SECOND, NOW)
    assert rotated is not None

    assert rotated.rotated(FIRST, SECOND, NOW) is None


OVERLAP = timedelta(seconds=10)
A_MOMENT = timedelta(microseconds=1)
THIRD, FORGED = RefreshHashes("family", "third"), RefreshHashes("family", "forged")


def refreshed() -> Session:
    rotated = opened().rotated(FIRST, SECOND, NOW)
    assert rotated is not None
    return rotated


@pytest.mark.parametrize("later", [timedelta(), OVERLAP - A_MOMENT, A_MOMENT - OVERLAP])
def test_spent_token_is_repeated_within_the_overlap(later: timedelta) -> None:
    session = refreshed()

    assert session.rotated(FIRST, SECOND, NOW + later, OVERLAP) is session


@pytest.mark.parametrize("later", [OVERLAP, -OVERLAP, timedelta(days=1)])
def test_spent_token_is_not_repeated_after_the_overlap(later: timedelta) -> None:
    assert refreshed().rotated(FIRST, SECOND, NOW + later, OVERLAP) is None


def test_overlap_ends_when_the_successor_is_used() -> None:
    session = refreshed().rotated(SECOND, THIRD, NOW, OVERLAP)
    assert session is not None

    assert session.rotated(FIRST, SECOND, NOW, OVERLAP) is None


def test_overlap_is_for_the_token_before_the_latest_only() -> None:
    assert refreshed().rotated(FORGED, THIRD, NOW, OVERLAP) is None


def test_latest_token_is_exchanged_within_the_overlap() -> None:
    rotated = refreshed().rotated(SECOND, THIRD, NOW, OVERLAP)

    assert rotated == replace(opened(), refresh=THIRD)


def test_nothing_is_repeated_after_the_end() -> None:
    session = replace(refreshed(), created_at=NOW - LIFETIME)

    assert session.rotated(FIRST, SECOND, NOW, OVERLAP) is None


def test_nothing_is_exchanged_after_the_end() -> None:
    assert opened().rotated(FIRST, SECOND, NOW + IDLE) is None


def test_session_from_the_future_counts_from_its_next_use() -> None:
    before = NOW - timedelta(days=365)

    rotated = opened().rotated(FIRST, SECOND, before)

    assert rotated == replace(opened(), refresh=SECOND, created_at=before, last_used_at=before)
    assert rotated.ends_at == before + IDLE
