"""Errors as clients see them: RFC 9457 problems, each with a page that explains it.

A kind of domain error has one status, found along the error's MRO; the code of the error is the slug of its page.
"""

import json
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from domain.errors import Conflict, DomainError, Forbidden, Invalid, NotFound, Stale, TooManyRequests, Unauthenticated
from domain.posts import KeyInUse, KeyReused

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 2
KEY_IN_USE_SECONDS: Final = 1
"""When to ask again for what another request is still working on."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request at hand; middleware sets it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A type of error: its status, its title, and what people should know of it."""

    status: int
    title: str
    cause: str
    remedy: str


PROBLEMS: Final[Mapping[str, Problem]] = {
    "not-authenticated": Problem(
        401,
        "Not authenticated",
        "This needs to know who is asking, and the request carries no access token.",
        "Sign in at POST /login and send the token along as the header Authorization: Bearer <token>.",
    ),
    "invalid-token": Problem(
        401,
        "Invalid token",
        "The token is not one of ours, has expired or was spent, or its session or account has ended.",
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
        "You may see this, but not change it in this way, or the page that asks may not use this API.",
        "Ask its owner or an administrator; for a page, have the operator add its origin to CORS_ORIGINS.",
    ),
    "admins-only": Problem(
        403,
        "Administrators only",
        "Only administrators may do this, and you are not one.",
        "Ask an administrator to do it for you.",
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
        "Nothing needs to be done. DELETE /posts/{id}/vote never answers with this.",
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
        "Check the path, a doubled slash included; GET /docs lists every one.",
    ),
    "method-not-allowed": Problem(
        405,
        "Method not allowed",
        "The path exists, but not for this method.",
        "Use one of the methods in the Allow header of the answer.",
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
        "Another account has this username. Upper and lower case make no difference.",
        "Choose another one.",
    ),
    "already-voted": Problem(
        409,
        "Already voted",
        "Your vote on this post points this way already; it counts once.",
        "Nothing needs to be done. PUT /posts/{id}/vote never answers with this.",
    ),
    "last-admin": Problem(
        409,
        "Last administrator",
        "This would leave nobody to administer: the account is the last active administrator.",
        "Make somebody else an administrator first.",
    ),
    "idempotency-key-in-use": Problem(
        409,
        "Idempotency key in use",
        "Another request under this Idempotency-Key is still being worked on.",
        "Try again after the seconds in the Retry-After header: the answer is then what the other request gets.",
    ),
    "version-mismatch": Problem(
        412,
        "Version mismatch",
        "The post has been edited since you read it, or If-Match holds no tag of a post.",
        "Read the post again, decide what to make of both edits, and send yours with the new ETag.",
    ),
    "body-too-large": Problem(
        413,
        "Body too large",
        "The body is larger than 1 MiB (1,048,576 bytes), or than 16 KiB for /login, /refresh and /logout.",
        "Send less at once.",
    ),
    "validation": Problem(
        422,
        "Invalid request",
        "Something in the request is missing, malformed or out of bounds; `errors` says what and where.",
        "Mend what `errors` names and send it again.",
    ),
    "idempotency-key-reused": Problem(
        422,
        "Idempotency key reused",
        "Under this Idempotency-Key you have written another post within the last 24 hours.",
        "Make up a new key for every post; repeat a key only with the same body.",
    ),
    "invalid-cursor": Problem(
        422,
        "Invalid cursor",
        "The cursor is not one that was given for this list: altered, or with other filters or another order.",
        "Follow the links in the Link header as they are; to begin anew, leave the cursor out.",
    ),
    "rate-limited": Problem(
        429,
        "Too many attempts",
        "There were too many wrong passwords, or too many registrations, from where you are.",
        "Wait the seconds in the Retry-After header, and try again.",
    ),
    "internal": Problem(
        500,
        "Internal error",
        "Something went wrong on our side that should not have.",
        "Try again; if it stays, tell the operator the request id, which is in `instance`.",
    ),
    "unavailable": Problem(
        503,
        "Unavailable",
        "Something that Agora stands on, most likely its database, cannot answer now.",
        "Try again after the seconds in the Retry-After header.",
    ),
}

