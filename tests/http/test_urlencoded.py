"""Percent-encoded text, and the bounds of forms, queries and paths."""

import re
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from interfaces.http.routing import MEDIA_TYPE_MAX
from interfaces.http.urlencoded import FIELDS_MAX, TooManyFields, decoded, decoded_fields
from tests.support.api import Api, Person, require_problem

PIECES = [b"%", b"%4", b"%41", b"%3D", b"%25", b"=", b"==", b"%\n", b"%\r", b"\n", b"_", b"%c3%A9"]
ENCODED = st.lists(st.sampled_from(PIECES))


@given(ENCODED.map(b"".join) | st.binary(max_size=20))
@example(b"%%41")
@example(b"%\n%41")
@example(b"%c3%")
def test_text_is_decoded_if_each_percent_sign_begins_an_escape(text: bytes) -> None:
    is_encoded = not re.search(rb"%(?![0-9A-Fa-f]{2})", text)
    expected = unquote_to_bytes(text) if is_encoded else text

    assert decoded(text) == expected.decode(errors="replace")


@given(st.dictionaries(st.text("ab=&+% é", min_size=1), st.text("ab=&+% é\0"), max_size=5))
def test_fields_are_decoded_as_python_does(fields: dict[str, str]) -> None:
    text = urlencode(fields)

    assert [*decoded_fields(text.encode())] == parse_qsl(text, keep_blank_values=True) == [*fields.items()]


@pytest.mark.parametrize("text", ["", "&", "a", "a=", "=a", "a=b=c", "&&a=1&&b", "+=+", "a=1&a=2"])
def test_unusual_fields_are_decoded_as_python_does(text: str) -> None:
    assert [*decoded_fields(text.encode())] == parse_qsl(text, keep_blank_values=True)


def test_fields_are_bounded() -> None:
    assert len([*decoded_fields(b"&".join([b"a=1"] * FIELDS_MAX))]) == FIELDS_MAX
    with pytest.raises(TooManyFields):
        decoded_fields(b"&".join([b"a=1"] * (FIELDS_MAX + 1)))
    with pytest.raises(TooManyFields):
        decoded_fields(b"&" * FIELDS_MAX)


@pytest.mark.parametrize("path", ["/posts", "/users/me/votes"])
def test_a_query_of_too_many_fields_is_invalid(ann: Person, path: str) -> None:
    def search(more: int) -> str:
        return f"{path}?limit=1" + "&more=1" * more

    assert ann("GET", search(FIELDS_MAX - 1)).status_code == 200
    problem = require_problem(ann("GET", search(FIELDS_MAX)), "validation")
    assert problem["detail"] == "query: There are more than 50 fields"


def test_a_form_of_too_many_fields_is_invalid(api: Api, ann: Person) -> None:
    form = {"username": ann.email, "password": ann.password}
    more = {f"more{number}": "1" for number in range(FIELDS_MAX - 2)}

    assert api.client.post("/login", data=form | more).status_code == 200
    problem = require_problem(api.client.post("/login", data=form | more | {"one": "1"}), "validation")
    assert problem["detail"] == "body: There are more than 50 fields"
    parts = {name: (None, value) for name, value in (form | more | {"one": "1"}).items()}
    assert "50" in require_problem(api.client.post("/login", files=parts), "validation")["detail"]


def test_the_content_type_of_a_form_is_bounded(api: Api) -> None:
    for media_type in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        content_type = f"{media_type}; a={'b' * MEDIA_TYPE_MAX}"
        problem = require_problem(
            api.client.post("/login", content=b"username=a&password=b", headers={"Content-Type": content_type}),
            "validation",
        )
        assert problem["detail"] == "body: The Content-Type has more than 256 characters"
