"""The OpenAPI document beyond what FastAPI generates."""

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from application.ports.storage import ID_MAX
from interfaces.http.deps import OptionalCaller, ReadingCaller
from interfaces.http.problems import GRANT_UNSUPPORTED, OAUTH_ERRORS, PROBLEMS, oauth_members, problem_members
from interfaces.http.routing import FormRoute

GUIDE: Final = """\
Users register, write posts, and vote them up or down.

## First steps

1. Register: `POST /users` with an e-mail and a password of 8 characters or more.
2. Sign in: `POST /login` with a form, in which `username` is the e-mail. The response has an access token and a refresh
   token, with their lifetimes in seconds.
3. Send the access token as `Authorization: Bearer <token>`.
4. Before it expires, exchange the refresh token for new ones: `POST /refresh`. Every refresh token is valid once; a
   second use ends the session. `POST /logout` ends it too.

## Lists

A list returns at most `limit` rows. Its `Link` header (RFC 8288) has the next page as `rel="next"`: follow it
unchanged, until there is none. The cursor in it belongs to the list's filters and order.

## Errors

Every error is a problem document (RFC 9457), `application/problem+json`. Its `type` is the path of a page that explains
it, and the same for every error of its kind; `/problems` lists them all. With 422, `errors` names each invalid part of
the request. `instance` is the id of the request, which the header `X-Request-ID` has in every response; a request may
bring its own. Errors of `POST /login` and `POST /refresh` also have OAuth2's `error` and `error_description`. After
429 and 503, wait for the seconds in `Retry-After`.

## Retries

GET, PUT and DELETE are safe to repeat. `POST /posts` with an `Idempotency-Key` is too, for 24 hours: the same key with
the same body returns the post that the first request created, and has `Idempotency-Replayed: true`.

## Conditional requests

A post has an `ETag`. Send it in `If-None-Match` to read the post only if it changed (304 otherwise), and in `If-Match`
to change or delete the post only if no other request did in between (412 otherwise).
"""
"""The description of the API, a first page for client developers."""

TAGS: Final = {
    "posts": "Posts and drafts: list, search, read, write, change, delete.",
    "votes": "One vote per account and post, up or down.",
    "users": "Accounts: register, read, change, export, delete.",
    "sessions": "Sign in, refresh tokens, sign out.",
    "system": "Health of the server, and the pages that explain problems.",
    "admin": "Totals, for administrators.",
}

EXAMPLE_ID: Final = "0b4c7f0e5d1f4a6f9d3b"


def _header(description: str, example: object, **schema: object) -> dict[str, Any]:
    return {"description": description, "required": True, "schema": {"type": "string"} | schema, "example": example}


HEADERS: Final[dict[str, Any]] = {
    "X-Request-ID": _header(
        "The id of the request: its own, or a new one.", EXAMPLE_ID, pattern="^[A-Za-z0-9._-]{1,128}$"
    ),
    "Retry-After": _header("Seconds before a retry can succeed.", 2, type="integer", minimum=1, format="int64"),
    "WWW-Authenticate": _header(
        "The scheme, and `invalid_token` if the request has one (RFC 6750, section 3).", 'Bearer error="invalid_token"'
    ),
    "Location": _header("The path of what was created.", "/posts/1"),
    "Content-Disposition": _header(
        "Makes a browser save the response as a file.", 'attachment; filename="agora-export.json"'
    ),
}

REQUEST_ID: Final[dict[str, Any]] = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "description": "An id for the request; replaced unless it is 1 to 128 letters, digits, `.`, `_` and `-`.",
    "schema": {"type": "string"},
    "example": EXAMPLE_ID,
}
"""Any request may have it. Operations name it that also take a form, see `_add_forms`."""

_ERRORS: Final = {"errors": [{"loc": ["body", "title"], "message": "Field required", "code": "missing"}]}

