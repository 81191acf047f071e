"""Conditional requests: tags of posts, 304 for known tags, 412 for stale edits."""

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import httpx2
import pytest
from sqlalchemy import URL

from tests.support.api import SECURITY_HEADERS, Person, require_problem, running_api
from tests.support.concurrency import all_at_once

POST = {"title": "A title", "content": "Some content"}
TAG = re.compile(r'"([1-9][0-9]*)-[0-9a-f]{16,}"')


def tag_of(answer: httpx2.Response) -> str:
    assert answer.status_code in {200, 201}, answer.text
    tag: str = answer.headers["ETag"]
    found = TAG.fullmatch(tag)
    assert found is not None, tag
    assert int(found[1]) == answer.json()["version"]
    return tag


def tag(person: Person, post_id: int) -> str:
    return tag_of(person("GET", f"/posts/{post_id}"))


def with_version(tag: str, version: int) -> str:
    return f'"{version}-{tag.partition("-")[2]}'


# If-None-Match.


def test_every_response_with_a_post_has_the_tag_of_a_read(ann: Person) -> None:
    answers = [ann("POST", "/posts", json=POST)]
    path = answers[0].headers["Location"]
    for send in (
        partial(ann, "GET", path),
        partial(ann, "PUT", path, json=POST),
        partial(ann, "PATCH", path, json={"title": "Another"}),
        partial(ann, "PATCH", path, json={}),
        partial(ann, "HEAD", path),
    ):
        answers.append(send())
        read = ann("GET", path)
        assert answers[-1].headers["ETag"] == tag_of(read)
        assert answers[-1].content in {read.content, b""}

    assert answers[0].headers["ETag"] == answers[1].headers["ETag"]
    assert [answer.headers["ETag"].partition("-")[0] for answer in answers] == ['"1', '"1', '"2', '"3', '"3', '"3']


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_known_tag_gets_304(ann: Person, method: str) -> None:
    path = f"/posts/{ann.posts()}"
    whole = ann(method, path)
    known = whole.headers["ETag"]

    answer = ann(method, path, headers={"If-None-Match": known})

    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["ETag"] == known
    assert answer.headers["Cache-Control"] == whole.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["Vary"] == whole.headers["Vary"]
    assert "Authorization" in answer.headers["Vary"]
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert answer.headers["X-Request-ID"]
    assert not {"content-type", "content-length"} & set(answer.headers)


def test_everything_that_the_caller_sees_changes_the_tag(ann: Person, bob: Person) -> None:
    post_id = ann.posts()
    path = f"/posts/{post_id}"
    changes: list[Callable[[], httpx2.Response]] = [
        partial(bob, "PUT", f"{path}/vote", json={"dir": 1}),
        partial(bob, "PUT", f"{path}/vote", json={"dir": -1}),
        partial(ann, "PUT", f"{path}/vote", json={"dir": 1}),
        partial(ann, "PATCH", "/users/me", json={"username": "anna"}),
        partial(ann, "PATCH", path, json={"content": "Other content"}),
        partial(ann, "PATCH", path, json={"content": "Other content"}),
        partial(ann, "PATCH", path, json={"published": False}),
    ]
    seen = [tag(ann, post_id)]

    for change in changes:
        assert change().status_code == 200
        answer = ann("GET", path, headers={"If-None-Match": ", ".join(seen)})
        assert answer.status_code == 200
        seen.append(tag_of(answer))
        assert ann("GET", path, headers={"If-None-Match": seen[-1]}).status_code == 304

    assert len(set(seen)) == len(seen)


def test_who_sees_something_else_has_another_tag(ann: Person, bob: Person) -> None:
    post_id = ann.posts()
    assert tag(ann, post_id) == tag(bob, post_id)

    bob("PUT", f"/posts/{post_id}/vote", json={"dir": 1})

    assert tag(ann, post_id) != tag(bob, post_id)


def test_reverted_representation_has_its_earlier_tag(ann: Person) -> None:
    post_id = ann.posts()
    before = tag(ann, post_id)

    ann("PUT", f"/posts/{post_id}/vote", json={"dir": 1})
    assert tag(ann, post_id) != before
    ann("DELETE", f"/posts/{post_id}/vote")

    assert tag(ann, post_id) == before


