"""A further interface: a queue's messages become use cases, without a line in domain or application."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import closing

from dependency_injector import providers
from pydantic import SecretStr
from sqlalchemy import URL

from infrastructure.container import Container
from infrastructure.settings import Settings
from tests.support.backends import require_true_counters, sql_backend
from tests.support.queue_reader import Message, consume
from tests.support.samples import add_post, add_user


async def queue(messages: Sequence[Message]) -> AsyncIterator[Message]:
    for message in messages:
        yield message


def read(url: URL, messages: Sequence[Message]) -> list[str]:
    container = Container()
    settings = Settings(database_url=SecretStr(url.render_as_string(hide_password=False)))
    container.settings.override(providers.Object(settings))
    with closing(container.database()), closing(container.executor()):
        asyncio.run(consume(queue(messages), container.app(), container.executor()))
    return [message.result for message in messages]


def test_messages_of_a_queue_are_votes(url: URL) -> None:
    with sql_backend(url) as backend:
        ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
        shown = add_post(backend.uow, ann)
        draft = add_post(backend.uow, ann, published=False)

    results = read(
        url,
        [
            Message(bob.id, shown.id, 1),
            Message(bob.id, shown.id, -1),
            Message(bob.id, draft.id, 1),
            Message(4_711, shown.id, 1),
            Message(ann.id, draft.id, 1),
        ],
    )

    assert results == ["done", "done", "post-not-found", "user-not-found", "done"]
    require_true_counters(url)


def test_message_goes_back_where_no_database_responds(url: URL) -> None:
    gone = url.set(port=1) if url.host else url.set(database="/nonexistent/agora.db")

    assert read(gone, [Message(1, 1, 1)]) == ["requeued"]
