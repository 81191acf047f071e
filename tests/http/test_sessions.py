"""Sessions over HTTP: sign-in, refresh, sign-out, and the validation of tokens."""

import base64
import hmac
import json
import string
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import URL

from infrastructure.tokens import key_id
from tests.fakes.services import FrozenClock
from tests.support.api import SECRET_KEY, Api, Person, but_its_id, require_problem, running_api
from tests.support.concurrency import all_at_once
from tests.support.connections import connection_of


def sign_in(api: Api, **form: str) -> httpx2.Response:
    return api.client.post("/login", data=form)


# Signing in.


def test_signing_in_gives_a_bearer_token(api: Api, ann: Person) -> None:
    answer = sign_in(api, username=ann.email, password=ann.password)

    assert answer.status_code == 200
    body = answer.json()
    assert body == {
        "access_token": body["access_token"],
        "token_type": "bearer",
        "expires_in": 1800,
        "refresh_token": body["refresh_token"],
        "refresh_expires_in": 7 * 24 * 3600,
    }
    assert len(body["refresh_token"]) * 6 > 256
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


def test_response_does_not_reveal_which_emails_are_registered(api: Api, ann: Person) -> None:
    wrong_password = sign_in(api, username=ann.email, password="wrong password")
    require_problem(wrong_password, "invalid-credentials")

    for stranger in ("bob@example.com", "no e-mail", "@", "x" * 10_000, "ann@exa_mple.com", "\ufffd@\ufffd"):
        answer = sign_in(api, username=stranger, password=ann.password)
        assert but_its_id(answer) == but_its_id(wrong_password), stranger
    for password in ("x", ann.password.upper(), ann.password + " ", "p" * 10_000):
        answer = sign_in(api, username=ann.email, password=password)
        assert but_its_id(answer) == but_its_id(wrong_password), password


def test_inactive_account_is_revealed_only_to_the_right_password(api: Api, ann: Person) -> None:
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

    for options in ({"json": form}, {"content": b"", "headers": {"Content-Type": "text/plain"}}):
        problem = require_problem(api.client.post("/login", **options), "validation")

        (error,) = problem["errors"]
        assert (error["loc"], error["code"]) == (["body"], "content_type")
        assert "application/x-www-form-urlencoded" in error["message"]
        assert "username" in error["message"]


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
    many = "&".join(f"field{number}=" for number in range(1_200))
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


def test_other_oauth2_fields_are_ignored(api: Api, ann: Person) -> None:
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
    """Sign a token of any content; bytes are used unchanged."""
    parts = [as_base64(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, claims)]
    signature = hmac.digest(key.encode(), ".".join(parts).encode(), digest)
    return ".".join([*parts, as_base64(signature)])


class Forge:
    """Makes tokens that differ from a valid one in the named part."""

    def __init__(self, person: Person) -> None:
        self.good = person.token
        self.header, self.claims = self.header_of(person.token), self.claims_of(person.token)

    @staticmethod
    def header_of(token: str) -> dict[str, Any]:
        header: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".", 1)[0] + "=="))
        return header

    @staticmethod
    def claims_of(token: str) -> dict[str, Any]:
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        return claims

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
    """An account that signed in while the clock is frozen."""
    return frozen_api.person("ann")


@pytest.fixture
def forge(person: Person) -> Forge:
    """A forger of tokens with the secret key."""
    return Forge(person)


