"""Strict JSON: long bodies are objects of text and little else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interfaces.http.json_text import BACKSLASHES_MAX, MEMBER_COST, STRUCTURE_MAX, parse
from tests.support.api import Person, require_problem

LONG = "x" * STRUCTURE_MAX

TEXT = st.text(st.characters(exclude_categories=[]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(SCALARS | TEXT, lambda values: st.lists(values) | st.dictionaries(TEXT, values), max_leaves=5)

COSTLY = {
    "lists": "[]",
    "nested lists": "[" * 99 + "]" * 99,
    "objects": '{"a":1}',
    "empty strings": '""',
    "long integers": "9" * 640,
    "numbers": "1.5",
    "white space": " " * 40 + "1",
}


@given(st.dictionaries(TEXT, VALUES, max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_a_long_body_is_parsed_as_python_does(members: dict[str, Any], in_ascii: bool, indent: int | None) -> None:
    text = json.dumps({**members, "long": LONG}, ensure_ascii=in_ascii, indent=indent)
    body = text.encode(errors="replace")

    assert parse(body) == json.loads(body)


@pytest.mark.parametrize(
    "text",
    [
        '{"long": "%s"',
        '{"long": "%s',
        '{"long": "%s"}}',
        '{"long": "%s",}',
        '{"long" "%s"}',
        '{"long": "%s", "a": 1 2}',
        '{"long": "%s", "a": [1}',
        '{"long": "%s", "a": NaN}',
        '{"long": "%s", "a": -1e999}',
        '{"long": "%s", a: 1}',
        '{"long": "%s\n"}',
        '{"long": "%s\\x"}',
        '{"a": 1, "long": %s}',
        '"%s"',
        '["%s"]',
        "%s",
    ],
)
def test_a_long_body_that_is_malformed_is_refused(text: str) -> None:
    body = (text % LONG).encode()
    with pytest.raises(json.JSONDecodeError) as refused:
        parse(body)

    assert refused.value.doc == ""  # it would keep the body in memory
    assert refused.value.__context__ is refused.value.__cause__ is None


@pytest.mark.parametrize("kind", COSTLY)
def test_costly_structure_beside_text_is_bounded(kind: str) -> None:
    most = (STRUCTURE_MAX - 2 * MEMBER_COST) // (len(COSTLY[kind]) + 1) - 1
    accepted, refused = (
        f'{{"a":[{",".join([COSTLY[kind]] * number)}],"long":"{LONG}"}}' for number in (most, 2 * most)
    )

    assert parse(accepted.encode()) == json.loads(accepted)
    with pytest.raises(json.JSONDecodeError):
        parse(refused.encode())


def test_members_of_a_long_body_are_few() -> None:
    most = STRUCTURE_MAX // MEMBER_COST
    for number, is_accepted in ((most - 1, True), (most, False)):
        body = json.dumps({f"{each}": LONG for each in range(number)}).encode()
        if is_accepted:
            assert len(parse(body)) == number
        else:
            with pytest.raises(json.JSONDecodeError, match=f"{STRUCTURE_MAX:,}"):
                parse(body)


def test_backslashes_are_bounded() -> None:
    for number in (BACKSLASHES_MAX, BACKSLASHES_MAX + 2):
        body = b'{"a":"%s"}' % (b"\\n" * number)
        if number == BACKSLASHES_MAX:
            assert parse(body) == {"a": "\n" * number}
        else:
            with pytest.raises(json.JSONDecodeError, match="140,000 backslashes"):
                parse(body)


@pytest.mark.parametrize("letter", ["😀", "\\", '"', "\n", "é", "\U0010ffff"])
def test_the_longest_post_may_be_all_escapes(ann: Person, letter: str) -> None:
    post = {"title": "A title", "content": letter * 65_535 + "x"}
    response = ann("POST", "/posts", content=json.dumps(post).encode(), headers={"Content-Type": "application/json"})

    assert response.status_code == 201
    assert response.json()["content"] == post["content"]
    post["content"] += letter
    answer = ann("POST", "/posts", content=json.dumps(post).encode(), headers={"Content-Type": "application/json"})
    assert [error["loc"] for error in require_problem(answer, "validation")["errors"]] == [["body", "content"]]
