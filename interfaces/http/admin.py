"""The administrators' dashboard over HTTP."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from interfaces.http.deps import Admin, StateDep
from interfaces.http.routing import StrictRoute

router = APIRouter(tags=["admin"], route_class=StrictRoute, strict_content_type=False)


class CountsOut(BaseModel):
    """Totals by kind."""

    model_config = ConfigDict(from_attributes=True)

    users: int
    posts: int
    votes: int


class TopPostOut(BaseModel):
    """A post in the ranking."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    votes: int


class DashboardOut(CountsOut):
    """Totals, those of the last 24 hours, and the top posts."""

    last_24h: CountsOut
    top_posts: list[TopPostOut]


@router.get("/admin-dashboard")
async def see_dashboard(actor: Admin, state: StateDep) -> DashboardOut:
    """Show the dashboard to administrators."""
    dashboard = await state.run(state.app.queries.get_dashboard, actor)
    return DashboardOut(
        users=dashboard.total.users,
        posts=dashboard.total.posts,
        votes=dashboard.total.votes,
        last_24h=CountsOut.model_validate(dashboard.last_24h),
        top_posts=[TopPostOut.model_validate(post) for post in dashboard.top_posts],
    )
