"""Values at the edges of what computers can hold, in every place of every request, as bytes that no library tames."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fuzz import CHECKS, DOCUMENT, EXAMPLES, SCHEMA, FuzzWorld, fuzzing
from tests.support.openapi import FORM, Operation, Slot, operations_of

DEEP = 100_000
DIGITS = b"9" * 5_000

WORDS = [
    *(b"", b" ", b"\0", b"a\0b", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf"),
    *("\u202e".encode(), "\U0010ffff".encode(), "\u0130".encode(), "e\u0301".encode()),
    *(b"\r\nX-Injected: 1", b"NaN", b"1e999", b"-0", b"-1", b"01", b"1.0", b"1_0", "\u0661".encode(), b"null"),
    *(b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"-9223372036854775809", DIGITS),
    *(b"%00", b"%", b"_", b"\\", b"'", b'"', b"x" * 5_000, b"[" * 5_000),
]
"""Text, as the bytes that are sent."""

VALUES = [
    *(b"", b"null", b"true", b"{}", b"[]", b'""', b'" "', b'"\\u0000"', b'"a\\u0000b"', b'"\0"', b'"\n"'),
    *(b'"\\ud800"', b'"\\udfff\\ud800"', b'"a\\udc00"', b'"\\ud83d\\ude00"', b'"\xff"', b'"\xed\xa0\x80"', b"\xff"),
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1e-999", b"1e5", b"1.0", b"-0", b"-1", b"01", b"+1"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", DIGITS, b"-" + DIGITS, b"0." + DIGITS),
    *(b'"' + DIGITS + b'"', b'"' + b"x" * 70_000 + b'"', b'"' + "\U0001f98a".encode() * 20_000 + b'"'),
    *(b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    *(b'{"a": 1, "a": 2}', b'{"": 1}', b'{"\\ud800": 1}', b"[1,]", b"1 2", b"'x'", b"\xef\xbb\xbf1"),
]
"""JSON values and what only looks like one, as the bytes that are sent."""


def as_json(value: object) -> bytes:
    """Write a value in ASCII, surrogates as escapes."""
    return json.dumps(value).encode()


def as_object(members: Mapping[str, bytes]) -> bytes:
    """Write a JSON object of values that are written already."""
    return b"{" + b",".join(as_json(name) + b":" + value for name, value in members.items()) + b"}"


def as_form(members: Mapping[str, bytes]) -> bytes:
    """Write a form."""
    return "&".join(f"{name}={quoted(value)}" for name, value in members.items()).encode()


def quoted(value: bytes) -> str:
    return quote_from_bytes(value, safe="")


TEXT = st.text(st.characters(exclude_categories=[]))
WORDS_MADE_UP = st.sampled_from(WORDS) | st.binary(max_size=40) | st.integers().map(as_json)
VALUES_MADE_UP = st.recursive(
    st.sampled_from(VALUES) | (TEXT | st.integers() | st.floats()).map(as_json),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: b"[" + b",".join(items) + b"]")
        | st.dictionaries(TEXT, inner, max_size=3).map(as_object)
    ),
    max_leaves=3,
)

OPERATIONS = operations_of(DOCUMENT)


def slots_of(operation: Operation) -> list[Slot]:
    """Name every place where something can be sent, the whole body and the token included."""
    body = [Slot(operation.takes)] if operation.takes else []
    return [*operation.slots(), *body, Slot("header", "Authorization")]


def can_stand_in(slot: Slot, value: bytes) -> bool:
    """Tell whether a value stays in its place: some make another path, and some make no header at all."""
    if slot.place == "path":
        return b"/" not in value and value.strip() not in {b"", b".", b".."}
    return slot.place != "header" or re.fullmatch(rb"([ -~\x80-\xff]*[!-~\x80-\xff])", value) is not None


def made_up(operation: Operation) -> st.SearchStrategy[tuple[Slot, bytes]]:
    """Make up a value for any place of a request."""

    def for_slot(slot: Slot) -> st.SearchStrategy[tuple[Slot, bytes]]:
        values = VALUES_MADE_UP if slot.place == "json" else WORDS_MADE_UP
        return st.tuples(st.just(slot), values.filter(lambda value: can_stand_in(slot, value)))

    return st.sampled_from(slots_of(operation)).flatmap(for_slot)


def request_with(operation: Operation, slot: Slot, value: bytes, valid: Mapping[str, object]) -> dict[str, Any]:
    """Write a request that is valid but for one value."""
    here = {slot.name: value}
    parts = {name: str(part).encode() for name, part in valid.items()} | (here if slot.place == "path" else {})
    path = re.sub(r"{(\w+)}", lambda name: quoted(parts[name[1]]), operation.path)
    query = f"?{slot.name}={quoted(value)}" if slot.place == "query" else ""
    headers = {"Authorization": b"Bearer " + value} if slot.place == "header" else {}
    is_form = operation.takes == "form"
    members = {name: str(valid[name]).encode() if is_form else as_json(valid[name]) for name in operation.body}
    if slot.place == operation.takes:
        members |= here
    content = value if slot == Slot(operation.takes) else as_form(members) if is_form else as_object(members)
    return {
        "method": operation.method,
        "url": path + query,
        "headers": {"Content-Type": FORM if is_form else "application/json", **headers},
        "content": content if operation.takes else b"",
    }


@pytest.mark.parametrize(
    "operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path} {operation.takes}".rstrip()
)
def test_no_value_is_a_surprise(world: FuzzWorld, operation: Operation) -> None:
    @fuzzing(EXAMPLES * len(slots_of(operation)))
    @given(made_up(operation), st.sampled_from(sorted(world.people)))
    def send(bad: tuple[Slot, bytes], role: str) -> None:
        person = world.people[role]
        who = person.headers()
        valid = {**operation.samples, **person.theirs}
        request = request_with(operation, *bad, valid)
        answer = world.client.request(**request | {"headers": {**who, **request["headers"]}})
        assert "X-Injected" not in answer.headers
        case = SCHEMA[operation.path][operation.method].Case(path_parameters=valid)
        case.validate_response(answer, checks=CHECKS)

    send()
