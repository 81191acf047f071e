"""Queries for administrators about the whole of Agora."""

from dataclasses import dataclass
from datetime import timedelta

from application.ports.services import Clock
from application.ports.storage import DashboardReader
from application.views import Dashboard
from domain.users import Actor


@dataclass(frozen=True, slots=True)
class GetDashboard:
    """Return the dashboard to administrators: numbers and top posts."""

    dashboard: DashboardReader
    clock: Clock

    def __call__(self, actor: Actor) -> Dashboard:
        """Return the dashboard.

        Raises:
            AdminsOnly: the actor is no administrator.
        """
        actor.require_admin()
        return self.dashboard.get(self.clock.now() - timedelta(hours=24))
