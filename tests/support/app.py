"""App, wired by the container, with fakes behind the ports that a test names."""

from dataclasses import dataclass

from dependency_injector import providers

from application.app import App
from application.views import Tokens
from domain.users import Actor
from infrastructure.container import Container
from tests.fakes.memory import MemoryDatabase
from tests.fakes.services import FrozenClock, MemoryMeter, MemorySecurityLog, MemoryTimer, PlainHasher

PASSWORD = "correct horse"


HOME, ELSEWHERE = "192.0.2.1", "198.51.100.1"


REGISTRATIONS = 40


COMMON = frozenset({"password1"})


def container_with(**stand_ins: object) -> Container:
    """Return a container with these objects in the places that it names."""
    container = Container()
    for name, stand_in in stand_ins.items():
        getattr(container, name).override(providers.Object(stand_in))
    return container


@dataclass
class People:
    """App, with the people who use it."""

    app: App

    def person(self, name: str = "ann") -> Actor:
        return Actor(self.app.commands.register_user(f"{name}@example.com", PASSWORD, name, address=HOME).id)

    def sign_in(self, name: str = "ann", password: str = PASSWORD, *, address: str = HOME) -> Tokens:
        return self.app.commands.sign_in(f"{name}@example.com", password, user_agent="a browser", address=address)

    def signed_in(self, name: str = "ann") -> Actor:
        return self.app.queries.authenticate(self.sign_in(name).access_token)

    def admin(self, name: str = "root") -> Actor:
        view = self.app.commands.create_admin(f"{name}@example.com", PASSWORD, name)
        return Actor(view.id, view.role)


@dataclass
class World(People):
    """App with the fakes that it uses."""

    database: MemoryDatabase
    clock: FrozenClock
    hasher: PlainHasher
    meter: MemoryMeter
    timer: MemoryTimer
    log: MemorySecurityLog
