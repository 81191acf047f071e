"""Changes of accounts over HTTP: by their owners, and by administrators."""

from collections import Counter
from datetime import timedelta
from functools import partial

import httpx2
import pytest

from infrastructure.database.tables import metadata
from tests.fakes.services import FrozenClock
from tests.support.api import Api, Person, as_json, require_problem
from tests.support.concurrency import all_at_once

NEW_PASSWORD = "an unusual one"


def sign_in(api: Api, email: str, password: str) -> httpx2.Response:
    return api.client.post("/login", data={"username": email, "password": password})


def edit(person: Person, **fields: object) -> httpx2.Response:
    return person("PATCH", "/users/me", **as_json(fields))


def require_invalid(answer: httpx2.Response, *names: str) -> str:
    """Require a 422 about these fields, and return the message for the first."""
    errors = require_problem(answer, "validation")["errors"]
    assert [error["loc"] for error in errors] == [["body", name] for name in names]
    message: str = errors[0]["message"]
    return message


# One's own username and e-mail.


def test_people_change_their_username(ann: Person, bob: Person) -> None:
    before = ann("GET", "/profile").json()

    answer = edit(ann, username="Ann_2", id=99, role="admin", is_active=False, created_at="x")

    assert answer.status_code == 200
    assert answer.json() == ann("GET", "/profile").json() == before | {"username": "Ann_2"}
    assert bob("GET", f"/users/{ann.id}").json()["username"] == "Ann_2"
    assert edit(ann, username="ANN_2").json()["username"] == "ANN_2"  # one's own name is not taken
    assert edit(bob, username="ann").status_code == 200  # nor is one that was replaced


def test_changing_nothing_changes_nothing(ann: Person) -> None:
    before = ann("GET", "/profile").json()

    for fields in ({}, {"current_password": "whatever"}, {"role": "admin", "unknown": 1}):
        answer = edit(ann, **fields)
        assert (answer.status_code, answer.json()) == (200, before)


def test_another_email_takes_the_password(api: Api, ann: Person) -> None:
    answer = edit(ann, email=" Ann.New@Example.ORG ", current_password=ann.password)

    assert answer.status_code == 200
    assert answer.json()["email"] == ann("GET", "/profile").json()["email"] == "Ann.New@Example.ORG"
    require_problem(sign_in(api, ann.email, ann.password), "invalid-credentials")
    assert sign_in(api, "ann.new@example.org", ann.password).status_code == 200
    assert api.client.post("/users", json={"email": ann.email, "password": NEW_PASSWORD}).status_code == 201


def test_without_the_password_the_email_stays(api: Api, ann: Person) -> None:
    message = require_invalid(edit(ann, email="new@example.com", username="other"), "current_password")
    assert "current password" in message
    for wrong in ("a wrong guess", "", ann.password + " ", ann.password.upper(), "x" * 100_000):
        answer = edit(ann, email="new@example.com", username="other", current_password=wrong)
        require_problem(answer, "invalid-credentials")

    own = ann("GET", "/profile").json()
    assert (own["email"], own["username"]) == (ann.email, ann.name)
    assert sign_in(api, ann.email, ann.password).status_code == 200


UNFIT: dict[str, list[object]] = {
    "username": [None, "", "ab", "u" * 33, "ann smith", "ann\n", "\0ann", "\ud800ann", 1, True, [], {}],
    "email": [None, "", "ann", "@example.com", "ann@example.com\0", "\ud800@example.com", "x" * 9_999, 1, True, [], {}],
    "current_password": [None, 1, True, [], {}, "nul\0", "\ud800"],
}


@pytest.mark.parametrize("name", UNFIT)
def test_each_field_of_ones_own_account_has_its_bounds(ann: Person, name: str) -> None:
    before = ann("GET", "/profile").json()
    for value in UNFIT[name]:
        fields = {"email": "new@example.com", "current_password": ann.password} | {name: value}
        require_invalid(edit(ann, **fields), name)
    assert ann("GET", "/profile").json() == before