EXAMPLES: Final[dict[str, Any]] = {
    slug: {
        "summary": problem.title,
        "value": {
            **problem_members(slug),
            "instance": EXAMPLE_ID,
            **(_ERRORS if problem.status == PROBLEMS["validation"].status else {}),
        },
    }
    for slug, problem in PROBLEMS.items()
}
"""An example of every problem, for the OpenAPI document."""


def _property(description: str, example: object, **schema: object) -> dict[str, Any]:
    return {"type": "string"} | schema | {"description": description, "examples": [example]}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [*properties], "properties": properties}


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


SCHEMAS: Final[dict[str, Any]] = {
    "Problem": {
        "description": "An error (RFC 9457).",
        **_object(
            type=_property("The page that explains it.", "/problems/not-found"),
            title=_property("The same for every error of this type.", "Not found"),
            status=_property("The HTTP status.", 404, type="integer"),
            detail=_property("What went wrong this time.", "There is nothing at this path."),
            instance=_property("The id of the request.", EXAMPLE_ID),
        ),
    },
    "ValidationProblem": {
        "description": "An error of the request, with each invalid part.",
        "allOf": [
            _reference("Problem"),
            _object(
                errors={
                    "type": "array",
                    "description": "Each invalid part of the request.",
                    "items": _object(
                        loc=_property(
                            "Where it is: the place, then names and positions.",
                            ["body", "title"],
                            type="array",
                            items={"type": ["string", "integer"]},
                        ),
                        message=_property("What is wrong, for people.", "Field required"),
                        code=_property("What is wrong, for programs.", "missing"),
                    ),
                }
            ),
        ],
    },
    "TokenProblem": {
        "description": "An error, with the members that OAuth2 clients read (RFC 6749, section 5.2).",
        "allOf": [
            _reference("Problem"),
            _object(
                error=_property(
                    "What is wrong, in OAuth2's words.",
                    "invalid_grant",
                    enum=sorted({*OAUTH_ERRORS.values(), GRANT_UNSUPPORTED}),
                ),
                error_description=_property(
                    "The detail, in ASCII without quotes and backslashes.",
                    "There is nothing at this path.",
                    pattern=r"^[ !#-\[\]-~]+$",
                ),
            ),
        ],
    },
    "TokenValidationProblem": {
        "description": "An error of the request, with each invalid part and the members that OAuth2 clients read.",
        "allOf": [_reference("ValidationProblem"), _reference("TokenProblem")],
    },
}


def with_header(name: str) -> dict[str, Any]:
    """Refer to a header of `HEADERS`, for a response."""
    return {name: {"$ref": f"#/components/headers/{name}"}}


def as_text(document: dict[str, Any]) -> str:
    """Write a document as JSON, in ASCII."""
    return json.dumps(document, indent=2)


def complete_document(api: FastAPI) -> None:
    """Make the API complete the document that FastAPI generates."""
    generate = api.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        if "Problem" not in document["components"]["schemas"]:  # FastAPI returns the same document every time
            _add_forms(document, api)
            _complete(document)
            _allow_anonymous(document, api)
        return document

    api.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _add_forms(document: dict[str, Any], api: FastAPI) -> None:
    """Merge each `FormRoute` into the operation of the same path and method.

    With two media but no optional parameter, openapi-python-client 0.29 generates a module that names `Unset` without
    importing it (its issue 1451).
    """
    routes = [route for route in api.routes if isinstance(route, FormRoute)]
    for path, item in get_openapi(title=api.title, version=api.version, routes=routes)["paths"].items():
        for method, form in item.items():
            operation = document["paths"][path][method]
            operation["description"] += f"\n\n{form['description']}"
            operation["requestBody"]["content"] |= form["requestBody"]["content"]
            operation["responses"] = dict(sorted((form["responses"] | operation["responses"]).items()))
            operation.setdefault("parameters", []).append(REQUEST_ID)
            if "security" in operation:
                operation["security"].append({})


