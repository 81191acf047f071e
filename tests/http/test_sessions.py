"""Signing in over HTTP, and which tokens are worth something."""

import base64
import hmac
import json
from collections.abc import Iterator
from datetime import timedelta

import httpx2
import pytest
from sqlalchemy import URL

from tests.fakes import FrozenClock
from tests.http.conftest import SECRET_KEY, Api, Person, but_its_id, require_problem, running_api


def sign_in(api: Api, **form: str) -> httpx2.Response:
    return api.client.post("/login", data=form)


# Signing in.


def test_signing_in_gives_a_bearer_token(api: Api, ann: Person) -> None:
    answer = sign_in(api, username=ann.email, password=ann.password)

    assert answer.status_code == 200
    body = answer.json()
    assert body == {"access_token": body["access_token"], "token_type": "bearer", "expires_in": 1800}
    assert answer.headers["Cache-Control"] == "no-store"
    headers = {"Authorization": f"Bearer {body['access_token']}"}
    assert api.client.get("/profile", headers=headers).json()["id"] == ann.id


def test_a_token_lives_as_long_as_the_settings_say(url: URL, clock: FrozenClock) -> None:
    with running_api(url, {"clock": clock}, access_token_expire_minutes=5) as api:
        ann = api.person("ann")
        assert sign_in(api, username=ann.email, password=ann.password).json()["expires_in"] == 300

        clock.advance(timedelta(seconds=299))
        assert ann("GET", "/profile").status_code == 200
        clock.advance(timedelta(seconds=1))
        require_problem(ann("GET", "/profile"), "invalid-token")


def test_an_email_may_be_typed_in_any_case_and_form(api: Api, ann: Person) -> None:
    api.client.post("/users", json={"email": "jos\u00e9@b\u00fccher.example", "password": ann.password})

    for email in ("ANN@Example.COM", " ann@example.com ", "JOSE\u0301@xn--bcher-kva.example"):
        assert sign_in(api, username=email, password=ann.password).status_code == 200, email


def test_nobody_learns_from_the_answer_who_is_registered(api: Api, ann: Person) -> None:
    wrong_password = sign_in(api, username=ann.email, password="wrong password")
    require_problem(wrong_password, "invalid-credentials")

    for stranger in ("bob@example.com", "no e-mail", "@", "x" * 100_000, "ann@exa_mple.com", "\ufffd@\ufffd"):
        answer = sign_in(api, username=stranger, password=ann.password)
        assert but_its_id(answer) == but_its_id(wrong_password), stranger
    for password in ("x", ann.password.upper(), ann.password + " ", "p" * 100_000):
        answer = sign_in(api, username=ann.email, password=password)
        assert but_its_id(answer) == but_its_id(wrong_password), password


def test_only_the_right_password_is_told_that_the_account_is_inactive(api: Api, ann: Person) -> None:
    api.run_sql("UPDATE users SET is_active = false WHERE id = :id", id=ann.id)

    require_problem(sign_in(api, username=ann.email, password="wrong password"), "invalid-credentials")
    require_problem(sign_in(api, username=ann.email, password=ann.password), "account-inactive")


@pytest.mark.parametrize(
    ("form", "missing"),
    [
        ({}, ["username", "password"]),
        ({"username": "ann@example.com"}, ["password"]),
        ({"password": "ann's password"}, ["username"]),
        ({"username": "ann@example.com", "password": ""}, ["password"]),
    ],
)
def test_both_fields_are_required(api: Api, form: dict[str, str], missing: list[str]) -> None:
    problem = require_problem(sign_in(api, **form), "validation")

    assert [error["loc"] for error in problem["errors"]] == [["body", name] for name in missing]


def test_json_is_no_form(api: Api, ann: Person) -> None:
    form = {"username": ann.email, "password": ann.password}

    require_problem(api.client.post("/login", json=form), "validation")


@pytest.mark.parametrize("name", ["username", "password"])
def test_no_field_holds_a_nul(api: Api, ann: Person, name: str) -> None:
    form = {"username": ann.email, "password": ann.password}

    problem = require_problem(sign_in(api, **form | {name: form[name] + "\0"}), "validation")

    assert [error["loc"] for error in problem["errors"]] == [["body", name]]


def test_a_form_may_come_as_multipart_but_without_files(api: Api, ann: Person) -> None:
    fields = {"username": (None, ann.email), "password": (None, ann.password)}
    file = ("password.txt", ann.password)

    assert api.client.post("/login", files=fields).status_code == 200
    require_problem(api.client.post("/login", files={"username": fields["username"], "password": file}), "validation")