KNOWN = ["{}", " {} ", "W/{}", '"a", {}', '{}, "a"', 'W/"a",W/{},"b"', '"a,b", {}', '"", {}', "*", " * "]
KNOWN += ['"a",, {}', ", {}", "{},", '"a" ,\t,{} , ']  # empty elements are passed over (RFC 9110, section 5.6.1)
SUFFIXED = ["{}-gzip", "{}--gzip", "{};gzip", "{}-br"]
"""Opaque tags as Apache, Jetty and others change them when they compress."""

WRAPPED = ['"{0}"', 'W/"{0}"', '"a", W/"{0}"']
UNKNOWN = ["", '"a"', "{0}{0}", "{0} {0}", "w/{}", "W/", "*, {}", "{}, *", "{}x", "x, {}", "'{}'", '"{}', "**", ","]


def test_a_client_may_name_several_tags_strong_and_weak_or_any(ann: Person) -> None:
    post_id = ann.posts()
    known = tag(ann, post_id)

    def status(form: str) -> int:
        return ann("GET", f"/posts/{post_id}", headers={"If-None-Match": form.format(known)}).status_code

    assert {form: status(form) for form in KNOWN} == dict.fromkeys(KNOWN, 304)
    assert {form: status(form) for form in UNKNOWN} == dict.fromkeys(UNKNOWN, 200)
    bare = known.strip('"')
    forms = [wrapped.format(form.format(bare)) for wrapped, form in product(WRAPPED, SUFFIXED)]
    assert {form: status(form) for form in forms} == dict.fromkeys(forms, 304)
    version, _, digest = bare.partition("-")
    for wrong in (
        f"{version}-{digest}",
        f'"{version}"',
        f'"{digest}"',
        f'"{version}-{digest[:-1]}"',
        f'"2-{digest}"',
        f'"{bare}gzip"',
    ):
        assert status(wrong) == 200


def test_tags_may_stand_on_several_lines(ann: Person) -> None:
    post_id = ann.posts()
    known = tag(ann, post_id)
    lines = [("If-None-Match", '"a", "b"'), ("If-None-Match", ""), ("If-None-Match", known)]

    assert ann("GET", f"/posts/{post_id}", headers=lines).status_code == 304
    lines = [("If-Match", '"a", "b"'), ("If-Match", known)]
    assert ann("PATCH", f"/posts/{post_id}", json={"title": "Another"}, headers=lines).status_code == 200


def test_missing_post_is_404_whatever_the_tag(ann: Person, bob: Person) -> None:
    post_id = ann.posts(published=False)
    known = tag(ann, post_id)

    for condition in (known, "*"):
        for path in (f"/posts/{post_id}", "/posts/4711"):
            require_problem(bob("GET", path, headers={"If-None-Match": condition}), "post-not-found")
    require_problem(
        ann("GET", f"/posts/{post_id}", headers={"If-None-Match": "*", "Authorization": ""}), "not-authenticated"
    )


def test_public_reads_accept_if_none_match_without_a_token(url: URL) -> None:
    with running_api(url, public_reads=True) as api:
        path = f"/posts/{api.person('ann').posts()}"
        known = tag_of(api.client.get(path))
        assert api.client.get(path, headers={"If-None-Match": known}).status_code == 304


# If-Match.

Change = Callable[..., httpx2.Response]
CHANGES: dict[str, Callable[[Person, int], Change]] = {
    "put": lambda person, post_id: partial(person, "PUT", f"/posts/{post_id}", json=POST),
    "patch": lambda person, post_id: partial(person, "PATCH", f"/posts/{post_id}", json={"published": True}),
    "patch nothing": lambda person, post_id: partial(person, "PATCH", f"/posts/{post_id}", json={}),
    "delete": lambda person, post_id: partial(person, "DELETE", f"/posts/{post_id}"),
}


def conditional(change: Change, condition: str, header: str = "If-Match") -> httpx2.Response:
    return change(headers={header: condition.encode("latin-1")})