def _complete(document: dict[str, Any]) -> None:
    document["info"] |= {"description": GUIDE, "license": {"name": "MIT", "identifier": "MIT"}}
    document["servers"] = [{"url": "/", "description": "The server that serves this document."}]
    document["tags"] = [{"name": name, "description": description} for name, description in TAGS.items()]
    components = document["components"]
    components["headers"] = HEADERS
    components["schemas"] = dict(sorted((components["schemas"] | SCHEMAS).items()))
    _refine_schemas(document["paths"])
    _refine_schemas(components["schemas"])
    for name, schema in components["schemas"].items():
        schema["title"] = name
    _describe_bodies(document)
    text = as_text(document)
    components["examples"] = {
        slug: example for slug, example in EXAMPLES.items() if f'"#/components/examples/{slug}"' in text
    }
    for operation in operations(document):
        operation.setdefault("security", [])  # public, rather than forgotten


def _refine_schemas(part: Any) -> None:
    """Correct what client generators would take literally in the schemas of a part."""
    if isinstance(part, list):
        for each in part:
            _refine_schemas(each)
    if not isinstance(part, dict):
        return
    if isinstance(part.get("title"), str):  # a property's repeats its name, and generators would name types after it
        del part["title"]
    for bound in {"minimum", "maximum"} & part.keys():
        part[bound] = min(int(part[bound]), ID_MAX)  # FastAPI rounds bounds to floats
    if part.get("type") == "integer" and "enum" not in part:
        part.setdefault("format", "int64")
    for name, each in part.items():
        if name != "examples":
            _refine_schemas(each)


def _describe_bodies(document: dict[str, Any]) -> None:
    """Describe bodies and headers, with examples."""
    schemas = document["components"]["schemas"]
    for operation in operations(document):
        if body := operation.get("requestBody"):
            body["description"] = _describe(body, schemas)
        for status, response in operation["responses"].items():
            if response["description"] == "Successful Response":
                response["description"] = _describe(response, schemas)
            response["headers"] = response.get("headers", {}) | _general_headers(int(status), response["description"])
            for media in response.get("content", {}).values():
                if "/Token" in media["schema"].get("$ref", "") and "examples" in media:
                    media["examples"] = {slug: _for_oauth(EXAMPLES[slug]) for slug in media["examples"]}


def _for_oauth(example: dict[str, Any]) -> dict[str, Any]:
    return {**example, "value": {**example["value"], **oauth_members(example["value"])}}


def _describe(body: dict[str, Any], schemas: dict[str, Any]) -> str:
    """Give each medium of a body an example, and return the description of its schema."""
    descriptions = []
    for media in body.get("content", {}).values():
        schema = next(iter(media["schema"].get("anyOf", [media["schema"]])))  # of several the fullest
        element = schema.get("items", schema)
        name = element.get("$ref", "").rpartition("/")[2]
        if name in schemas:
            media["example"] = _example(schema, schemas)
            described = schemas[name]["description"]
            descriptions.append(described if element is schema else f"A list; each element: {described}")
    return " Or: ".join(descriptions) or ("A page in HTML." if "content" in body else "Done; there is no body.")


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """Compose an example from those of properties."""
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "properties" in schema:
        return {name: _example(each, schemas) for name, each in schema["properties"].items()}
    return [_example(schema["items"], schemas)]


def _general_headers(status: int, slugs: str) -> dict[str, Any]:
    """Name the headers that responses of a status have in every operation."""
    headers = with_header("X-Request-ID")
    if status == HTTPStatus.UNAUTHORIZED:
        headers |= with_header("WWW-Authenticate")
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE} or slugs == "`idempotency-key-in-use`":
        headers |= with_header("Retry-After")
    return headers


def _allow_anonymous(document: dict[str, Any], api: FastAPI) -> None:
    """Add requests without a token where it is optional."""
    optional = {OptionalCaller, ReadingCaller} if api.state.api.public_reads else {OptionalCaller}
    for route in api.routes:
        if isinstance(route, APIRoute) and any(type(each.call) in optional for each in route.dependant.dependencies):
            for method in route.methods or ():
                document["paths"][route.path][method.lower()]["security"].append({})


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every operation of a document."""
    for item in document["paths"].values():
        yield from item.values()