def test_email_or_username_of_another_account_is_refused(ann: Person, bob: Person) -> None:
    for username in ("bob", "BOB"):
        require_problem(edit(ann, username=username), "username-taken")
    for email in ("bob@example.com", "BOB@Example.com"):
        require_problem(edit(ann, email=email, current_password=ann.password), "email-taken")
    require_problem(edit(ann, username="other", email=bob.email, current_password=ann.password), "email-taken")

    own = ann("GET", "/profile").json()
    assert (own["email"], own["username"]) == (ann.email, "ann")


def test_international_domains_are_one_address_or_two(api: Api) -> None:
    def register(email: str) -> int:
        return api.client.post("/users", json={"email": email, "password": NEW_PASSWORD}).status_code

    emails = ("ann@strasse.de", "ann@straße.de", "bob@straße.de", "BOB@xn--strae-oqa.de", "bob@STRAẞE.de")
    assert [register(email) for email in emails] == [201, 201, 201, 409, 409]
    for spelling in emails:
        assert sign_in(api, spelling, NEW_PASSWORD).status_code == 200


def test_one_email_wanted_by_many_at_once_goes_to_one(api: Api) -> None:
    people = [api.person(f"user{number}") for number in range(8)]
    wanted = {"email": "wanted@example.com", "username": "wanted"}

    answers = all_at_once([partial(edit, person, **wanted, current_password=person.password) for person in people])

    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 7}
    emails = Counter(person("GET", "/profile").json()["email"] for person in people)
    assert emails["wanted@example.com"] == 1


# One's own password.


def change(person: Person, new: object, current: object = None) -> httpx2.Response:
    body = {"current_password": person.password if current is None else current, "new_password": new}
    return person("PUT", "/users/me/password", **as_json(body))


def test_another_password_ends_all_other_sessions(api: Api, ann: Person) -> None:
    elsewhere = ann.token, ann.refresh_token
    ann.sign_in()

    answer = change(ann, NEW_PASSWORD)

    assert (answer.status_code, answer.content) == (204, b"")
    require_problem(ann("GET", "/profile", headers={"Authorization": f"Bearer {elsewhere[0]}"}), "invalid-token")
    require_problem(api.client.post("/refresh", json={"refresh_token": elsewhere[1]}), "invalid-token")
    assert [session["current"] for session in ann("GET", "/users/me/sessions").json()] == [True]
    assert api.client.post("/refresh", json={"refresh_token": ann.refresh_token}).status_code == 200
    require_problem(sign_in(api, ann.email, ann.password), "invalid-credentials")
    assert sign_in(api, ann.email, NEW_PASSWORD).status_code == 200


def test_a_password_stays_if_the_present_one_is_not_known(api: Api, ann: Person) -> None:
    before = ann.token
    ann.sign_in()
    for wrong in ("a wrong guess", "", NEW_PASSWORD, ann.password.upper(), " " + ann.password):
        require_problem(change(ann, NEW_PASSWORD, wrong), "invalid-credentials")

    assert sign_in(api, ann.email, ann.password).status_code == 200
    assert ann("GET", "/profile", headers={"Authorization": f"Bearer {before}"}).status_code == 200


def test_a_new_password_has_bounds(api: Api, ann: Person) -> None:
    unfit: tuple[object, ...] = ("", "p" * 7, "p" * 129, "p" * 8 + "\0", "p" * 8 + "\ud800", None, 12345678, [], {})
    for bad in unfit:
        require_invalid(change(ann, bad), "new_password")
        require_invalid(change(ann, bad, "a wrong guess"), "new_password")
    not_text: tuple[object, ...] = (None, 1, [], "nul\0")
    for bad in not_text:
        current = {"current_password": bad, "new_password": NEW_PASSWORD}
        require_invalid(ann("PUT", "/users/me/password", **as_json(current)), "current_password")
    require_invalid(ann("PUT", "/users/me/password", json={}), "current_password", "new_password")
    assert sign_in(api, ann.email, ann.password).status_code == 200


