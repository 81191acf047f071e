"""Problem details (RFC 9457), each type with a page that explains it.

The code of a domain error is the slug of its problem.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from inspect import signature
from typing import Any, Final

from fastapi.params import Depends
from starlette.requests import Request
from starlette.responses import Response

from domain.errors import DomainError, Invalid, TooManyRequests, Unauthenticated
from domain.posts import KeyInUse, KeyReused

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 2
KEY_IN_USE_SECONDS: Final = 1
"""Delay before a retry while another request with the same Idempotency-Key is running."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the current request; `RequestContext` sets it."""

is_oauth: ContextVar[bool] = ContextVar("is_oauth", default=False)
"""Whether the current request is OAuth2's; `OAuthRoute` sets it."""

OAUTH_ERRORS: Final[Mapping[int, str]] = {401: "invalid_grant", 403: "invalid_grant", 422: "invalid_request"}
"""The `error` of a status in RFC 6749, section 5.2; what a retry may settle has none."""

GRANT_UNSUPPORTED: Final = "unsupported_grant_type"
"""The code of an invalid `grant_type`, which is its `error` too."""

_NOT_DESCRIPTIVE: Final = re.compile(r"[^ !#-\[\]-~]")
"""Characters that `error_description` may not hold."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A type of error: its status, title, cause and remedy."""

    status: int
    title: str
    cause: str
    remedy: str


PROBLEMS: Final[Mapping[str, Problem]] = {
    "not-authenticated": Problem(
        401,
        "Not authenticated",
        "This operation needs an access token, and the request has none.",
        "Sign in at POST /login and send the token as the header Authorization: Bearer <token>.",
    ),
    "invalid-token": Problem(
        401,
        "Invalid token",
        "The token was not issued here, has expired or was used, or its session or account has ended.",
        "For an access token get fresh ones at POST /refresh; for a refresh token sign in again at POST /login.",
    ),
    "invalid-credentials": Problem(
        403,
        "Invalid credentials",
        "No account has this e-mail together with this password.",
        "Check both. Upper and lower case matter in the password, not in the e-mail.",
    ),
    "account-inactive": Problem(
        403,
        "Account inactive",
        "The password is right, but an administrator has deactivated the account.",
        "Ask an administrator to activate it again.",
    ),
    "forbidden": Problem(
        403,
        "Forbidden",
        "You may read this but not change it in this way, or the origin of the page may not use this API.",
        "Ask the owner or an administrator; for a page, ask the operator to add its origin to CORS_ORIGINS.",
    ),
    "admins-only": Problem(
        403,
        "Administrators only",
        "Only administrators may do this, and your account is not one.",
        "Ask an administrator.",
    ),
    "post-not-found": Problem(
        404,
        "Post not found",
        "There is no post with this id, or it is a draft that is not yours.",
        "Check the id; GET /posts lists the posts that you can see.",
    ),
    "user-not-found": Problem(
        404,
        "User not found",
        "There is no account with this id. It may have been deleted.",
        "Check the id.",
    ),
    "vote-not-found": Problem(
        404,
        "Vote not found",
        "There is no vote of yours on this post to take back.",
        "Nothing needs to be done. DELETE /posts/{id}/vote never returns this problem.",
    ),
    "session-not-found": Problem(
        404,
        "Session not found",
        "You have no session with this id. It may have ended.",
        "Check the id; GET /users/me/sessions lists yours.",
    ),
    "not-found": Problem(
        404,
        "Not found",
        "There is nothing at this path.",
        "Check the path, a doubled slash included; GET /docs lists all paths.",
    ),
    "method-not-allowed": Problem(
        405,
        "Method not allowed",
        "The path exists, but not for this method.",
        "Use one of the methods in the Allow header of the response.",
    ),
    "email-taken": Problem(
        409,
        "E-mail taken",
        "An account with this e-mail exists already. Upper and lower case make no difference.",
        "Sign in with it, or register with another one.",
    ),
    "username-taken": Problem(
        409,
        "Username taken",
        "Another account has this username, or it is reserved. Upper and lower case make no difference.",
        "Choose another one.",
    ),
    "already-voted": Problem(
        409,
        "Already voted",
        "Your vote on this post points this way already; it counts once.",
        "Nothing needs to be done. PUT /posts/{id}/vote never returns this problem.",
    ),
    "last-admin": Problem(
        409,
        "Last administrator",
        "The account is the last active administrator, and at least one must remain.",
        "Make another account an administrator first.",
    ),
    "idempotency-key-in-use": Problem(
        409,
        "Idempotency key in use",
        "Another request with this Idempotency-Key is still running.",
        "Retry after the seconds in the Retry-After header: the response is then that of the other request.",
    ),
    "version-mismatch": Problem(
        412,
        "Version mismatch",
        "If-Match does not name the version of the post, or If-None-Match does: the post changed since you read it.",
        "Read the post again, merge both edits, and send yours with the new ETag.",
    ),
    "body-too-large": Problem(
        413,
        "Body too large",
        "The body is larger than 1 MiB (1,048,576 bytes), or than 16 KiB for /login, /refresh and /logout.",
        "Send a smaller body.",
    ),
    "validation": Problem(
        422,
        "Invalid request",
        "A part of the request is missing, malformed or out of bounds; `errors` names it and the reason.",
        "Correct what `errors` names and send the request again.",
    ),
    "idempotency-key-reused": Problem(
        422,
        "Idempotency key reused",
        "You created another post with this Idempotency-Key within the last 24 hours.",
        "Generate a new key for every post; repeat a key only with the same body.",
    ),
    "invalid-cursor": Problem(
        422,
        "Invalid cursor",
        "The cursor does not belong to this list: it was altered, or the filters or the order differ.",
        "Follow the links in the Link header unchanged; to start over, omit the cursor.",
    ),
    "rate-limited": Problem(
        429,
        "Too many attempts",
        "There were too many wrong passwords or registrations from your address, or your account wrote too much.",
        "Retry after the seconds in the Retry-After header.",
    ),
    "internal": Problem(
        500,
        "Internal error",
        "The server failed because of a defect.",
        "Retry; if it persists, send the operator the request id from `instance`.",
    ),
    "transfer-coding": Problem(
        501,
        "Unknown transfer coding",
        "The body has a transfer coding besides chunked, such as gzip.",
        "Send the body as it is, with Transfer-Encoding: chunked or with a Content-Length.",
    ),
    "unavailable": Problem(
        503,
        "Unavailable",
        "A service that Agora depends on, most likely its database, is unavailable or overloaded.",
        "Retry after the seconds in the Retry-After header.",
    ),
}


