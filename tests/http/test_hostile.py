"""Hostile values in every slot of every operation: refused or taken, but never a failure and never a surprise."""

from collections import Counter
from collections.abc import Callable, Iterable

from sqlalchemy import URL

from tests.support.api import Api, running_api
from tests.support.openapi import Operation, Slot, operations

TEXTS: list[object] = [
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "\r\nX-Injected: 1",
        "\ud800",
        "\udfffa",
        "\ufeff",
        "\u202e",
        "\U0010ffff",
        "\u0130",
        "😀",
    ),
    *("null", "true", "NaN", "1e999", "-0", "01", "+1", "1.0", "1_0", "\u0661", "1\u0301", "%00", "%s", "/", "../../x"),
    *("'", "' OR 1=1 --", "%", "\\", "{{7*7}}", "<script>", "x" * 5_000, "9" * 5_000, "[" * 5_000),
]
INTEGERS: list[object] = [0, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1, 10**1000]
OTHERS: list[object] = [None, True, False, 1.0, 1e300, float("nan"), float("inf"), [], {}, [[]], {"": {}}, {"$ne": 1}]
HEADERS: dict[str, list[object]] = {
    "Authorization": ["", " ", "Bearer", "Bearer x", "Bearer ü.ü.ü", "Basic Og==", "x" * 20_000],
    "Content-Type": ["", "/", ";", "ü", "text/plain", "application/json; charset=utf-16", "multipart/form-data"],
    "Content-Length": ["", "x", "-1", "1", "\u0661", "9" * 5_000],
    "X-Request-ID": ["", "ü", "x" * 20_000],
    "Origin": ["null", "ü"],
    "Host": ["", "ü", "evil.example/x"],
    "Range": ["bytes=0-0"],
    "If-Match": ["", "*", '"', '"1', '"1-0"', 'W/"1-0"', "1", '"ü"', '"1-0",,"', f'"{"9" * 5_000}-0"', '"",' * 5_000],
    "Idempotency-Key": ["", " ", "ü", "a key", "k" * 255, "k" * 256, "k" * 20_000],
    "If-None-Match": ["", "*", '"', 'W/"1-0"', "ü", '"1-0",,"', '"",' * 5_000],
    "Cookie": ["=;ü=;;"],
    "User-Agent": ["", "ü", "x" * 20_000],
    "X-Forwarded-For": ["", ",", "ü", "127.0.0.1", "x" * 20_000],
    "X-Forwarded-Proto": ["ü"],
    "Transfer-Encoding": ["x"],
}
KEEP_OUT = {"", " ", "/", "../../x"}
"""Values that, in a path, make it another path."""


def values_for(slot: Slot) -> list[object]:
    if slot.place == "header":
        return {name.lower(): values for name, values in HEADERS.items()}[slot.name.lower()]
    if slot.place == "path":
        return [value for value in (*TEXTS, *INTEGERS) if value not in KEEP_OUT]
    return TEXTS + INTEGERS + OTHERS


REACH_THE_STORAGE = (
    "Authorization",
    "Content-Length",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "User-Agent",
    "X-Forwarded-For",
)
"""Headers whose values or bodies the storage may see; all others are judged before, on every storage alike.

So are values that do not validate: SQLite gets those that PostgreSQL's API found valid, whatever it answered.
"""


def slots_of(operation: Operation, headers: Iterable[str]) -> list[Slot]:
    whole_body = [Slot("json")] if operation.takes == "json" else []
    return [*operation.slots(), *whole_body, *(Slot("header", name) for name in headers)]


ENDS_OR_CHANGES_THE_CALLER = {
    ("POST", "/refresh"),
    ("POST", "/logout"),
    ("PATCH", "/users/me"),
    ("DELETE", "/users/me"),
    ("PUT", "/users/me/password"),
    ("DELETE", "/users/me/sessions/{session_id}"),
}


class Walk:
    """Hostile requests to the API on one storage, and the surprises among the responses."""

    def __init__(self, api: Api, who: str) -> None:
        self._api = api
        self._who = who
        self._people = [api.person("ann")]
        self.seen = Counter[int]()
        self.surprises: list[object] = []

    def new_post(self) -> int:
        return self._people[-1].posts()

    def send(self, operation: Operation, slot: Slot, value: object, post_id: int) -> bool:
        """Send a request, and return whether its values were valid."""
        person = self._people[-1]
        samples = {
            "post_id": post_id,
            "user_id": person.id,
            "current_password": person.password,
            "refresh_token": person.refresh_token,
        }
        caller = person if self._who == "ann" else self._api.client.request
        answer = operation.send(caller, slot, value, **samples)
        status, media_type = answer.status_code, answer.headers.get("Content-Type", "").partition(";")[0]
        media_types = operation.answers.get(status)
        expected = media_types is not None and (media_type in media_types or media_type == "" == answer.text)
        self.seen[status] += 1
        if status in {500, 503} or not expected or "X-Injected" in answer.headers:
            self.surprises.append((operation.method, operation.path, slot, value, status, media_type))
        if status < 300 and (operation.method, operation.path) in ENDS_OR_CHANGES_THE_CALLER:
            self._people.append(self._api.person(f"person{len(self._people)}"))
        return not (status == 422 and answer.json()["type"] == "/problems/validation")


def test_every_answer_to_a_hostile_value_of_an_account_is_documented(emptied: Callable[[str], URL]) -> None:
    with running_api(emptied("postgres")) as api, running_api(emptied("sqlite")) as other:
        walk, walk_on_sqlite = Walk(api, "ann"), Walk(other, "ann")
        for operation in operations(api.client.request):
            for slot in slots_of(operation, HEADERS):
                post_id, post_on_sqlite = walk.new_post(), walk_on_sqlite.new_post()
                for value in values_for(slot):
                    is_valid = walk.send(operation, slot, value, post_id)
                    if is_valid and (slot.place != "header" or slot.name in REACH_THE_STORAGE):
                        walk_on_sqlite.send(operation, slot, value, post_on_sqlite)

    assert walk.surprises == walk_on_sqlite.surprises == []
    reached = {200, 201, 204, 401, 403, 404, 409, 412}
    assert walk.seen.keys() >= reached | {413, 422}  # the walk found its way
    assert walk_on_sqlite.seen.keys() >= reached


def test_every_answer_to_an_anonymous_hostile_value_is_documented(emptied: Callable[[str], URL]) -> None:
    with running_api(emptied("postgres")) as api:
        walk = Walk(api, "anonymous")
        for operation in operations(api.client.request):
            for slot in slots_of(operation, HEADERS):
                post_id = walk.new_post()
                for value in values_for(slot)[:: 8 if operation.needs_a_token else 1]:  # refused whatever they send
                    walk.send(operation, slot, value, post_id)

    assert walk.surprises == []
    assert walk.seen.keys() >= {200, 201, 401, 403, 404, 413, 422}  # the walk found its way