def test_new_password_is_stored_unchanged(api: Api, ann: Person) -> None:
    for password in (
        "  spaces  ",
        "pw" * 64,
        "\u00e9\u0065\u0301 \u212b 12",
        "\U0001f600" * 7 + "!",
        "\n\t\x01\x7f\u202e\ufeff  ",
    ):
        assert change(ann, password).status_code == 204
        ann.password = password
        assert sign_in(api, ann.email, password).status_code == 200
        require_problem(sign_in(api, ann.email, password.strip() + "."), "invalid-credentials")


COMMON = ["password", "PASSWORD", "Password1", "12345678", "qwertyuiop", "iloveyou", "football", "11111111"]


def test_common_password_is_refused(api: Api, ann: Person) -> None:
    messages = set()
    for common in COMMON:
        message = require_invalid(change(ann, common), "new_password")
        messages.add(message)
        body = {"email": "new@example.com", "password": common}
        assert require_invalid(api.client.post("/users", json=body), "password") == message
    assert messages == {"this password is among the most used ones; choose one of your own"}
    assert sign_in(api, ann.email, ann.password).status_code == 200


def test_ones_own_email_or_username_is_no_password(api: Api) -> None:
    account = {"email": "Annabel@Example.com", "username": "Annabel_1"}
    for own in ("Annabel@Example.com", "annabel@example.com", "ANNABEL_1", "annabel_1"):
        answer = api.client.post("/users", json=account | {"password": own})
        assert "your own" in require_invalid(answer, "password")
    ann, other = api.person("annabel_1"), api.person("other")
    for own in ("annabel_1", "ANNABEL_1", "annabel_1@example.com", "Annabel_1@Example.COM"):
        assert "your own" in require_invalid(change(ann, own), "new_password")
        assert change(other, own).status_code == 204  # another account may use it as a password
        other.password = own


def test_of_two_new_passwords_at_once_one_counts(api: Api, ann: Person) -> None:
    wanted = [f"an unusual one {number}" for number in range(8)]

    answers = all_at_once([partial(change, ann, new) for new in wanted])

    assert Counter(answer.status_code for answer in answers) == {204: 1, 403: 7}
    won = next(new for new, answer in zip(wanted, answers, strict=True) if answer.status_code == 204)
    assert sign_in(api, ann.email, won).status_code == 200


# Deleting one's own account.


def leave(person: Person, password: object = None) -> httpx2.Response:
    body = {"current_password": person.password if password is None else password}
    return person("DELETE", "/users/me", **as_json(body))


def test_deleted_account_takes_its_posts_and_votes_and_counters_agree(
    api: Api, ann: Person, bob: Person, root: Person
) -> None:
    hers = [ann.posts(), ann.posts(published=False)]
    up, down, untouched = (bob.posts() for _ in range(3))
    for person, post_id, direction in (
        (ann, up, 1),
        (bob, up, 1),
        (ann, down, -1),
        (bob, down, -1),
        (root, down, 1),
        (bob, untouched, -1),
        (bob, hers[0], 1),
        (ann, hers[1], 1),
    ):
        assert person("POST", "/vote", json={"post_id": post_id, "dir": direction}).status_code == 201

    answer = leave(ann)

    assert (answer.status_code, answer.content) == (204, b"")
    tallies = {post["id"]: (post["upvotes"], post["downvotes"], post["votes"]) for post in bob("GET", "/posts").json()}
    assert tallies == {up: (1, 0, 1), down: (1, 1, 0), untouched: (0, 1, -1)}
    for post_id in hers:
        require_problem(root("GET", f"/posts/{post_id}"), "post-not-found")
    assert root("GET", "/admin-dashboard").json()["votes"] == 4
    assert [vote["post_id"] for vote in bob("GET", "/users/me/votes").json()] == [untouched, down, up]
    require_problem(bob("GET", f"/users/{ann.id}"), "user-not-found")
    require_problem(ann("GET", "/profile"), "invalid-token")
    require_problem(leave(ann), "invalid-token")
    require_problem(api.client.post("/refresh", json={"refresh_token": ann.refresh_token}), "invalid-token")
    require_problem(sign_in(api, ann.email, ann.password), "invalid-credentials")
    again = api.person("ann")  # the e-mail and the username are free
    assert again.id > root.id
    require_problem(again("GET", "/profile", headers={"Authorization": f"Bearer {ann.token}"}), "invalid-token")