class ProblemResponse(Response):
    """A response that describes a problem."""

    media_type = MEDIA_TYPE


def problem_response(
    slug: str,
    detail: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    **members: object,
) -> ProblemResponse:
    """Build a problem's response; `members` extend it (RFC 9457, section 3.2)."""
    body = problem_members(slug, detail) | members
    if is_oauth.get():
        body |= oauth_members(body)
    return ProblemResponse(json.dumps(body), PROBLEMS[slug].status, headers)


def problem_members(slug: str, detail: str | None = None) -> dict[str, Any]:
    """Get the members that every problem has (RFC 9457, section 3.1)."""
    problem = PROBLEMS[slug]
    return {
        "type": f"/problems/{slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail or problem.cause,
        "instance": request_id.get(),
    }


def oauth_members(problem: Mapping[str, Any]) -> dict[str, str]:
    """Get a problem's members for OAuth2 clients (RFC 6749, section 5.2)."""
    error = OAUTH_ERRORS.get(problem["status"])
    if error is None:
        return {}
    if any(each["code"] == GRANT_UNSUPPORTED for each in problem.get("errors", ())):
        error = GRANT_UNSUPPORTED
    return {"error": error, "error_description": _NOT_DESCRIPTIVE.sub("'", problem["detail"])}


def domain_problem(error: DomainError) -> ProblemResponse:
    """Build the response for a domain error."""
    if isinstance(error, Invalid):
        place = "header" if isinstance(error, KeyReused) else "body"
        where = {"loc": [place, error.field], "message": error.detail, "code": error.reason}
        return validation_problem([where], error.code)
    headers = {}
    if isinstance(error, Unauthenticated):
        sent = error.code == "invalid-token"
        headers["WWW-Authenticate"] = 'Bearer error="invalid_token"' if sent else "Bearer"
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, KeyInUse):
        headers["Retry-After"] = str(KEY_IN_USE_SECONDS)
    return problem_response(error.code, error.detail, headers=headers)


def validation_problem(errors: Sequence[Mapping[str, Any]], slug: str = "validation") -> ProblemResponse:
    """Build the response for an invalid request.

    `loc` names each place; values are never repeated.
    """
    first = errors[0]
    detail = f"{'.'.join(str(part) for part in first['loc'])}: {first['message']}"
    if len(errors) > 1:
        detail += f" (and {len(errors) - 1} more)"
    return problem_response(slug, detail, errors=list(errors))


def unavailable_problem(detail: str, **members: object) -> ProblemResponse:
    """Build the response for a temporary failure, with `Retry-After`."""
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return problem_response("unavailable", detail, headers=headers, **members)


class Raises(frozenset[str]):
    """The slugs of a parameter's problems, for the parameter's annotation."""


Responses = dict[int | str, dict[str, Any]]

ANYWHERE: Final = frozenset({"body-too-large", "internal", "transfer-coding"})
"""The problems of every operation."""


def problems(*slugs: str) -> Responses:
    """Name the problems that an operation has beyond those of its parameters."""
    return {slug: {} for slug in slugs}


def document_responses(endpoint: Callable[..., Any], responses: Responses, *, for_oauth: bool = False) -> Responses:
    """Document the responses of an operation for OpenAPI, with all its problems."""
    slugs = ANYWHERE | raised_by(endpoint) | (PROBLEMS.keys() & responses.keys())
    documented: Responses = {}
    for slug in sorted(slugs, key=lambda slug: (PROBLEMS[slug].status, slug)):
        problem = PROBLEMS[slug]
        schema = "ValidationProblem" if problem.status == PROBLEMS["validation"].status else "Problem"
        if for_oauth and problem.status in OAUTH_ERRORS:
            schema = f"Token{schema}"
        response = documented.setdefault(
            problem.status,
            {"description": "", "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}},
        )
        response["content"][MEDIA_TYPE].setdefault("examples", {})[slug] = {"$ref": f"#/components/examples/{slug}"}
        response["description"] = " or ".join(filter(None, [response["description"], f"`{slug}`"]))
    return documented | {status: response for status, response in responses.items() if status not in PROBLEMS}


def raised_by(endpoint: Callable[..., Any]) -> set[str]:
    """Collect the problems of an endpoint's parameters.

    Values have `validation`; `Raises` names the others.
    """
    slugs: set[str] = set()
    for parameter in signature(endpoint).parameters.values():
        metadata = getattr(parameter.annotation, "__metadata__", ())
        slugs.update(*(each for each in metadata if isinstance(each, Raises)))
        is_injected = parameter.annotation in {Request, Response} or any(isinstance(each, Depends) for each in metadata)
        if not is_injected:
            slugs.add("validation")
    return slugs
