"""Cost of hostile input: processor time in every field, memory after refusals.

Harmless is plain ASCII. Forms, queries and paths are percent-encoded: there the cost is also compared with harmless
text in the same encoding, such as a passphrase with accents.
"""

import http.client
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, quote_plus, urlencode

from benchmarks.peers import Running
from benchmarks.processes import processor_seconds, resident_kib
from benchmarks.report import Bar, Finding

KIB: Final = 1_024
BODY: Final = 1_024 * KIB - 4 * KIB
SMALL_BODY: Final = 15 * KIB
TARGET: Final = 60 * KIB
"""Bytes of text in a body, in a body that asks for tokens, and in a path, a query or a header."""

REQUESTS: Final = 20
ROUNDS: Final = 3
REFUSALS: Final = 1_000
COST_BAR: Final = Bar(2.0, at_most=True)
MEMORY_BAR: Final = Bar(1.1, at_most=True)

HARMLESS: Final = "a"
HARMLESS_ENCODED: Final = "\u00e9"
WORST: Final = {
    "combining marks": "\u0301",
    "marks in reverse order": "\u0315\u0300\u05ae\u059a",
    "ligatures": "\ufdfa",
    "dotted capitals": "\u0130",
    "digits": "9",
    "blanks": " ",
    "at signs": "@",
    "dots": ".",
    "quotes": '"',
    "backslashes": "\\",
    "line breaks": "\n",
    "letters and line breaks": "a\n",
    "percent signs": "%",
    "commas": ",",
}
"""Texts that cost more than their length where they are normalised, folded, matched, converted or escaped."""

WORST_ENCODED: Final[Mapping[str, Mapping[str, str]]] = {
    "json": {
        "lists": "[],",
        "nested lists": "[" * 99 + "]" * 99 + ",",
        "objects": '{"a":1},',
        "empty strings": '"",',
        "integers": "9" * 640 + ",",
        "numbers": "1.5,",
    },
    "form": {"stray percent signs": "%", "fields": "a&"},
    "query": {"stray percent signs": "%", "fields": "a&"},
    "path": {"stray percent signs": "%"},
    "header": {
        "media types": "a/b;q=1,",
        "entity tags": '"",',
        "our entity tags": f'"1-{"0" * 24}",',
        "headers": "a" * 1_000 + "\n",
    },
}
"""What costs more than its length where the syntax of the place is parsed; JSON in a list."""

