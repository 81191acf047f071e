"""Hostile values in every slot of every operation: refused or taken, but never a failure and never a surprise."""

from collections import Counter
from collections.abc import Iterable

import pytest
from sqlalchemy import URL

from tests.support.api import Api, Person
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
"""Headers whose values or bodies the storage may see; all others are judged before, on every storage alike."""


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


@pytest.mark.parametrize(
    ("url", "who"),
    [("postgres", "anonymous"), ("postgres", "ann"), ("sqlite", "ann")],  # whose statements include all of anonymous'
    indirect=["url"],
)
def test_every_answer_to_a_hostile_value_is_documented(url: URL, api: Api, ann: Person, who: str) -> None:
    headers = REACH_THE_STORAGE if url.get_backend_name() == "sqlite" else HEADERS
    surprises, seen, people = [], Counter[int](), [ann]

    for operation in operations(api.client.request):
        for slot in slots_of(operation, headers):
            post_id = people[-1].posts()
            turned_away = who == "anonymous" and operation.needs_a_token  # whatever they send: a few will do
            for value in values_for(slot)[:: 8 if turned_away else 1]:
                person = people[-1]
                samples = {
                    "post_id": post_id,
                    "user_id": person.id,
                    "current_password": person.password,
                    "refresh_token": person.refresh_token,
                }
                answer = operation.send(person if who == "ann" else api.client.request, slot, value, **samples)
                status, media_type = answer.status_code, answer.headers.get("Content-Type", "").partition(";")[0]
                media_types = operation.answers.get(status)
                expected = media_types is not None and (media_type in media_types or media_type == "" == answer.text)
                seen[status] += 1
                if status in {500, 503} or not expected or "X-Injected" in answer.headers:
                    surprises.append((operation.method, operation.path, slot, value, status, media_type))
                if status < 300 and (operation.method, operation.path) in ENDS_OR_CHANGES_THE_CALLER:
                    people.append(api.person(f"person{len(people)}"))

    assert surprises == []
    reached = {
        "anonymous": {200, 201, 401, 403, 404, 413, 422},
        "ann": {200, 201, 204, 401, 403, 404, 409, 412, 413, 422},
    }
    assert seen.keys() >= reached[who]  # the walk found its way
