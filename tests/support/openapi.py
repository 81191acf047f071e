"""The OpenAPI document as a map to walk: every operation, and every slot of a request to it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote

import httpx2
from dependency_injector import providers

from infrastructure.container import Container
from infrastructure.settings import Settings
from interfaces.http.api import create_api

Caller = Callable[..., httpx2.Response]
"""Sends requests: a person, or a client's `request`."""

FORM = "application/x-www-form-urlencoded"
MEDIA = {"json": "application/json", "form": FORM}

SAMPLES: Mapping[str, object] = {
    "email": "sample@example.com",
    "password": "a sample password",
    "username": "sample",
    "title": "A title",
    "content": "Some content",
    "published": True,
    "post_id": 1,
    "user_id": 1,
    "session_id": 1,
    "dir": 1,
    "role": "admin",
    "is_active": True,
    "current_password": "a sample password",
    "new_password": "another sample password",
    "refresh_token": "r" * 86,
    "token": "r" * 86,
    "token_type_hint": "refresh_token",
    "all": False,
    "slug": "validation",
}
"""Something valid for every slot but those of one value."""


@dataclass(frozen=True)
class Slot:
    """A place in a request: "path", "query", "header", "json" or "form"; with no name, the whole body."""

    place: str
    name: str = ""
    types: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Operation:
    """A method on a path, as the document has it, with one of the media that its body may have."""

    document: Mapping[str, Any] = field(repr=False)
    method: str
    path: str
    takes: str = ""
    """What the body is: "json", "form", or "" for none."""

    @cached_property
    def details(self) -> Mapping[str, Any]:
        details: Mapping[str, Any] = self.document["paths"][self.path][self.method.lower()]
        return details

    @property
    def answers(self) -> dict[int, set[str]]:
        """The media types of every documented status."""
        return {int(status): set(answer.get("content", ())) for status, answer in self.details["responses"].items()}

    @property
    def needs_a_token(self) -> bool:
        names_it = "`not-authenticated`" in self.details["responses"].get("401", {}).get("description", "")
        return names_it and not (self.takes == "form" and {} in self.details["security"])  # which is for JSON then

    @cached_property
    def body(self) -> dict[str, frozenset[str]]:
        """The types of every member of the body, JSON or form."""
        return {name: self._types(schema) for name, schema in self._members.items()}

    @property
    def samples(self) -> dict[str, object]:
        """Something valid for every slot."""
        constants = {name: schema["const"] for name, schema in self._members.items() if "const" in schema}
        return {**SAMPLES, **constants}

    @property
    def _members(self) -> Mapping[str, Any]:
        if not self.takes:
            return {}
        schema = self._resolved(self.details["requestBody"]["content"][MEDIA[self.takes]]["schema"])
        members: Mapping[str, Any] = schema["properties"]
        return members

    def slots(self) -> Iterator[Slot]:
        for parameter in self.details.get("parameters", ()):
            yield Slot(parameter["in"], parameter["name"], self._types(parameter["schema"]))
        for name, types in self.body.items():
            yield Slot(self.takes, name, types)

    def send(
        self, caller: Caller, slot: Slot | None = None, value: object = None, **samples: object
    ) -> httpx2.Response:
        """Send a valid request, but for the value in the slot; `samples` stand in for those of this module."""
        values = {**self.samples, **samples}
        members = {name: values[name] for name in self.body}
        query, headers, whole = "", {}, None
        match slot:
            case Slot("path"):
                values[slot.name] = value
            case Slot("query"):
                query = f"?{slot.name}={_quoted(value)}"
            case Slot("header"):
                headers[slot.name.encode()] = str(value).encode()
            case Slot(name=""):
                whole = value
            case Slot():
                members[slot.name] = value
        path = re.sub(r"{(\w+)}", lambda name: _quoted(values[name[1]]), self.path)
        options: dict[str, Any] = {"headers": headers}
        if self.takes == "form":
            options["content"] = "&".join(f"{name}={_quoted(value)}" for name, value in members.items()).encode()
            headers.setdefault(b"Content-Type", FORM.encode())
        elif self.takes:
            options["content"] = json.dumps(members if whole is None else whole).encode()
            headers.setdefault(b"Content-Type", b"application/json")
        return caller(self.method, path + query, **options)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = schema.get("anyOf", [schema])[0].get("$ref")  # a body that may be left out is one or null
        return schema if reference is None else self.document["components"]["schemas"][reference.rpartition("/")[2]]

    def _types(self, schema: Mapping[str, Any]) -> frozenset[str]:
        found = frozenset({schema["type"]} if "type" in schema else ())
        return found.union(*(self._types(one) for one in schema.get("anyOf", ())))


def document_of(**settings: Any) -> dict[str, Any]:
    """Build the document of a server with these settings, without its database."""
    container = Container()
    container.settings.override(providers.Object(Settings(**settings)))
    return create_api(container).openapi()


def _quoted(value: object) -> str:
    return quote(str(value), safe="", errors="surrogatepass")


def operations(caller: Caller) -> list[Operation]:
    return operations_of(caller("GET", "/openapi.json").json())


def operations_of(document: Mapping[str, Any]) -> list[Operation]:
    """List the operations of a document, one with several media for its body once for each."""
    return [
        Operation(document, method.upper(), path, takes)
        for path, item in document["paths"].items()
        for method, details in item.items()
        for takes in [name for name, medium in MEDIA.items() if medium in _content(details)] or [""]
    ]


def _content(details: Mapping[str, Any]) -> Mapping[str, Any]:
    content: Mapping[str, Any] = details.get("requestBody", {}).get("content", {})
    return content