def test_a_form_that_cannot_be_read_is_invalid(api: Api) -> None:
    many = "&".join(f"field{number}=" for number in range(2_000))
    for media_type, body in (
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\n"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\nann'),
        ("application/x-www-form-urlencoded", many.encode()),
        ("application/x-www-form-urlencoded", b"\xff\xfe=%zz&=&&%=%ff"),
        ("text/plain", b"username=ann&password=secret"),
    ):
        answer = api.client.post("/login", content=body, headers={"Content-Type": media_type})
        require_problem(answer, "validation")


def test_what_else_oauth2_sends_is_ignored(api: Api, ann: Person) -> None:
    extras = {"grant_type": "password", "scope": "", "client_id": "x", "client_secret": "y", "unknown": "z"}

    assert sign_in(api, username=ann.email, password=ann.password, **extras).status_code == 200


def test_signing_in_ignores_an_old_token(api: Api, ann: Person) -> None:
    form = {"username": ann.email, "password": ann.password}

    for header in ("Bearer forged", "Basic YTpi", "", f"Bearer {ann.token}"):
        assert api.client.post("/login", data=form, headers={"Authorization": header}).status_code == 200


# Tokens.


def as_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token_of(header: object, claims: object, key: str = SECRET_KEY, digest: str = "sha256") -> str:
    """Sign a token by hand, whatever is in it; bytes go in as they are."""
    parts = [as_base64(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, claims)]
    signature = hmac.digest(key.encode(), ".".join(parts).encode(), digest)
    return ".".join([*parts, as_base64(signature)])


class Forge:
    """Makes tokens that differ from a good one in what is named."""

    def __init__(self, person: Person) -> None:
        self.good = person.token
        self.header, self.claims = (
            json.loads(base64.urlsafe_b64decode(part + "==")) for part in person.token.split(".")[:2]
        )

    def claiming(self, **claims: object) -> str:
        return token_of(self.header, self.claims | claims)

    def without(self, claim: str) -> str:
        return token_of(self.header, {name: value for name, value in self.claims.items() if name != claim})

    def headed(self, **header: object) -> str:
        return token_of(self.header | header, self.claims)

    def moved(self, seconds: int) -> str:
        return self.claiming(iat=self.claims["iat"] + seconds, exp=self.claims["exp"] + seconds)


@pytest.fixture
def person(frozen_api: Api) -> Person:
    """Somebody at whose sign-in time stopped."""
    return frozen_api.person("ann")


@pytest.fixture
def forge(person: Person) -> Forge:
    """A workshop that knows the secret key."""
    return Forge(person)


def test_a_token_says_what_the_contract_says(person: Person, forge: Forge) -> None:
    assert forge.header == {"alg": "HS256", "typ": "at+jwt"}
    assert forge.claims == {
        "iss": "agora",
        "aud": "agora",
        "sub": str(person.id),
        "iat": 1_767_225_600,
        "exp": 1_767_225_600 + 1800,
        "jti": forge.claims["jti"],
    }


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_that_is_right_is_accepted(person: Person, forge: Forge, scheme: str) -> None:
    for token in (
        forge.good,
        forge.claiming(),  # the workshop forges well: what fails below fails for what was changed
        forge.claiming(unknown=[1, {"a": None}]),
        forge.headed(jku="https://evil.example", jwk={}, kid="x"),
        forge.moved(10),  # as far as clocks may differ
        forge.moved(-1799),
        forge.claiming(exp=forge.claims["iat"] + 1),
    ):
        assert person("GET", "/profile", headers={"Authorization": f"{scheme} {token}"}).status_code == 200


def broken(forge: Forge) -> Iterator[tuple[str, str]]:
    head, payload, signature = forge.good.split(".")
    other_end = "A" if signature[0] != "A" else "B"
    yield "another signature", f"{head}.{payload}.{other_end}{signature[1:]}"
    yield "no signature", f"{head}.{payload}."
    yield "two parts", f"{head}.{payload}"
    yield "four parts", f"{forge.good}.{signature}"
    yield "another payload", f"{head}.{as_base64(json.dumps(forge.claims | {'sub': '2'}).encode())}.{signature}"
    for text in ("..", "x", "a.b.c", "ü.ü.ü", "null", "\ufffd", "e30.e30.e30", f"{forge.good} x"):
        yield f"the text {text}", text
    for part in (b"[]", b'"x"', b"null", b"", b"\xff", b"[" * 2500, b'{"a":' * 550):
        yield f"the payload {part[:9]!r}", token_of(forge.header, part)
        yield f"the header {part[:9]!r}", token_of(part, forge.claims)
    yield "too long", forge.claiming(padding="x" * 4000)
    yield "much too long", "x" * 50_000