def test_token_has_the_documented_claims(person: Person, forge: Forge) -> None:
    assert forge.header == {"alg": "HS256", "typ": "at+jwt", "kid": key_id(SECRET_KEY)}
    assert forge.claims == {
        "iss": "agora",
        "aud": "agora",
        "sub": str(person.id),
        "iat": 1_767_225_600,
        "exp": 1_767_225_600 + 1800,
        "jti": forge.claims["jti"],
        "sid": "1",
    }


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_that_is_right_is_accepted(person: Person, forge: Forge, scheme: str) -> None:
    for token in (
        forge.good,
        forge.claiming(),  # valid: the tokens below fail for their change alone
        forge.claiming(unknown=[1, {"a": None}]),
        forge.headed(jku="https://evil.example", jwk={}, x5u="https://evil.example", cty="x"),
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
    yield "cut off", forge.good[:-1]
    yield "half of it", forge.good[: len(forge.good) // 2]
    yield "an end more", f"{forge.good}."
    yield "a beginning more", f".{forge.good}"
    yield "padded", f"{forge.good}="
    yield "padded twice", f"{forge.good}=="
    # 256 bits leave two bits of the last character unused: four spellings of one signature, one of them right.
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    last = alphabet.index(signature[-1])
    for unused in range(1, 4):
        yield f"unused bits {unused}", forge.good[:-1] + alphabet[last + unused]
    for space in (" ", "\t", "\x0b", "\x85", "\xa0"):
        yield f"a space inside {space!r}", f"{head}.{payload}{space}.{signature}"
        yield f"a space in the signature {space!r}", f"{head}.{payload}.{signature[:9]}{space}{signature[9:]}"
    yield "standard alphabet", f"{head}.{payload}.{signature[:-1]}+"
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
    yield "the previous key, which is none", token_of(forge.header | {"kid": key_id("")}, forge.claims, key="")
    yield (
        "another key under its name",
        token_of(forge.header | {"kid": key_id(SECRET_KEY + "!")}, forge.claims, key=SECRET_KEY + "!"),
    )
    for algorithm, digest in (("HS384", "sha384"), ("HS512", "sha512"), ("hs256", "sha256"), ("RS256", "sha256")):
        yield algorithm, token_of(forge.header | {"alg": algorithm}, forge.claims, digest=digest)
    nothing: tuple[object, ...] = ("none", "None", "", None, 1, ["HS256"])
    for value in nothing:
        yield f"algorithm {value}", forge.headed(alg=value)
        yield f"algorithm {value}, unsigned", forge.headed(alg=value).rpartition(".")[0] + "."
    for name in ("alg", "typ"):
        yield (
            f"no {name}",
            token_of({other: forge.header[other] for other in forge.header if other != name}, forge.claims),
        )
    kids: tuple[object, ...] = (
        "",
        "x",
        key_id(SECRET_KEY).upper(),
        SECRET_KEY,
        "../../../dev/null",
        None,
        0,
        True,
        [],
        {},
    )
    for kid in kids:
        yield f"key {kid}", forge.headed(kid=kid)
    for kind in ("JWT", "at+JWT", "", None, 1):
        yield f"type {kind}", forge.headed(typ=kind)
    for critical in ([], ["exp"], ["b64"], "exp", None):
        yield f"critical {critical}", forge.headed(crit=critical, b64=True)


UNKNOWN_IDS = (
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
    for name in ("iss", "aud", "sub", "iat", "exp", "jti", "sid"):
        yield f"no {name}", forge.without(name)
        for value in (*empty, *others) if name in {"iss", "aud"} else empty:
            yield f"{name} {value}", forge.claiming(**{name: value})
    for digits in UNKNOWN_IDS:
        yield f"subject {digits!r:.30}", forge.claiming(sub=digits)
        yield f"session {digits!r:.30}", forge.claiming(sid=digits)
    yield "another account's session", forge.claiming(sid="2")
    yield "another account with one's own session", forge.claiming(sub="2")


def at_another_time(forge: Forge) -> Iterator[tuple[str, str]]:
    issued, expires = forge.claims["iat"], forge.claims["exp"]
    for moment in (float(issued), str(issued), False, 0, -1, issued - 1, issued + 11, 2**63, 2**70, -(2**70), 1e300):
        yield f"issued {moment}", forge.claiming(iat=moment)
    for moment in (float(expires), str(expires), 0, -1, issued, expires + 1, 2**63, 2**70, 10**999, 1e300):
        yield f"expires {moment!s:.30}", forge.claiming(exp=moment)
    for moment in (None, True, float(issued), str(issued), issued + 11, expires, 2**70, 1e300):
        yield f"not before {moment!s:.30}", forge.claiming(nbf=moment)
    yield "expired", forge.moved(-1800)
    yield "from the future", forge.moved(11)
    yield "never", forge.claiming(exp=float("inf"))
    yield "no moment", forge.claiming(exp=float("nan"))


def bad_tokens(forge: Forge) -> Iterator[tuple[str, str]]:
    for tokens in (broken, signed_otherwise, claiming_otherwise, at_another_time):
        yield from tokens(forge)


def test_every_other_token_gets_the_same_response(frozen_api: Api, person: Person, forge: Forge) -> None:
    def send(token: str) -> httpx2.Response:
        return frozen_api.client.get("/profile", headers={b"Authorization": f"Bearer {token}".encode()})

    bob = frozen_api.person("bob")
    assert (bob.id, Forge(bob).claims["sid"]) == (2, "2")

    answers = {name: send(token) for name, token in bad_tokens(forge)}

    assert len(answers) > 190
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


# Keys.


def test_key_rotation_keeps_sessions(url: URL) -> None:
    def serving(key: str, previous: str | None = None) -> Any:
        older = SecretStr(previous) if previous else None
        return running_api(url, secret_key=SecretStr(key), secret_key_previous=older)

    first, second, third = ("first key " * 4, "second key " * 4, "third key " * 4)

    def accepted(api: Api, token: str) -> bool:
        answer = api.client.get("/profile", headers={"Authorization": f"Bearer {token}"})
        if answer.status_code != 200:
            require_problem(answer, "invalid-token")
        return answer.status_code == 200

    with serving(first) as api:
        ann = api.person("ann")
        old = ann.token
        with serving(first, previous=second) as ahead:  # every worker learns the new key before any signs with it
            assert accepted(ahead, old)
            with serving(second, previous=first) as switched:
                new = switched.client.post("/refresh", json={"refresh_token": ann.refresh_token}).json()["access_token"]
                assert Forge.header_of(new)["kid"] == key_id(second) != Forge.header_of(old)["kid"]
                for token in (old, new):
                    assert accepted(ahead, token)
                    assert accepted(switched, token)
            assert not accepted(api, new)
    with serving(second) as api:
        assert (accepted(api, old), accepted(api, new)) == (False, True)
    with serving(third, previous=second) as api:
        assert (accepted(api, old), accepted(api, new)) == (False, True)
        borrowed = token_of(Forge.header_of(old) | {"kid": key_id(second)}, Forge.claims_of(old), key=first)
        assert not accepted(api, borrowed)
    with serving(third) as api:
        assert (accepted(api, old), accepted(api, new)) == (False, False)


# Staying signed in.


def refresh(api: Api, token: object, **options: Any) -> httpx2.Response:
    return api.client.post("/refresh", json={"refresh_token": token}, **options)


def spend(api: Api, token: str) -> tuple[str, str]:
    """Exchange a refresh token for an access token and a refresh token."""
    answer = refresh(api, token)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["access_token"], body["refresh_token"]


def works(api: Api, access_token: str) -> bool:
    answer = api.client.get("/profile", headers={"Authorization": f"Bearer {access_token}"})
    if answer.status_code != 200:
        require_problem(answer, "invalid-token")
    return answer.status_code == 200


def test_a_refresh_token_is_exchanged_for_fresh_tokens(frozen_api: Api, person: Person, clock: FrozenClock) -> None:
    clock.advance(timedelta(minutes=29))

    answer = refresh(frozen_api, person.refresh_token)

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert body == {
        "access_token": body["access_token"],
        "token_type": "bearer",
        "expires_in": 1800,
        "refresh_token": body["refresh_token"],
        "refresh_expires_in": 7 * 24 * 3600,
    }
    assert body["refresh_token"] != person.refresh_token
    assert Forge.claims_of(body["access_token"])["sid"] == Forge.claims_of(person.token)["sid"]
    assert works(frozen_api, person.token)
    clock.advance(timedelta(minutes=1))
    assert not works(frozen_api, person.token)
    assert works(frozen_api, body["access_token"])
    assert len(frozen_api.client.get("/users/me/sessions", headers=bearer(body["access_token"])).json()) == 1


def bearer(access_token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {access_token}"}


@pytest.mark.parametrize("spent", [0, 1])
def test_a_replayed_token_ends_its_session_and_no_other(api: Api, ann: Person, spent: int) -> None:
    first = (ann.token, ann.refresh_token)
    second = spend(api, first[1])
    third = spend(api, second[1])
    ann.sign_in()

    replay = refresh(api, (first, second)[spent][1])

    require_problem(replay, "invalid-token")
    assert replay.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    for access_token, _ in (first, second, third):
        assert not works(api, access_token)
    for _, refresh_token in (third, second, first):  # the newest included, and for good
        assert but_its_id(refresh(api, refresh_token)) == but_its_id(replay)
    assert ann("GET", "/profile").status_code == 200
    assert len(ann("GET", "/users/me/sessions").json()) == 1
    assert works(api, spend(api, ann.refresh_token)[0])


def test_of_many_equal_refreshes_at_once_one_succeeds(api: Api, ann: Person) -> None:
    answers = all_at_once([partial(refresh, api, ann.refresh_token)] * 50)

    assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 49}
    won = next(answer.json() for answer in answers if answer.status_code == 200)
    assert not works(api, won["access_token"])  # the others were replays
    require_problem(refresh(api, won["refresh_token"]), "invalid-token")


def test_a_session_ends_a_week_after_its_last_use(frozen_api: Api, person: Person, clock: FrozenClock) -> None:
    clock.advance(timedelta(days=7, seconds=-1))
    _, fresh = spend(frozen_api, person.refresh_token)
    clock.advance(timedelta(days=7))

    require_problem(refresh(frozen_api, fresh), "invalid-token")


def test_a_session_ends_after_thirty_days_however_it_is_used(
    frozen_api: Api, person: Person, clock: FrozenClock
) -> None:
    token = person.refresh_token
    for _ in range(29):
        clock.advance(timedelta(days=1))
        token = spend(frozen_api, token)[1]
    clock.advance(timedelta(days=1, seconds=-60))

    body = refresh(frozen_api, token).json()

    assert body["refresh_expires_in"] == 60
    assert works(frozen_api, body["access_token"])
    clock.advance(timedelta(seconds=60))
    assert not works(frozen_api, body["access_token"])  # although it has not expired
    require_problem(refresh(frozen_api, body["refresh_token"]), "invalid-token")


def test_malformed_refresh_token_is_refused(api: Api, ann: Person) -> None:
    good = ann.refresh_token
    other_end = "A" if good[-1] != "A" else "B"
    strangers = ("", " ", "x", "r" * 86, good[:-1], good + "A", good[1:], f" {good}", f"{good}\n", good.swapcase())
    expected = refresh(api, "x")
    require_problem(expected, "invalid-token")
    assert expected.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    for text in (*strangers, ann.token, "\u0661" * 86, "x" * 4096, "A" + "=" * 85):
        assert but_its_id(refresh(api, text)) == but_its_id(expected), text
    for value in (None, 1, True, [], {}, [good], {"token": good}, "x" * 4097, "x" * 10_000, good + "\0"):
        problem = require_problem(refresh(api, value), "validation")
        assert [error["loc"] for error in problem["errors"]] == [["body", "refresh_token"]], value
    require_problem(api.client.post("/refresh", json={}), "validation")
    require_problem(api.client.post("/refresh"), "validation")
    require_problem(api.client.post("/refresh", data={"refresh_token": good}), "validation")
    assert works(api, spend(api, good)[0])  # none of these was hers
    require_problem(refresh(api, good[:-1] + other_end), "invalid-token")


def test_refresh_and_access_tokens_are_not_interchangeable(api: Api, ann: Person) -> None:
    assert not works(api, ann.refresh_token)
    require_problem(refresh(api, ann.token), "invalid-token")
    assert ann("GET", "/profile").status_code == 200


def test_refreshing_ignores_the_authorization_header(api: Api, ann: Person) -> None:
    token = ann.refresh_token
    for header in ("Bearer forged", "Basic YTpi", "", f"Bearer {ann.token}"):
        answer = refresh(api, token, headers={"Authorization": header})
        assert answer.status_code == 200, header
        assert answer.headers["Cache-Control"] == "no-store"
        token = answer.json()["refresh_token"]


def test_a_refresh_token_is_nowhere_in_the_database(api: Api, ann: Person) -> None:
    with api.container.database().read() as link:
        rows = connection_of(link).exec_driver_sql("SELECT * FROM sessions").all()

    assert len(rows) == 1
    for part in (ann.refresh_token, ann.refresh_token[:43], ann.refresh_token[43:]):
        assert part not in str(rows)


@pytest.fixture
def overlapping_api(url: URL, clock: FrozenClock) -> Iterator[Api]:
    """The API, with ten seconds in which a refresh may be repeated."""
    with running_api(url, {"clock": clock}, refresh_overlap_seconds=10) as api:
        yield api


def test_refreshes_that_cross_get_the_same_successor(overlapping_api: Api, clock: FrozenClock) -> None:
    ann = overlapping_api.person("ann")

    answers = all_at_once([partial(refresh, overlapping_api, ann.refresh_token)] * 20)
    clock.advance(timedelta(seconds=9))
    answers.append(refresh(overlapping_api, ann.refresh_token))

    assert {answer.status_code for answer in answers} == {200}
    (successor,) = {answer.json()["refresh_token"] for answer in answers}
    assert successor != ann.refresh_token
    assert all(works(overlapping_api, answer.json()["access_token"]) for answer in answers)
    assert len(ann("GET", "/users/me/sessions").json()) == 1


def test_repeatable_refresh_tokens_are_nowhere_in_the_database(overlapping_api: Api) -> None:
    ann = overlapping_api.person("ann")
    _, successor = spend(overlapping_api, ann.refresh_token)
    with overlapping_api.container.database().read() as link:
        rows = connection_of(link).exec_driver_sql("SELECT * FROM sessions").all()

    assert len(rows) == 1
    for part in (successor, successor[:43], successor[43:], ann.refresh_token[43:]):
        assert part not in str(rows)


@pytest.mark.parametrize("is_used", [True, False])
def test_overlap_ends_with_its_seconds_or_the_use_of_the_successor(
    overlapping_api: Api, clock: FrozenClock, is_used: bool
) -> None:
    ann = overlapping_api.person("ann")
    access_token, successor = spend(overlapping_api, ann.refresh_token)
    if is_used:
        spend(overlapping_api, successor)
    else:
        clock.advance(timedelta(seconds=10))

    require_problem(refresh(overlapping_api, ann.refresh_token), "invalid-token")

    assert not works(overlapping_api, access_token)
    require_problem(refresh(overlapping_api, successor), "invalid-token")


# Signing out.


@pytest.mark.parametrize("options", [{}, {"json": {}}, {"json": {"all": False}}, {"json": {"unknown": 1}}])
def test_signing_out_ends_this_session_at_once_and_no_other(api: Api, ann: Person, options: dict[str, Any]) -> None:
    elsewhere = ann.token, ann.refresh_token
    ann.sign_in()
    refreshed = spend(api, ann.refresh_token)

    answer = ann("POST", "/logout", **options)

    assert (answer.status_code, answer.content) == (204, b"")
    for access_token in (ann.token, refreshed[0]):
        assert not works(api, access_token)
    require_problem(refresh(api, refreshed[1]), "invalid-token")
    require_problem(ann("POST", "/logout"), "invalid-token")
    assert works(api, elsewhere[0])
    assert works(api, spend(api, elsewhere[1])[0])


def test_signing_out_everywhere_ends_every_session_of_ones_own(api: Api, ann: Person, bob: Person) -> None:
    elsewhere = ann.token, ann.refresh_token
    ann.sign_in()

    assert ann("POST", "/logout", json={"all": True}).status_code == 204

    for access_token in (ann.token, elsewhere[0]):
        assert not works(api, access_token)
    for refresh_token in (ann.refresh_token, elsewhere[1]):
        require_problem(refresh(api, refresh_token), "invalid-token")
    assert bob("GET", "/profile").status_code == 200
    ann.sign_in()
    assert len(ann("GET", "/users/me/sessions").json()) == 1


def test_signing_out_takes_a_yes_or_no_and_nothing_like_it(ann: Person) -> None:
    values: tuple[object, ...] = (None, 0, 1, "true", [], {})
    for value in values:
        problem = require_problem(ann("POST", "/logout", json={"all": value}), "validation")
        assert [error["loc"] for error in problem["errors"]] == [["body", "all"]]
    bodies: tuple[object, ...] = ([], "all", 1, True)
    for body in bodies:
        require_problem(ann("POST", "/logout", json=body), "validation")
    assert ann("GET", "/profile").status_code == 200


# Sessions.


def test_people_see_where_they_are_signed_in(frozen_api: Api, clock: FrozenClock) -> None:
    client = frozen_api.client
    ann = frozen_api.person("ann")
    frozen_api.person("bob")
    clock.advance(timedelta(hours=1))
    form = {"username": ann.email, "password": ann.password}
    phone = client.post("/login", data=form, headers={"User-Agent": "Phone/1.0 " + "x" * 300}).json()
    clock.advance(timedelta(minutes=20))
    refreshed = refresh(frozen_api, ann.refresh_token).json()["access_token"]

    answer = client.get("/users/me/sessions", headers=bearer(refreshed))

    assert answer.status_code == 200
    computer = {
        "id": 1,
        "created_at": "2026-01-01T00:00:00Z",
        "last_used_at": "2026-01-01T01:20:00Z",
        "user_agent": "testclient",
        "current": True,
    }
    seen = answer.json()
    assert seen[0] == computer
    assert seen[1] == {
        "id": 3,
        "created_at": "2026-01-01T01:00:00Z",
        "last_used_at": "2026-01-01T01:00:00Z",
        "user_agent": "Phone/1.0 " + "x" * 190,
        "current": False,
    }
    assert len(seen) == 2
    from_the_phone = client.get("/users/me/sessions", headers=bearer(phone["access_token"])).json()
    assert [(session["id"], session["current"]) for session in from_the_phone] == [(1, False), (3, True)]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [("Zoë 🦊".encode(), "Zoë 🦊"), (b"Zo\xeb", "Zoë"), (b"plain", "plain"), (b"\xc3\xa9\xff", "Ã©ÿ")],
)
def test_a_user_agent_is_read_as_utf_8_or_else_as_latin_1(frozen_api: Api, sent: bytes, shown: str) -> None:
    ann = frozen_api.person("ann")
    form = {"username": ann.email, "password": ann.password}
    assert frozen_api.client.post("/login", data=form, headers={b"User-Agent": sent}).status_code == 200

    seen = frozen_api.client.get("/users/me/sessions", headers=bearer(ann.token)).json()

    assert shown in [session["user_agent"] for session in seen]


def test_no_ended_session_is_shown(frozen_api: Api, clock: FrozenClock) -> None:
    ann = frozen_api.person("ann")
    clock.advance(timedelta(days=7))
    ann.sign_in()

    assert [session["id"] for session in ann("GET", "/users/me/sessions").json()] == [2]


def test_people_end_one_session_from_another(api: Api, ann: Person) -> None:
    lost = ann.token, ann.refresh_token
    ann.sign_in()
    here, there = ann("GET", "/users/me/sessions").json()
    assert (here["current"], there["current"]) == (True, False)

    answer = ann("DELETE", f"/users/me/sessions/{there['id']}")

    assert (answer.status_code, answer.content) == (204, b"")
    assert not works(api, lost[0])
    require_problem(refresh(api, lost[1]), "invalid-token")
    require_problem(ann("DELETE", f"/users/me/sessions/{there['id']}"), "session-not-found")
    assert ann("GET", "/users/me/sessions").json() == [here]
    assert ann("DELETE", f"/users/me/sessions/{here['id']}").status_code == 204
    require_problem(ann("GET", "/profile"), "invalid-token")


def test_other_peoples_sessions_do_not_exist(api: Api, ann: Person, root: Person) -> None:
    theirs = ann("GET", "/users/me/sessions").json()[0]["id"]
    for session_id in (theirs, 99, 0, 2**63 - 1, 2**63, "9" * 5000):
        answer = root("DELETE", f"/users/me/sessions/{session_id}")
        problem = require_problem(answer, "session-not-found")
        assert problem["detail"] == f"session with id: {str(session_id)[:40]} not found"
    require_problem(api.client.get("/users/me/sessions"), "not-authenticated")
    assert ann("GET", "/profile").status_code == 200
