"""The OpenAPI document beyond what FastAPI generates."""

from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI

from application.ports.storage import ID_MAX
from interfaces.http.problems import SCHEMAS

RENAMED: Final = {"Body_signIn": "SignInForm"}
"""Schemas whose generated name is not one for clients."""


def complete_document(api: FastAPI) -> None:
    """Make the API complete the document that FastAPI generates."""
    generate = api.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        if "Problem" not in document["components"]["schemas"]:  # FastAPI returns the same document every time
            _complete(document)
        return document

    api.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _complete(document: dict[str, Any]) -> None:
    components = document["components"]
    schemas = {RENAMED.get(name, name): schema for name, schema in components["schemas"].items()}
    components["schemas"] = dict(sorted((schemas | SCHEMAS).items()))
    for outermost in _outermost(document):
        for schema in _nested(outermost):
            schema.pop("title", None)  # a property's repeats its name, and generators would name types after it
            for bound in {"minimum", "maximum"} & schema.keys():
                schema[bound] = min(int(schema[bound]), ID_MAX)  # FastAPI rounds bounds to floats
            old = schema.get("$ref", "").rpartition("/")[2]
            if old in RENAMED:
                schema["$ref"] = f"#/components/schemas/{RENAMED[old]}"
    for name, schema in components["schemas"].items():
        schema["title"] = name


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every operation of a document."""
    for item in document["paths"].values():
        yield from item.values()


def _outermost(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every schema that no other contains."""
    yield from document["components"]["schemas"].values()
    for operation in operations(document):
        bodies = [*operation["responses"].values(), operation.get("requestBody", {})]
        media = [media for body in bodies for media in body.get("content", {}).values()]
        headers = [header for body in bodies for header in body.get("headers", {}).values()]
        for holder in (*operation.get("parameters", ()), *media, *headers):
            if "schema" in holder:
                yield holder["schema"]


def _nested(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a schema and all that it contains."""
    yield schema
    inner = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    for each in (*inner, *schema.get("anyOf", ()), *schema.get("allOf", ())):
        if isinstance(each, dict):
            yield from _nested(each)