def signed_otherwise(forge: Forge) -> Iterator[tuple[str, str]]:
    yield "another key", token_of(forge.header, forge.claims, key=SECRET_KEY + "!")
    yield "an empty key", token_of(forge.header, forge.claims, key="")
    for algorithm, digest in (("HS384", "sha384"), ("HS512", "sha512"), ("hs256", "sha256"), ("RS256", "sha256")):
        yield algorithm, token_of(forge.header | {"alg": algorithm}, forge.claims, digest=digest)
    nothing: tuple[object, ...] = ("none", "None", "", None, 1, ["HS256"])
    for value in nothing:
        yield f"algorithm {value}", forge.headed(alg=value)
        yield f"algorithm {value}, unsigned", forge.headed(alg=value).rpartition(".")[0] + "."
    yield "no algorithm", token_of({"typ": "at+jwt"}, forge.claims)
    yield "no type", token_of({"alg": "HS256"}, forge.claims)
    for kind in ("JWT", "at+JWT", "", None, 1):
        yield f"type {kind}", forge.headed(typ=kind)
    for critical in ([], ["exp"], ["b64"], "exp", None):
        yield f"critical {critical}", forge.headed(crit=critical, b64=True)


SUBJECTS = (
    "",
    "0",
    "-1",
    "+1",
    "01",
    " 1",
    "1 ",
    "1.0",
    "1e0",
    "\u0661",
    "99",
    "9" * 19,
    "9" * 20,
    "9" * 2000,
    1,
    ["1"],
)


def claiming_otherwise(forge: Forge) -> Iterator[tuple[str, str]]:
    empty: tuple[object, ...] = (None, [], {}, True)
    others: tuple[object, ...] = ("", "Agora", "agora ", ["agora"], ["agora", "x"], {"agora": 1})
    for name in ("iss", "aud", "sub", "iat", "exp", "jti"):
        yield f"no {name}", forge.without(name)
        for value in (*empty, *others) if name in {"iss", "aud"} else empty:
            yield f"{name} {value}", forge.claiming(**{name: value})
    for subject in SUBJECTS:
        yield f"subject {subject!s:.30}", forge.claiming(sub=subject)


def at_another_time(forge: Forge) -> Iterator[tuple[str, str]]:
    issued, expires = forge.claims["iat"], forge.claims["exp"]
    for moment in (float(issued), str(issued), False, 0, -1, issued - 1, issued + 11, 2**63, 2**70, -(2**70), 1e300):
        yield f"issued {moment}", forge.claiming(iat=moment)
    for moment in (float(expires), str(expires), 0, -1, issued, expires + 1, 2**63, 2**70, 10**999, 1e300):
        yield f"expires {moment!s:.30}", forge.claiming(exp=moment)
    yield "expired", forge.moved(-1800)
    yield "from the future", forge.moved(11)
    yield "never", forge.claiming(exp=float("inf"))
    yield "no moment", forge.claiming(exp=float("nan"))


def bad_tokens(forge: Forge) -> Iterator[tuple[str, str]]:
    for tokens in (broken, signed_otherwise, claiming_otherwise, at_another_time):
        yield from tokens(forge)


def test_every_other_token_gets_one_and_the_same_answer(frozen_api: Api, person: Person, forge: Forge) -> None:
    def send(token: str) -> httpx2.Response:
        return frozen_api.client.get("/profile", headers={b"Authorization": f"Bearer {token}".encode()})

    answers = {name: send(token) for name, token in bad_tokens(forge)}

    assert [name for name, answer in answers.items() if answer.status_code != 401] == []
    expected = but_its_id(answers["expired"])
    assert [name for name, answer in answers.items() if but_its_id(answer) != expected] == []
    require_problem(answers["expired"], "invalid-token")
    assert answers["expired"].headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert person("GET", "/profile").status_code == 200


def test_a_header_that_holds_no_bearer_token_is_none_at_all(api: Api, ann: Person) -> None:
    values = ("", " ", "Basic YTpi", "Token x", "Bearer", "Bearer ", "Bear er", ann.token)
    headers: list[dict[str, str]] = [{}, *({"Authorization": value} for value in values)]

    for header in headers:
        answer = api.client.get("/profile", headers=header)
        require_problem(answer, "not-authenticated")
        assert answer.headers["WWW-Authenticate"] == "Bearer", header


def test_another_algorithm_is_used_where_the_settings_say_so(url: URL) -> None:
    with running_api(url, algorithm="HS512") as api:
        ann = api.person("ann")
        forge = Forge(ann)

        assert forge.header["alg"] == "HS512"
        assert ann("GET", "/profile").status_code == 200
        ann.token = token_of(forge.header | {"alg": "HS256"}, forge.claims)
        require_problem(ann("GET", "/profile"), "invalid-token")
