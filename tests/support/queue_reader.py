"""A reader of a queue: the smallest further interface, as docs/architecture.md shows it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from application.app import App
from application.errors import Unavailable
from domain.errors import DomainError
from domain.votes import Direction
from infrastructure.execution.retry import RetryingExecutor


@dataclass
class Message:
    """A vote that another system asks for, and what became of it."""

    user_id: int
    post_id: int
    dir: int
    result: str = ""


async def consume(messages: AsyncIterator[Message], app: App, executor: RetryingExecutor) -> None:
    """Cast the votes of a queue.

    A refused message is done: it would be refused again. One that met an unavailable database goes back to the queue.
    """
    async for message in messages:
        try:
            actor = await executor.run(app.queries.get_actor, message.user_id)
            await executor.run(app.commands.cast_vote, actor, message.post_id, Direction(message.dir))
        except DomainError as refusal:
            message.result = refusal.code
        except Unavailable:
            message.result = "requeued"
        else:
            message.result = "done"
