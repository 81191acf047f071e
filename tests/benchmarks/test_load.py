import pytest

from benchmarks.load import LoadError, Measured, Rounds, measured, medians

SAID = """Running 3s test
measured {"requests": 3000, "microseconds": 1500000, "p50": 7000, "p99": 9500, "failures": 0, "refused": 0}
"""


def test_what_wrk_measured_is_read() -> None:
    assert measured("list", SAID) == Measured(requests=3000, per_second=2000, p50=7.0, p99=9.5)


def test_a_round_with_failures_is_refused_by_name() -> None:
    with pytest.raises(LoadError, match=r"^list: of 3,000 requests 12 failed and 0 were refused$"):
        measured("list", SAID.replace('"failures": 0', '"failures": 12'))


def test_a_round_with_refusals_is_refused_unless_they_are_expected() -> None:
    said = SAID.replace('"refused": 0', '"refused": 3')

    with pytest.raises(LoadError, match="3 were refused"):
        measured("list", said)
    assert measured("list", said, may_be_refused=True).refused == 3
    with pytest.raises(LoadError, match="1 failed"):
        measured("list", said.replace('"failures": 0', '"failures": 1'), may_be_refused=True)


def test_a_round_without_requests_is_refused() -> None:
    with pytest.raises(LoadError, match="of 0 requests"):
        measured("list", SAID.replace("3000", "0"))


def test_what_wrk_complained_of_is_repeated() -> None:
    with pytest.raises(LoadError, match="unable to connect"):
        measured("list", "Running\n", "unable to connect to 127.0.0.1")


def test_rounds_are_summed_up_by_their_medians() -> None:
    rounds = [
        Measured(10, 100, 5, 50, 0, 7, 30),
        Measured(30, 300, 1, 90, 2, 9, 10),
        Measured(20, 200, 9, 10, 1, 8, 20),
    ]

    assert medians(rounds) == Measured(requests=60, per_second=200, p50=5, p99=50, refused=3, server=8, database=20)


def test_trials_alternate_after_an_uncounted_warm_up() -> None:
    sequence: list[tuple[str, int]] = []

    def trial(name: str, per_second: float, seconds: int) -> Measured:
        sequence.append((name, seconds))
        return Measured(1, per_second if seconds == 3 else 0, 1, 1)

    found = Rounds(rounds=2, seconds=3, warm_up=1, connections=16).interleaved(
        {"one": lambda seconds: trial("one", 10, seconds), "two": lambda seconds: trial("two", 20, seconds)}
    )

    assert sequence == [("one", 1), ("two", 1), ("one", 3), ("two", 3), ("one", 3), ("two", 3)]
    assert {name: figures.per_second for name, figures in found.items()} == {"one": 10, "two": 20}


def test_a_warm_trial_is_measured_at_once() -> None:
    sequence: list[tuple[str, int]] = []

    def trial(name: str, seconds: int) -> Measured:
        sequence.append((name, seconds))
        return Measured(1, 1, 1, 1)

    Rounds(rounds=1, seconds=3, warm_up=1, connections=16).interleaved(
        {"warm": lambda seconds: trial("warm", seconds), "cold": lambda seconds: trial("cold", seconds)}, {"warm"}
    )

    assert sequence == [("cold", 1), ("warm", 3), ("cold", 3)]


@pytest.mark.parametrize(
    ("rates", "seconds"),
    [
        ([100, 101, 99, 1], 3),  # steady from the first second on
        ([100, 200, 300, 301, 299, 1], 5),
        ([100, 104, 110, 104, 104, 1], 5),  # 110 is more than 5 % above 104
        ([100, 200, 400, 800, 1_600, 3_200, 6_400], 6),  # rising still at the end of the longest warm-up
    ],
)
def test_warm_up_ends_when_the_rate_is_steady(rates: list[float], seconds: int) -> None:
    left = list(rates)

    Rounds(rounds=1, seconds=3, warm_up=6, connections=16).interleaved(
        {"one": lambda seconds: Measured(1, left.pop(0) if seconds == 1 else 0, 1, 1)}
    )

    assert len(rates) - len(left) == seconds