MALFORMED: Final = {
    "malformed": ("application/json", b'{"a": "%s" "b"}' % (b"x" * BODY)),
    "not UTF-8": ("application/json", b'"%s\xff"' % (b"x" * BODY)),
    "deep": ("application/json", b"[" * BODY),
    "wrong field": ("application/json", b'{"email": 1, "rest": [%s]}' % b",".join([b'"abc"'] * (BODY // 6))),
    "too large": ("application/json", b"x" * (BODY + 8 * KIB)),
    "another content type": ("text/plain", b"x" * BODY),
}
"""Bodies that are refused, by what is wrong with them."""

Request = tuple[str, str, bytes | None, Mapping[str, str]]
"""Method, target, body and headers."""


@dataclass(frozen=True, slots=True)
class Field:
    """A place in a request where a client puts text, with what else the request needs."""

    method: str
    path: str
    place: str
    name: str
    others: Mapping[str, Any] = field(default_factory=dict)

    def request(self, text: str) -> Request:
        """Make a request with this text."""
        if self.place == "json":
            return self.request_encoded(_json(text).decode())
        if self.place in {"form", "query"}:
            return self.request_encoded(quote_plus(text))
        return self.request_encoded(quote(text, safe="") if self.place == "path" else _printable(text))

    def request_encoded(self, text: str) -> Request:
        """Make the same, with text that is in the syntax of its place already."""
        if self.place == "json":
            members = [*(f"{_json(name).decode()}:{_json(value).decode()}" for name, value in self.others.items())]
            body = "{" + ",".join([*members, f"{_json(self.name).decode()}:{text}"]) + "}"
            return self.method, self.path, body.encode(), {"Content-Type": "application/json"}
        if self.place == "form":
            form = f"{urlencode(self.others)}&{self.name}={text}".encode()
            return self.method, self.path, form, {"Content-Type": "application/x-www-form-urlencoded"}
        if self.place == "query":
            return self.method, f"{self.path}?{self.name}={text}", None, {}
        if self.place == "path":
            return self.method, self.path.replace("{}", text), None, {}
        lines = {f"{self.name}{number or ''}": line for number, line in enumerate(text.split("\n"))}
        return self.method, self.path, _json(self.others) if self.others else None, lines

    @property
    def is_encoded(self) -> bool:
        """Whether text is percent-encoded."""
        return self.place in {"form", "query", "path"}

    @property
    def size(self) -> int:
        """How many bytes of text it takes in."""
        if self.place == "form" or self.path in {"/refresh", "/logout"}:
            return SMALL_BODY
        return BODY if self.place == "json" else TARGET


POST: Final = {"title": "A title", "content": "Some content"}
REGISTRATION: Final = {"email": "no-one@nowhere", "password": "a password", "username": "no"}

SIGN_IN: Final = {"username": "a@b.c", "password": "x"}

FIELDS: Final = (
    *(Field("POST", "/users", "json", name, REGISTRATION) for name in REGISTRATION),
    *(
        Field("POST", "/login", "form", name, {"username": "a@b.c", "password": "x"})
        for name in ("username", "password")
    ),
    Field("POST", "/refresh", "json", "refresh_token"),
    Field("POST", "/logout", "json", "all"),
    *(Field("PATCH", "/users/me", "json", name) for name in ("email", "username", "current_password")),
    *(
        Field("PUT", "/users/me/password", "json", name, {"current_password": "x", "new_password": "y"})
        for name in ("current_password", "new_password")
    ),
    Field("DELETE", "/users/me", "json", "current_password"),
    *(Field("POST", "/posts", "json", name, POST) for name in POST),
    *(Field("PUT", "/posts/1", "json", name, POST) for name in POST),
    *(Field("PATCH", "/posts/1", "json", name) for name in POST),
    Field("POST", "/vote", "json", "post_id", {"dir": 1}),
    *(
        Field("GET", "/posts", "query", name)
        for name in ("search", "cursor", "since", "until", "limit", "skip", "owner_id", "published", "sort_by", "order")
    ),
    *(Field("GET", "/users", "query", name) for name in ("search", "cursor")),
    *(Field("GET", "/users/me/votes", "query", name) for name in ("cursor", "dir")),
    *(Field("GET", path, "path", "id") for path in ("/posts/{}", "/users/{}", "/problems/{}", "/{}")),
    *(
        Field("GET", "/posts/1", "header", name)
        for name in ("Authorization", "If-None-Match", "X-Request-ID", "X-Forwarded-For", "Accept", "Cookie", "Origin")
    ),
    Field("PUT", "/posts/1", "header", "If-Match", POST),
    *(Field("POST", "/posts", "header", name, POST) for name in ("Idempotency-Key", "Content-Type")),
    Field("GET", "/", "header", "Accept"),
    Field("GET", "/assets/swagger-ui.css", "header", "Accept-Encoding"),
    Field("POST", "/login", "header", "Content-Type", SIGN_IN),
)


def costs(running: Running) -> Iterator[Finding]:
    """Compare processor time of the worst and of harmless text in each field.

    The worst is measured again beside the harmless: a machine's speed changes.
    """
    for place in FIELDS:
        requests = {name: place.request(_fitting(place, text)) for name, text in WORST.items()}
        for name, text in WORST_ENCODED[place.place].items():
            requests[name] = place.request_encoded(_listed(place, text))
        found = _milliseconds(running, requests)
        worst = max(found, key=lambda name: found[name])
        harmless = {"": HARMLESS} | ({", of encoded text": HARMLESS_ENCODED} if place.is_encoded else {})
        usual = {kind: place.request(_fitting(place, text)) for kind, text in harmless.items()}
        found = _milliseconds(running, {worst: requests[worst], **usual})
        for kind in harmless:
            yield Finding(
                f"{place.method} {place.path}: {place.name}, {worst}{kind}",
                f"{found[worst]:.2f} ms",
                f"{found[kind]:.2f} ms",
                found[worst] / found[kind],
                COST_BAR,
            )


def memory(running: Running) -> Iterator[Finding]:
    """Compare a server's memory before and after refused requests of each kind."""
    for content_type, body in MALFORMED.values():
        _refused(running, content_type, body, 20)
    for name, (content_type, body) in MALFORMED.items():
        before = resident_kib(running.process) // KIB
        _refused(running, content_type, body, REFUSALS)
        after = resident_kib(running.process) // KIB
        yield Finding(
            f"{REFUSALS:,} bodies refused: {name}", f"{after} MiB", f"{before} MiB", after / before, MEMORY_BAR
        )


def _fitting(place: Field, text: str) -> str:
    """Repeat a text until the request has the size of the field.

    Escapes and percent signs multiply.
    """
    letters = place.size // len(text.encode())
    _, target, body, headers = place.request(text * letters)
    sent = len(target) + len(body or b"") + sum(map(len, headers.values()))
    return text * (letters * place.size // sent if sent > place.size else letters)


def _listed(place: Field, text: str) -> str:
    """Repeat a text in the syntax of its place to the size of the field."""
    value = text * (place.size // len(text.encode()))
    return f"[{value[:-1]}]" if place.place == "json" else value


def _milliseconds(running: Running, requests: Mapping[str, Request]) -> dict[str, float]:
    """Measure processor time per request in the cheapest round of each.

    Other processes only add to it. The rounds alternate.
    """
    rounds: dict[str, list[float]] = {name: [] for name in requests}
    with _connection(running) as ask:
        for _ in range(ROUNDS):
            for name, request in requests.items():
                before = processor_seconds(running.process)
                for _ in range(REQUESTS):
                    ask(*request)
                rounds[name].append((processor_seconds(running.process) - before) / REQUESTS)
    return {name: min(found) * 1_000 for name, found in rounds.items()}


def _refused(running: Running, content_type: str, body: bytes, times: int) -> None:
    with _connection(running) as ask:
        for _ in range(times):
            ask("POST", "/users", body, {"Content-Type": content_type})


@contextmanager
def _connection(running: Running) -> Iterator[Any]:
    token = running.tokens.read_text().partition("\n")[0]
    connection = http.client.HTTPConnection("127.0.0.1", running.port)

    def ask(method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> int:
        try:
            connection.request(method, target, body, {"Authorization": f"Bearer {token}", **headers})
            response = connection.getresponse()
            response.read()
        except (http.client.HTTPException, OSError):  # refused before its end
            connection.close()
            return 0
        return response.status

    try:
        yield ask
    finally:
        connection.close()


def _json(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() and letter.isascii() else "a" for letter in text) or os.linesep