def test_current_version_in_if_match_allows_the_change(ann: Person, bob: Person) -> None:
    for kind, form in product(CHANGES, ("{}", '"a", {}', "{},", "*", 'W/"1-0", {}', '"7-00", {}')):
        post_id = ann.posts()
        known = tag(ann, post_id)
        for person, direction in ((bob, 1), (ann, -1)):  # votes do not change the version
            person("PUT", f"/posts/{post_id}/vote", json={"dir": direction})
        assert tag(ann, post_id) != known

        answer = conditional(CHANGES[kind](ann, post_id), form.format(known))

        assert answer.status_code == (204 if kind == "delete" else 200), form
        if kind != "delete":
            assert tag_of(answer) == tag(ann, post_id)


STALE = ["{old}", '{old}, "a"', '"20-00"', '"3-00", "1-00"']  # versions that were, and that are not yet
STALE += ["W/{old}", "w/{now}", 'W/{old}, "1-00"', '"1-00-gzip"', 'W/"1-00-gzip"', '"2-00gzip"', '"x-2-00"']
STALE += ["", "x", ",", '"', '""', '"a"', "{bare}", "'{now}'", "{now}x", "x, {now}", "*, {now}", "{now} {now}", "**"]
STALE += ['"2"', '"2-"', '"2-00', '"2-xyz"', '"-2-00"', '"+2-00"', '"02-00"', '"2_0-00"', '"2.0-00"', '"\xb2-00"']
STALE += ['"' + "9" * digits + '-00"' for digits in (18, 20, 5_000)]


def test_other_versions_in_if_match_refuse_the_change(ann: Person, bob: Person) -> None:
    post_id = ann.posts()
    old = tag(ann, post_id)
    ann("PATCH", f"/posts/{post_id}", json={"title": "Another"})
    bob("PUT", f"/posts/{post_id}/vote", json={"dir": 1})
    before = ann("GET", f"/posts/{post_id}")
    now = tag_of(before)

    for change, form in product(CHANGES.values(), STALE):
        condition = form.format(old=old, now=now, bare=now.strip('"'))
        require_problem(conditional(change(ann, post_id), condition), "version-mismatch")

    assert ann("GET", f"/posts/{post_id}").content == before.content


def test_tag_that_a_proxy_changed_allows_the_change(ann: Person) -> None:
    post_id = ann.posts()
    for form, suffixed in product(WRAPPED, ["{}", *SUFFIXED]):
        bare = tag(ann, post_id).strip('"')
        answer = conditional(CHANGES["put"](ann, post_id), form.format(suffixed.format(bare)))
        assert answer.status_code == 200, (form, suffixed)


def test_a_tag_goes_by_its_version_alone_where_something_is_changed(ann: Person) -> None:
    post_id = ann.posts()
    known = tag(ann, post_id)

    assert conditional(CHANGES["put"](ann, post_id), '"1-0"').status_code == 200
    require_problem(conditional(CHANGES["put"](ann, post_id), known), "version-mismatch")
    assert conditional(CHANGES["put"](ann, post_id), with_version(known, 2)).status_code == 200


def test_an_edit_that_names_nothing_leaves_the_tag_as_it_was(ann: Person) -> None:
    post_id = ann.posts()
    known = tag(ann, post_id)

    for condition in (known, "*"):
        answer = conditional(CHANGES["patch nothing"](ann, post_id), condition)
        assert (answer.status_code, tag_of(answer)) == (200, known)


# If-None-Match on changes (RFC 9110, section 13.1.2).

MATCHING = ["{now}", "W/{now}", '"a", {now}', '"{bare}-gzip"', 'W/"{bare};gzip"', '"2-0"', "*", " * "]
OTHERS = ["{old}", "W/{old}", '"9-00"', '"a"', '{old}, "b"', "", "x", "{now}x", "*, {now}"]


def test_matching_if_none_match_refuses_the_change(ann: Person) -> None:
    post_id = ann.posts()
    ann("PATCH", f"/posts/{post_id}", json={"title": "Another"})
    before = ann("GET", f"/posts/{post_id}")
    now = tag_of(before)

    for change, form in product(CHANGES.values(), MATCHING):
        condition = form.format(now=now, bare=now.strip('"'))
        require_problem(conditional(change(ann, post_id), condition, "If-None-Match"), "version-mismatch")

    assert ann("GET", f"/posts/{post_id}").content == before.content