def test_an_account_does_not_go_without_its_password(ann: Person) -> None:
    post_id = ann.posts()
    for wrong in ("a wrong guess", "", ann.password.upper()):
        require_problem(leave(ann, wrong), "invalid-credentials")
    not_text: tuple[object, ...] = (1, True, [], {}, "nul\0", "\ud800")
    for unfit in not_text:
        require_invalid(leave(ann, unfit), "current_password")
    require_invalid(ann("DELETE", "/users/me", json={}), "current_password")
    require_invalid(ann("DELETE", "/users/me", json={"current_password": None}), "current_password")
    require_problem(ann("DELETE", "/users/me"), "validation")

    assert ann("GET", f"/posts/{post_id}").status_code == 200


def test_the_last_administrator_stays(api: Api, ann: Person, root: Person) -> None:
    second = api.admin("second")
    assert root("PATCH", f"/users/{second.id}", json={"is_active": False}).status_code == 200

    require_problem(leave(root, "a wrong guess"), "invalid-credentials")
    require_problem(leave(root), "last-admin")  # one who is deactivated is no help

    assert root("PATCH", f"/users/{ann.id}", json={"role": "admin"}).status_code == 200
    assert leave(root).status_code == 204
    require_problem(leave(ann), "last-admin")


def test_of_all_administrators_leaving_at_once_one_stays(api: Api) -> None:
    admins = [api.admin(f"admin{number}") for number in range(6)]

    answers = all_at_once([partial(leave, admin) for admin in admins])

    assert Counter(answer.status_code for answer in answers) == {204: 5, 409: 1}


def test_leaving_amid_votes_keeps_every_counter_true(api: Api) -> None:
    owner = api.person("owner")
    posts = [owner.posts() for _ in range(4)]
    people = [api.person(f"user{number}") for number in range(12)]

    def vote_and_leave(number: int) -> list[int]:
        person = people[number]
        order = posts if number % 2 else posts[::-1]
        votes = [person("PUT", f"/posts/{post_id}/vote", json={"dir": 1 if number % 3 else -1}) for post_id in order]
        return [answer.status_code for answer in votes] + ([leave(person).status_code] if number < 8 else [])

    done = all_at_once([partial(vote_and_leave, number) for number in range(len(people))])

    assert done == [[200] * 4 + [204]] * 8 + [[200] * 4] * 4
    tallies = [(post["upvotes"], post["downvotes"]) for post in owner("GET", "/posts").json()]
    assert tallies == [(3, 1)] * 4  # of users 8 to 11, the ninth voted down


# One's own votes, and the export.


def test_people_see_what_they_voted_on(frozen_api: Api, clock: FrozenClock) -> None:
    ann, bob = frozen_api.person("ann"), frozen_api.person("bob")
    posts = [bob.posts(title=f"post {number}") for number in range(3)]
    for post_id, direction in zip(posts, (1, -1, 1), strict=True):
        clock.advance(timedelta(seconds=1))
        ann("POST", "/vote", json={"post_id": post_id, "dir": direction})
    bob("POST", "/vote", json={"post_id": posts[0], "dir": -1})

    seen = [
        {
            "post_id": post_id,
            "dir": direction,
            "created_at": f"2026-01-01T00:00:0{second}Z",
            "post": {"id": post_id, "title": f"post {second - 1}"},
        }
        for post_id, direction, second in zip(posts[::-1], (1, -1, 1), (3, 2, 1), strict=True)
    ]
    assert ann("GET", "/users/me/votes").json() == seen
    assert ann("GET", "/users/me/votes?dir=1").json() == [seen[0], seen[2]]
    assert ann("GET", "/users/me/votes?dir=-1").json() == [seen[1]]
    assert ann("GET", "/users/me/votes?limit=2").json() == seen[:2]
    assert ann("GET", "/users/me/votes?limit=1&dir=1").json() == seen[:1]
    for query in ("dir=0", "dir=2", "dir=", "dir=up", "dir=1.0", "dir=%2B1", "limit=0", "limit=101", "limit=x"):
        problem = require_problem(ann("GET", f"/users/me/votes?{query}"), "validation")
        assert [error["loc"] for error in problem["errors"]] == [["query", query.partition("=")[0]]]
    require_problem(frozen_api.client.get("/users/me/votes"), "not-authenticated")


