"""Responses held against the OpenAPI document: status, media type, schema of the body."""

import re
from typing import Any

import httpx2
from jsonschema_rs import Draft202012Validator


def closed(schemas: dict[str, Any]) -> dict[str, Any]:
    """Refuse members that a schema does not name."""
    return {
        name: {"additionalProperties": False, **schema} if "properties" in schema else schema
        for name, schema in schemas.items()
    }


class Documented:
    """The responses that a document promises, by operation.

    A response of no documented operation is not judged: another method, an unknown path, a page for browsers.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        components = document["components"]
        self._components = {False: components, True: {**components, "schemas": closed(components["schemas"])}}
        self._operations = [
            (method.upper(), re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path)), path, operation["responses"])
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
            if isinstance(operation, dict) and "responses" in operation
        ]
        self._validators: dict[int, Draft202012Validator] = {}

    def require(self, response: httpx2.Response) -> None:
        """Require a response to be one that its operation documents."""
        method, where = response.request.method, response.request.url.path
        for name, pattern, path, responses in self._operations:
            if name == method and pattern.fullmatch(where):
                response.read()
                self._require(response, method, path, responses)
                return

    def _require(self, response: httpx2.Response, method: str, path: str, responses: dict[str, Any]) -> None:
        status = str(response.status_code)
        assert status in responses, f"{method} {path} does not document {status}: {response.text}"
        content = responses[status].get("content", {})
        media_type = response.headers.get("Content-Type", "").partition(";")[0]
        if not response.content:
            return
        assert media_type in content, f"{method} {path} does not document {media_type} for {status}"
        if media_type.endswith("json"):
            validator = self._validator(
                content[media_type]["schema"], is_closed=response.is_success
            )  # problems have more members
            errors = [
                f"{list(error.instance_path)}: {error.message}" for error in validator.iter_errors(response.json())
            ]
            assert not errors, f"{method} {path}, {status}: {errors}"

    def _validator(self, schema: dict[str, Any], *, is_closed: bool) -> Draft202012Validator:
        if id(schema) not in self._validators:
            self._validators[id(schema)] = Draft202012Validator({**schema, "components": self._components[is_closed]})
        return self._validators[id(schema)]
