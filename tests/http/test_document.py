"""The OpenAPI document, as generators of clients read it."""

from collections.abc import Iterator
from typing import Any

from tests.support.openapi import document_of

DOCUMENT = document_of()


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