def test_votes_on_what_was_hidden_are_left_out_until_it_is_shown(api: Api, ann: Person, bob: Person) -> None:
    own_draft = ann.posts(published=False)
    hidden, shown = bob.posts(), bob.posts()
    for post_id in (own_draft, hidden, shown):
        ann("POST", "/vote", json={"post_id": post_id, "dir": 1})
    bob("PATCH", f"/posts/{hidden}", json={"published": False})

    def votes() -> tuple[set[int], set[int]]:
        listed, exported = ann("GET", "/users/me/votes").json(), ann("GET", "/users/me/export").json()["votes"]
        return {vote["post_id"] for vote in listed}, {vote["post_id"] for vote in exported}

    assert votes() == ({own_draft, shown}, {own_draft, shown})
    bob("PATCH", f"/posts/{hidden}", json={"published": True})
    assert votes() == ({own_draft, shown, hidden}, {own_draft, shown, hidden})
    bob("PATCH", f"/posts/{hidden}", json={"published": False})
    api.run_sql("UPDATE users SET role = 'admin' WHERE id = :id", id=ann.id)
    assert votes() == ({own_draft, shown, hidden}, {own_draft, shown, hidden})  # now she sees everything


def test_people_take_everything_away(frozen_api: Api, clock: FrozenClock) -> None:
    ann, bob = frozen_api.person("ann"), frozen_api.person("bob")
    draft = ann.posts(title="A draft", published=False)
    clock.advance(timedelta(seconds=1))
    posts = [ann.posts(title=f"post {number}") for number in range(120)]  # more than a page
    others = [bob.posts() for _ in range(120)]
    for post_id in others:
        ann("POST", "/vote", json={"post_id": post_id, "dir": 1})
    bob("POST", "/vote", json={"post_id": draft + 1, "dir": -1})
    bob("POST", "/vote", json={"post_id": others[0], "dir": -1})

    answer = ann("GET", "/users/me/export")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="')
    assert answer.headers["Cache-Control"] == "no-store"
    export = answer.json()
    assert export.keys() == {table.info["export"] for table in metadata.sorted_tables} - {None}
    assert all(export.values())
    assert export["profile"] == ann("GET", "/profile").json()
    assert {post["id"] for post in export["posts"]} == {draft, *posts}
    first = next(post for post in export["posts"] if post["id"] == draft)
    assert first | {"title": "A draft", "content": "Some content", "published": False, "version": 1} == first
    assert "password" not in answer.text
    assert sorted(export["votes"], key=lambda vote: vote["post_id"]) == [
        {"post_id": post_id, "dir": 1, "created_at": "2026-01-01T00:00:01Z"} for post_id in others
    ]
    require_problem(frozen_api.client.get("/users/me/export"), "not-authenticated")


@pytest.mark.parametrize("path", ["/profile", "/users/me", "/users/me/sessions", "/users/me/export"])
def test_no_cache_stores_personal_data(ann: Person, path: str) -> None:
    assert ann("GET", path).headers["Cache-Control"] == "no-store"


# Administrators.


def administer(person: Person, user_id: object, **fields: object) -> httpx2.Response:
    return person("PATCH", f"/users/{user_id}", json=fields)


def test_administrators_give_and_take_the_role(ann: Person, root: Person) -> None:
    require_problem(ann("GET", "/admin-dashboard"), "admins-only")
    before = ann("GET", "/profile").json()

    promoted = administer(root, ann.id, role="admin", username="x", email="x@example.com", id=99)

    assert promoted.status_code == 200
    assert promoted.json() == ann("GET", "/profile").json() == before | {"role": "admin"}
    assert ann("GET", "/admin-dashboard").status_code == 200  # with the earlier token
    assert administer(ann, root.id, role="user").json()["role"] == "user"
    require_problem(administer(root, ann.id, role="user"), "admins-only")
    assert administer(ann, root.id).json() == root("GET", "/profile").json()