STATUS: Final[Mapping[type[DomainError], int]] = {
    Invalid: 422,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Stale: 412,
    TooManyRequests: 429,
}


class ProblemResponse(Response):
    """An answer that says what went wrong."""

    media_type = MEDIA_TYPE


def problem_response(
    slug: str,
    detail: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    **members: object,
) -> ProblemResponse:
    """Answer with a problem; `members` go beside the standard ones (RFC 9457, section 3.2)."""
    problem = PROBLEMS[slug]
    body = {
        "type": f"/problems/{slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail or problem.cause,
        "instance": request_id.get(),
        **members,
    }
    return ProblemResponse(json.dumps(body), problem.status, headers)


def domain_problem(error: DomainError) -> ProblemResponse:
    """Answer a domain error."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    if PROBLEMS[error.code].status != status:
        raise AssertionError(f"{error.code} is documented with another status than {status}")
    if isinstance(error, Invalid):
        place = "header" if isinstance(error, KeyReused) else "body"
        where = {"loc": [place, error.field], "message": error.detail, "code": error.reason}
        return validation_problem([where], error.code)
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        sent = error.code == "invalid-token"
        headers["WWW-Authenticate"] = 'Bearer error="invalid_token"' if sent else "Bearer"
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, KeyInUse):
        headers["Retry-After"] = str(KEY_IN_USE_SECONDS)
    return problem_response(error.code, error.detail, headers=headers)


def validation_problem(errors: Sequence[Mapping[str, Any]], slug: str = "validation") -> ProblemResponse:
    """Answer a request that cannot be accepted, naming each place by `loc`; values are never repeated."""
    first = errors[0]
    detail = f"{'.'.join(str(part) for part in first['loc'])}: {first['message']}"
    if len(errors) > 1:
        detail += f" (and {len(errors) - 1} more)"
    return problem_response(slug, detail, errors=list(errors))


def unavailable_problem(detail: str, **members: object) -> ProblemResponse:
    """Answer that it cannot be done now, and when to try again."""
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return problem_response("unavailable", detail, headers=headers, **members)


def problems(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """Document the errors of an operation for OpenAPI, those that any operation can have included."""
    responses: dict[int | str, dict[str, Any]] = {}
    for slug in sorted({*slugs, "body-too-large", "internal"}, key=lambda slug: (PROBLEMS[slug].status, slug)):
        problem = PROBLEMS[slug]
        schema = "ValidationProblem" if problem.status == PROBLEMS["validation"].status else "Problem"
        response = responses.setdefault(
            problem.status,
            {"description": "", "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}},
        )
        response["description"] = " or ".join(filter(None, [response["description"], f"`{slug}`"]))
    return responses


SCHEMAS: Final[dict[str, Any]] = {
    "Problem": {
        "type": "object",
        "title": "Problem",
        "description": "An error, as RFC 9457 has it.",
        "required": ["type", "title", "status", "detail", "instance"],
        "properties": {
            "type": {
                "type": "string",
                "description": "The page that explains it.",
                "examples": ["/problems/not-found"],
            },
            "title": {"type": "string", "description": "The same for every error of this type."},
            "status": {"type": "integer", "description": "The HTTP status."},
            "detail": {"type": "string", "description": "What went wrong this time."},
            "instance": {"type": "string", "description": "The id of the request."},
        },
    },
    "ValidationProblem": {
        "title": "ValidationProblem",
        "allOf": [
            {"$ref": "#/components/schemas/Problem"},
            {
                "type": "object",
                "required": ["errors"],
                "properties": {
                    "errors": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["loc", "message", "code"],
                            "properties": {
                                "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                                "message": {"type": "string"},
                                "code": {"type": "string"},
                            },
                        },
                    }
                },
            },
        ],
    },
}


def page(slug: str) -> str:
    """Write the page that explains a problem to people."""
    problem = PROBLEMS[slug]
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(problem.title)}</title></head>
<body>
<h1>{escape(problem.title)}</h1>
<p>Status {problem.status} {HTTPStatus(problem.status).phrase}, type <code>/problems/{slug}</code>.</p>
<p>{escape(problem.cause)}</p>
<p>{escape(problem.remedy)}</p>
</body>
</html>
"""
