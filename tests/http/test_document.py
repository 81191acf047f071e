"""The OpenAPI document, as generators of clients read it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from application.ports.storage import ID_MAX
from interfaces.http.openapi import as_text
from tests.support.command import run
from tests.support.openapi import document_of
from tests.support.reference import OPENAPI

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

    names = {parameter["name"] for _, parameter in headers}
    assert names == {"Idempotency-Key", "If-Match", "If-None-Match", "X-Request-ID"}
    assert len(headers) == 10
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


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference."""
    found: Any = DOCUMENT
    for step in part["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)


def responses() -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield every response with its operation and status."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            for status, response in operation["responses"].items():
                yield f"{method.upper()} {path}", int(status), response


def test_responses_document_their_headers() -> None:
    for where, status, response in responses():
        named = response["headers"]
        assert "X-Request-ID" in named
        assert ("WWW-Authenticate" in named) == (status == 401), where
        assert ("Retry-After" in named) == (status in {429, 503} or (where, status) == ("POST /posts", 409)), where
        assert ("Location" in named) == (status == 201 and where != "POST /vote"), where
        assert ("Content-Disposition" in named) == ((where, status) == ("GET /users/me/export", 200)), where
        for header in (resolved(each) if "$ref" in each else each for each in named.values()):
            assert header["description"]
            assert header["schema"]["type"]


def optional_tokens(document: dict[str, Any]) -> set[str]:
    """Collect the operations with a token that may be left out."""
    return {
        f"{method.upper()} {path}"
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if {} in operation.get("security", ())
    }


def test_optional_tokens_are_marked() -> None:
    assert optional_tokens(DOCUMENT) == {"GET /users/{user_id}", "POST /logout"}
    public = {"GET /users/{user_id}", "POST /logout", "GET /posts", "GET /posts/{post_id}"}
    assert optional_tokens(document_of(public_reads=True)) == public


def test_integers_have_a_format() -> None:
    for schema in schemas():
        if schema.get("type") == "integer" and "enum" not in schema:
            assert schema["format"] == "int64", schema


def test_parameters_have_one_type_and_a_description() -> None:
    found = list(parameters())
    assert len(found) > 30
    for where, parameter in found:
        assert "type" in parameter["schema"], (where, parameter["name"])
        assert parameter["description"], (where, parameter["name"])


def test_first_page_teaches_the_api() -> None:
    info = DOCUMENT["info"]

    for word in ("POST /users", "POST /login", "POST /refresh", "Link", "Idempotency-Key", "If-Match", "Retry-After"):
        assert word in info["description"], word
    assert info["license"] == {"name": "MIT", "identifier": "MIT"}
    assert DOCUMENT["servers"][0]["url"] == "/"
    used = {tag for item in DOCUMENT["paths"].values() for operation in item.values() for tag in operation["tags"]}
    assert {tag["name"] for tag in DOCUMENT["tags"] if tag["description"]} == used


def test_every_property_has_a_description_and_an_example() -> None:
    found = 0
    for schema in schemas():
        for name, of_property in schema.get("properties", {}).items():
            found += 1
            refers = "$ref" in of_property or "$ref" in of_property.get("items", {})
            assert of_property.get("description") or refers, (schema.get("title"), name)
            assert "examples" in of_property or refers or "items" in of_property, (schema.get("title"), name)
    assert found > 90


def test_examples_are_valid() -> None:
    for schema in schemas():
        for example in schema.get("examples", ()):
            assert not list(errors_of(schema, example)), (schema, example)
    for where, status, response in responses():
        for media_type, media in response.get("content", {}).items():
            if media_type != "text/html":
                named = [
                    (resolved(each) if "$ref" in each else each)["value"] for each in media.get("examples", {}).values()
                ]
                examples = [media["example"]] if "example" in media else named
                assert examples, (where, status)
                for example in examples:
                    assert not list(errors_of(media["schema"], example)), (where, status, example)


def test_bodies_of_requests_have_a_description_and_a_valid_example() -> None:
    bodies = [
        operation["requestBody"]
        for item in DOCUMENT["paths"].values()
        for operation in item.values()
        if "requestBody" in operation
    ]
    assert len(bodies) > 12
    for body in bodies:
        assert body["description"]
        for media in body["content"].values():
            assert not list(errors_of(media["schema"], media["example"])), media


def errors_of(schema: dict[str, Any], example: object) -> Iterator[object]:
    """Validate an example."""
    return jsonschema_rs.iter_errors({**schema, "components": DOCUMENT["components"]}, example)


def test_bodies_of_tokens_are_json_or_a_form() -> None:
    media = {
        path: {name: each["schema"] for name, each in DOCUMENT["paths"][path]["post"]["requestBody"]["content"].items()}
        for path in ("/login", "/refresh", "/logout")
    }
    form = "application/x-www-form-urlencoded"

    def schema(name: str) -> dict[str, str]:
        return {"$ref": f"#/components/schemas/{name}"}

    assert media == {
        "/login": {form: schema("SignInForm")},
        "/refresh": {"application/json": schema("RefreshIn"), form: schema("RefreshForm")},
        "/logout": {"application/json": schema("LogoutIn"), form: schema("RevocationForm")},
    }
    sign_out = DOCUMENT["paths"]["/logout"]["post"]
    assert not sign_out["requestBody"].get("required")
    assert {"200", "204"} <= sign_out["responses"].keys()


def test_errors_for_oauth2_clients_are_documented_where_they_occur() -> None:
    found = {
        (where, status)
        for where, status, response in responses()
        for media in response.get("content", {}).values()
        if media["schema"].get("$ref", "").endswith(("/TokenProblem", "/TokenValidationProblem"))
    }

    assert found == {("POST /login", 403), ("POST /login", 422), ("POST /refresh", 401), ("POST /refresh", 422)}


def test_security_scheme_names_where_tokens_are_issued_and_refreshed() -> None:
    flow = DOCUMENT["components"]["securitySchemes"]["Bearer"]["flows"]["password"]

    assert flow == {"scopes": {}, "tokenUrl": "login", "refreshUrl": "refresh"}


def test_directions_of_votes_are_named_enums() -> None:
    found = DOCUMENT["components"]["schemas"]
    of_votes = [found[name]["properties"]["dir"] for name in ("ClassicVoteIn", "VoteIn", "VoteOut", "OwnVoteOut")]
    of_votes += [found["ExportedVoteOut"]["properties"]["dir"], found["PostOut"]["properties"]["my_vote"]]
    of_votes += [parameter["schema"] for _, parameter in parameters() if parameter["name"] == "dir"]

    assert len(of_votes) == 7
    for schema in of_votes:
        names = dict(zip(schema["x-enum-varnames"], schema["enum"], strict=True))
        assert names in ({"up": 1, "down": -1}, {"up": 1, "down": -1, "none": 0})


def test_copy_in_docs_is_current() -> None:
    assert OPENAPI.read_text("utf-8") == as_text(DOCUMENT) + "\n", "run: make docs"


def test_command_writes_the_document_without_a_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", "postgresql://agora:agora@127.0.0.1:1/agora")
    monkeypatch.setenv("API_DOCS", "false")
    written = run("openapi")
    assert (written.code, written.errors) == (0, "")
    assert json.loads(written.output) == DOCUMENT

    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("PUBLIC_READS", "true")
    assert optional_tokens(json.loads(run("openapi").output)) > optional_tokens(DOCUMENT)
    assert list(tmp_path.iterdir()) == []