def test_deactivation_ends_all_sessions_for_good(api: Api, ann: Person, root: Person) -> None:
    elsewhere = ann.token, ann.refresh_token
    ann.sign_in()
    sessions = [elsewhere, (ann.token, ann.refresh_token)]

    assert administer(root, ann.id, is_active=False).json()["is_active"] is False

    def require_ended() -> None:
        for token, refresh_token in sessions:
            require_problem(ann("GET", "/profile", headers={"Authorization": f"Bearer {token}"}), "invalid-token")
            require_problem(api.client.post("/refresh", json={"refresh_token": refresh_token}), "invalid-token")

    require_ended()
    require_problem(sign_in(api, ann.email, ann.password), "account-inactive")
    assert administer(root, ann.id, is_active=True).json()["is_active"] is True
    require_ended()
    ann.sign_in()
    assert len(ann("GET", "/users/me/sessions").json()) == 1


def test_one_active_administrator_is_always_left(api: Api, ann: Person, root: Person) -> None:
    for fields in ({"role": "user"}, {"is_active": False}, {"role": "user", "is_active": False}):
        require_problem(administer(root, root.id, **fields), "last-admin")
    assert administer(root, root.id, role="admin", is_active=True).status_code == 200
    assert administer(root, ann.id, role="admin", is_active=False).status_code == 200
    require_problem(administer(root, root.id, role="user"), "last-admin")  # one who is deactivated is no help
    assert administer(root, ann.id, is_active=True).status_code == 200
    assert administer(root, root.id, role="user").status_code == 200
    ann.sign_in()
    require_problem(administer(ann, ann.id, is_active=False), "last-admin")
    assert api.client.get(f"/users/{root.id}").status_code == 200


@pytest.mark.parametrize("fields", [{"role": "user"}, {"is_active": False}])
def test_two_administrators_at_once_do_not_end_each_other(api: Api, root: Person, fields: dict[str, object]) -> None:
    for number in range(8):
        other = api.admin(f"other{number}")
        pair = (root, other)

        answers = all_at_once([partial(administer, one, two.id, **fields) for one, two in (pair, pair[::-1])])

        left = [one for one, answer in zip(pair, answers, strict=True) if answer.status_code == 200]
        assert len(left) == 1, [answer.text for answer in answers]
        refused = next(answer for answer in answers if answer.status_code != 200)
        assert refused.status_code in {401, 403, 409}  # it came second: ended already, or the last
        root = left[0]
        assert root("GET", "/admin-dashboard").status_code == 200


def test_all_administrators_demoting_themselves_at_once_leave_one(api: Api) -> None:
    admins = [api.admin(f"admin{number}") for number in range(6)]

    answers = all_at_once([partial(administer, admin, admin.id, role="user") for admin in admins])

    assert Counter(answer.status_code for answer in answers) == {200: 5, 409: 1}


def test_an_account_takes_known_roles_and_yes_or_no(ann: Person, root: Person) -> None:
    roles: tuple[object, ...] = (None, "", "Admin", "admin ", "root", 1, True, [], {})
    for bad in roles:
        require_invalid(administer(root, ann.id, role=bad), "role")
    flags: tuple[object, ...] = (None, 0, 1, "true", "", [], {})
    for bad in flags:
        require_invalid(administer(root, ann.id, is_active=bad), "is_active")
    for user_id in (0, 99, 2**63 - 1, 2**63):
        require_problem(administer(root, user_id, role="admin"), "user-not-found")
        require_problem(administer(root, user_id, role="x"), "validation")
    own = ann("GET", "/profile").json()
    assert (own["role"], own["is_active"]) == ("user", True)


def test_only_administrators_administer(api: Api, ann: Person, bob: Person) -> None:
    for user_id in (ann.id, bob.id, 99, "x"):
        for fields in ({"role": "admin"}, {"role": "x"}, {}):
            require_problem(administer(ann, user_id, **fields), "admins-only")
            answer = api.client.patch(f"/users/{user_id}", json=fields)
            require_problem(answer, "not-authenticated")
    assert ann("GET", "/profile").json()["role"] == "user"
