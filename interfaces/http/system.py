"""The root, health, the documentation pages and the pages that explain problems."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.responses import Response

from interfaces.http.deps import StateDep, get_state
from interfaces.http.fields import Slug, about
from interfaces.http.pages import first_page, prefers_html, problem_page, problems_page
from interfaces.http.problems import PROBLEMS, problem_response, problems, unavailable_problem
from interfaces.http.routing import StrictRoute
from interfaces.http.static import static_path, static_response

router = APIRouter(tags=["system"], route_class=StrictRoute)
documentation = APIRouter(route_class=StrictRoute, include_in_schema=False)
"""The documentation pages, which `API_DOCS` can leave out."""

VERSION: Final = version("agora")

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The policy of the documentation pages (CSP Level 3): files of their own host only."""


class RootOut(BaseModel):
    """A greeting, and the path of the documentation, if it is served."""

    message: Annotated[str, about("A greeting.", "Hello World!!")]
    docs: Annotated[str | None, about("The path of the documentation; null if it is not served.", "/docs")]
    version: Annotated[str, about("The server's release.", "0.1.0")]


class LiveOut(BaseModel):
    """The process is running."""

    status: Annotated[Literal["ok"], about("Always `ok`.", "ok")] = "ok"


class ReadyOut(LiveOut):
    """The dependencies of the server are available."""

    checks: Annotated[dict[str, str], about("Each dependency and its state.", {"database": "ok", "migrations": "ok"})]


@router.get("/", response_model=RootOut, responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}})
async def root(request: Request, response: Response) -> Response | RootOut:
    """Greet.

    The response is a page if Accept prefers HTML, as a browser's does.
    """
    has_docs = bool(request.app.openapi_url)
    if prefers_html(",".join(request.headers.getlist("Accept"))):
        proxies = (await get_state(request)).proxies
        scheme = "https" if proxies.is_secure(request.scope) else "http"
        page = first_page(request.headers.get("Host", ""), scheme, VERSION, has_docs=has_docs)
        page.headers["Vary"] = "Accept"
        return page
    response.headers["Vary"] = "Accept"
    return RootOut(message="Hello World!!", docs="/docs" if has_docs else None, version=VERSION)


@router.get("/health/live")
async def live() -> LiveOut:
    """Report that the process is running, without a query."""
    return LiveOut()


@router.get("/health/ready", response_model=ReadyOut)
async def ready(state: StateDep) -> Response | ReadyOut:
    """Report whether the database, its schema and the server are ready."""
    checks = dict(await state.run(state.app.queries.health.checks))
    if state.drain.is_draining:
        checks["server"] = "draining"
    failed = [f"{name}: {state}" for name, state in checks.items() if state != "ok"]
    return unavailable_problem("; ".join(failed), checks=checks) if failed else ReadyOut(checks=checks)


@router.get("/metrics", include_in_schema=False)
def show_metrics(request: Request) -> Response:
    """Serve the metrics to Prometheus if they are enabled.

    A request that a proxy forwards gets 404: it may come from any client.
    """
    page = request.app.state.metrics.page()
    if page is None or not {"forwarded", "x-forwarded-for"}.isdisjoint(request.headers):
        return problem_response("not-found")
    return Response(page, media_type=CONTENT_TYPE_LATEST)


@router.get("/problems", response_class=HTMLResponse)
async def list_problems() -> Response:
    """Serve the page that lists all types of problems."""
    return problems_page()


@router.get("/problems/{slug}", response_class=HTMLResponse, responses=problems("not-found"))
async def explain_problem(slug: Slug) -> Response:
    """Serve the page that explains a type of problem."""
    if slug not in PROBLEMS:
        return problem_response("not-found", "there is no such type of problem")
    return problem_page(slug, PROBLEMS[slug])


def _docs_page(title: str, place: str, scripts: Sequence[str], styles: Sequence[str] = ()) -> Response:
    """Build a page of scripts and styles that this host serves."""
    links = "".join(f'<link rel="stylesheet" href="{static_path(name)}">\n' for name in styles)
    tags = "".join(f'<script src="{static_path(name)}"></script>\n' for name in scripts)
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{static_path("favicon.png")}">
{links}</head>
<body>
<div id="{place}"></div>
{tags}</body>
</html>
"""
    return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY})


@documentation.get("/docs")
async def docs() -> Response:
    """Serve the interactive documentation (Swagger UI)."""
    return _docs_page("Agora: API", "docs", ["swagger-ui-bundle.js", "docs.js"], ["swagger-ui.css"])


@documentation.get("/redoc")
async def redoc() -> Response:
    """Serve the reference documentation (Redoc)."""
    return _docs_page("Agora: API reference", "redoc", ["redoc.standalone.js", "redoc.js"])


@documentation.get("/assets/{name}")
def asset(name: str, request: Request) -> Response:
    """Serve a file of the documentation pages."""
    return static_response(name, request.headers) or problem_response("not-found")
