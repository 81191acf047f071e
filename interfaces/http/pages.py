"""The pages for people, the first one and those of problems, with one stylesheet."""

import base64
import hashlib
import re
from html import escape
from http import HTTPStatus
from typing import Final

from fastapi.responses import HTMLResponse

from interfaces.http.problems import PROBLEMS, Problem

STYLE: Final = """
:root { color-scheme: light dark; --line: #d7dbe0; --soft: #f4f5f7; --muted: #57606a; --link: #0b5cad }
@media (prefers-color-scheme: dark) { :root { --line: #3a4048; --soft: #22262b; --muted: #a3abb5; --link: #7db7f5 } }
body { max-width: 44rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; font: 1rem/1.6 system-ui, sans-serif;
  overflow-wrap: break-word }
h1 { line-height: 1.25; margin: 1.5rem 0 .5rem }
a { color: var(--link) }
code, pre { font: .9em/1.5 ui-monospace, monospace; background: var(--soft); border-radius: 4px }
code { padding: .1em .3em }
pre { padding: .8rem 1rem; white-space: pre-wrap; border: 1px solid var(--line) }
nav a { margin-right: 1rem }
dt { margin-top: 1rem; font-weight: 600 }
dd { margin: 0 }
small, .muted { color: var(--muted) }
"""

POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of these pages: their stylesheet, which is part of them, and nothing else."""

ELEMENTS_MAX: Final = 20
"""Elements of a header such as Accept that are read; browsers send up to ten."""

_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")


def prefers_html(accept: str) -> bool:
    """Test whether an Accept header prefers HTML to JSON (RFC 9110, section 12.5.1)."""
    return weight(accept, "text/html", "text/*", "*/*") > weight(accept, "application/json", "application/*", "*/*")


def weight(header: str, *names: str) -> float:
    """Find the weight of the first of these names in a header such as Accept.

    Of its elements, the first 20 count.
    """
    weights: dict[str, float] = {}
    for element in header.lower().split(",", ELEMENTS_MAX)[:ELEMENTS_MAX]:
        name, *parameters = (part.strip() for part in element.split(";"))
        given = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
        weights[name] = float(given) if re.fullmatch(r"[01](\.\d{0,3})?", given) else 0
    return next((weights[name] for name in names if name in weights), 0)


def first_page(host: str, scheme: str, version: str, *, has_docs: bool) -> HTMLResponse:
    """Render the page at the root: purpose, links and the first requests."""
    origin = f"{scheme}://{host}" if _HOST.fullmatch(host) else "http://127.0.0.1:8000"
    docs = (
        '<dt><a href="/docs">Documentation</a></dt><dd>Every operation, to read and to try; also as a'
        ' <a href="/redoc">reference</a> and as an <a href="/openapi.json">OpenAPI document</a>.</dd>'
        if has_docs
        else ""
    )
    return _page(
        "Agora",
        f"""<p>The HTTP API of a forum: people register, sign in, write posts, and vote them up or down.</p>
<dl>
{docs}
<dt><a href="/problems">Problems</a></dt><dd>Every error of the API, with its cause and its remedy.</dd>
<dt><a href="/health/ready">Health</a></dt><dd>Whether the server and its database are ready.</dd>
</dl>
<h2>The first requests</h2>
<p>Register, then sign in; the <code>username</code> of a sign-in is the e-mail.</p>
<pre>curl {escape(origin)}/users -H 'Content-Type: application/json' \\
  -d '{{"email": "ada@example.com", "password": "correct horse", "username": "ada"}}'
curl {escape(origin)}/login -d username=ada@example.com -d 'password=correct horse'</pre>
<p>Send the <code>access_token</code> of the response in a header: <code>Authorization: Bearer &lt;token&gt;</code></p>
<p><small>Version {escape(version)}. A client that does not ask for HTML gets JSON here.</small></p>""",
    )


def problems_page() -> HTMLResponse:
    """Render the list of all types of problems."""
    entries = "\n".join(
        f'<dt><a href="/problems/{slug}">{escape(problem.title)}</a> <small>{problem.status}</small></dt>'
        f"<dd>{_marked_up(problem.cause)}</dd>"
        for slug, problem in PROBLEMS.items()
    )
    return _page(
        "Problems",
        "<p>An error is a problem document (RFC 9457); its <code>type</code> is the path of one of these pages.</p>\n"
        f"<dl>\n{entries}\n</dl>",
    )


def problem_page(slug: str, problem: Problem) -> HTMLResponse:
    """Render the page that explains a type of problem."""
    phrase = HTTPStatus(problem.status).phrase
    return _page(
        problem.title,
        f"""<p class="muted">Status {problem.status} {phrase}, type <code>/problems/{slug}</code></p>
<p>{_marked_up(problem.cause)}</p>
<p>{_marked_up(problem.remedy)}</p>""",
    )


def _marked_up(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _page(title: str, content: str) -> HTMLResponse:
    full_title = title if title == "Agora" else f"{title}: Agora"
    return HTMLResponse(
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(full_title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<nav><a href="/">Agora</a><a href="/problems">Problems</a></nav>
<h1>{escape(title)}</h1>
{content}
</body>
</html>
""",
        headers={"Content-Security-Policy": POLICY},
    )
