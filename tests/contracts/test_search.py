"""Contract of searches: the same texts are found on every storage."""

from dataclasses import replace

import pytest

from application.paging import NEWEST_FIRST, Window
from application.views import PostFilter
from infrastructure.domain_names import to_ascii
from tests.support.backends import Backend
from tests.support.samples import FOUND, NOT_FOUND, a_user, add_post, add_user


@pytest.mark.parametrize(
    ("text", "search", "is_found"), [(*pair, True) for pair in FOUND] + [(*pair, False) for pair in NOT_FOUND]
)
def test_titles_and_emails_are_found_whatever_their_spelling(
    backend: Backend, text: str, search: str, is_found: bool
) -> None:
    ann = add_user(backend.uow, "ann")
    add_post(backend.uow, ann, "Another title")
    add_post(backend.uow, ann, text)
    with backend.uow() as tx:
        bob = tx.users.add(a_user("bob").with_email(f"{text}@example.com", to_ascii))

    posts = backend.posts.list(ann, PostFilter(search=search), NEWEST_FIRST, Window()).items
    users = backend.users.list(search, Window()).items

    assert [post.title for post in posts] == [text] * is_found
    assert [user.id for user in users] == [bob.id] * is_found


def test_edited_title_is_found_by_its_new_text(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    post = add_post(backend.uow, ann, "straße")
    with backend.uow() as tx:
        tx.posts.save(replace(tx.posts.lock(post.id), title="ΟΔΥΣΣΕΥΣ"))

    def found(search: str) -> int:
        return len(backend.posts.list(ann, PostFilter(search=search), NEWEST_FIRST, Window()).items)

    assert (found("STRASSE"), found("ΟΔΥΣ")) == (0, 1)
