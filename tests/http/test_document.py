"""The OpenAPI document, as generators of clients read it."""

import re
from collections.abc import Iterator
from typing import Any

from application.ports.storage import ID_MAX
from tests.support.openapi import document_of

DOCUMENT = document_of()

SCHEMA_KEYWORDS = {
    *("$ref", "additionalProperties", "allOf", "anyOf", "const", "default", "description", "enum", "examples"),
    *("format", "items", "maxLength", "maximum", "minLength", "minimum", "pattern", "properties", "required"),
    *("title", "type"),
}
"""Those keywords of JSON Schema 2020-12 that the document needs; names with x- extend it."""


def schemas(part: object = DOCUMENT, inside: str = "") -> Iterator[dict[str, Any]]:
    """Walk the whole document for schemas, by where schemas may stand."""
    if isinstance(part, list):
        for each in part:
            yield from schemas(each, "schema" if inside in {"anyOf", "allOf"} else "")
    if not isinstance(part, dict):
        return
    is_map = inside in {"schemas", "properties"}
    if inside in {"schema", "items", "additionalProperties"}:
        yield part
    for name, each in part.items():
        if name not in {"default", "example", "examples"} or is_map:
            yield from schemas(each, "schema" if is_map else name)


def parameters() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every parameter with the operation it belongs to."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            for parameter in operation.get("parameters", ()):
                yield f"{method.upper()} {path}", parameter


def test_headers_of_requests_are_strings() -> None:
    headers = [(where, parameter) for where, parameter in parameters() if parameter["in"] == "header"]

    assert {parameter["name"] for _, parameter in headers} == {"Idempotency-Key", "If-Match", "If-None-Match"}
    assert len(headers) == 8
    for where, parameter in headers:
        assert parameter["schema"]["type"] == "string", (where, parameter["name"])


def test_schemas_have_keywords_of_json_schema_only() -> None:
    found = list(schemas())
    assert len(found) > 300
    for schema in found:
        strange = {name for name in schema.keys() - SCHEMA_KEYWORDS if not name.startswith("x-")}
        assert not strange, schema


def test_titles_are_unique_and_names_of_their_schemas() -> None:
    titles = [schema["title"] for schema in schemas() if "title" in schema]

    assert sorted(titles) == sorted(DOCUMENT["components"]["schemas"])
    for title in titles:
        assert re.fullmatch("([A-Z][a-z]+)+", title), title


def test_ids_have_bounds() -> None:
    for where, parameter in parameters():
        if parameter["name"].endswith("_id"):
            (schema,) = (each for each in schemas(parameter) if each.get("type") == "integer")
            assert (schema["minimum"], schema["maximum"]) == (0, ID_MAX), (where, parameter["name"])
    post_id = DOCUMENT["components"]["schemas"]["ClassicVoteIn"]["properties"]["post_id"]
    assert (post_id["minimum"], post_id["maximum"]) == (0, ID_MAX)


def test_operations_have_short_ids_and_summaries_in_words() -> None:
    found = [operation for item in DOCUMENT["paths"].values() for operation in item.values()]
    ids = [operation["operationId"] for operation in found]

    assert len(ids) == len(set(ids))
    assert {"listPosts", "writePost", "deletePost", "signIn", "signOut", "seeProfile", "seeOwnAccount"} <= set(ids)
    for operation in found:
        assert re.fullmatch("[a-z]+([A-Z][a-z]+){0,2}", operation["operationId"])
        assert re.fullmatch("[A-Z][^;.`]{2,69}", operation["summary"]), operation["summary"]
        assert not operation["summary"].istitle() or " " not in operation["summary"], operation["summary"]
