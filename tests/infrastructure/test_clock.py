"""The clock is not read off: only that it says which zone it is in, and in the one that everything else expects."""

from datetime import timedelta

from infrastructure.clock import SystemClock


def test_time_is_in_utc() -> None:
    assert SystemClock().now().utcoffset() == timedelta(0)


def test_time_does_not_stand_still_or_run_backwards() -> None:
    clock = SystemClock()
    assert clock.now() <= clock.now()