def test_other_versions_in_if_none_match_allow_the_change(ann: Person) -> None:
    post_id = ann.posts()
    for form in OTHERS:
        old = tag(ann, post_id)
        ann("PATCH", f"/posts/{post_id}", json={"title": "Another"})
        condition = form.format(old=old, now=tag(ann, post_id))
        for kind in ("patch nothing", "put"):
            assert conditional(CHANGES[kind](ann, post_id), condition, "If-None-Match").status_code == 200, form
    assert conditional(CHANGES["delete"](ann, post_id), '"9-00"', "If-None-Match").status_code == 204


def test_change_needs_both_conditions(ann: Person) -> None:
    post_id = ann.posts()
    known = tag(ann, post_id)

    def edit(if_match: str, if_none_match: str) -> httpx2.Response:
        headers = {"If-Match": if_match, "If-None-Match": if_none_match}
        return ann("PUT", f"/posts/{post_id}", json=POST, headers=headers)

    for conditions in ((known, known), ('"7-0"', '"8-0"'), ("*", known), (known, "*")):
        require_problem(edit(*conditions), "version-mismatch")
    assert edit(known, '"8-0"').status_code == 200


def test_administrators_obey_conditions_as_well(ann: Person, root: Person) -> None:
    post_id = ann.posts()
    old = tag(root, post_id)
    ann("PATCH", f"/posts/{post_id}", json={"title": "Another"})

    for kind in ("patch", "delete"):
        require_problem(conditional(CHANGES[kind](root, post_id), old), "version-mismatch")
    assert conditional(CHANGES["patch"](root, post_id), tag(root, post_id)).status_code == 200
    assert conditional(CHANGES["delete"](root, post_id), tag(root, post_id)).status_code == 204


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_condition_is_checked_last(ann: Person, bob: Person, root: Person, header: str) -> None:
    shown, draft = ann.posts(), ann.posts(published=False)
    conditions = (tag(ann, shown), '"9-00"', "*", "nonsense")

    for condition in conditions:
        for change in CHANGES.values():
            for post_id in (draft, 4_711, 0):
                require_problem(conditional(change(bob, post_id), condition, header), "post-not-found")
            require_problem(conditional(change(bob, shown), condition, header), "forbidden")
        for kind in ("put", "patch nothing"):
            require_problem(conditional(CHANGES[kind](root, draft), condition, header), "forbidden")
        for method, body in (("PUT", {"title": "A title"}), ("PATCH", {"title": ""}), ("PATCH", {"published": None})):
            for path in (f"/posts/{shown}", "/posts/4711"):
                invalid = ann(method, path, json=body, headers={header: condition})
                require_problem(invalid, "validation")
        anonymous = ann("DELETE", f"/posts/{shown}", headers={header: condition, "Authorization": ""})
        require_problem(anonymous, "not-authenticated")
    assert ann("GET", f"/posts/{shown}").json()["version"] == 1


def test_of_many_edits_of_one_version_at_once_one_is_made(ann: Person) -> None:
    post_id = ann.posts()
    known = tag(ann, post_id)

    def edit(number: int) -> httpx2.Response:
        body = {"title": f"title {number}"}
        return ann("PATCH", f"/posts/{post_id}", json=body, headers={"If-Match": known})

    answers = all_at_once([partial(edit, number) for number in range(50)])

    assert Counter(answer.status_code for answer in answers) == {200: 1, 412: 49}
    made: dict[str, Any] = next(answer.json() for answer in answers if answer.status_code == 200)
    assert made["version"] == 2
    assert ann("GET", f"/posts/{post_id}").json() == made


def test_a_long_list_of_tags_is_not_read(ann: Person) -> None:
    path = ann("POST", "/posts", json=POST).headers["Location"]
    current, other = tag_of(ann("GET", path)), '"7-0123456789abcdef01234567"'
    for length, status in ((4_000, 304), (4_100, 200)):
        known = ", ".join([current, *[other] * (length // 30)]).ljust(length, ",")
        assert ann("GET", path, headers={"If-None-Match": known}).status_code == status
    for name, last in (("If-Match", current), ("If-None-Match", other)):
        for length, status in ((4_000, 200), (4_100, 412)):
            known = ", ".join([last, *['"7-0"'] * (length // 8)]).ljust(length, ",")
            assert ann("PATCH", path, json={"title": f"{name} {length}"}, headers={name: known}).status_code == status
