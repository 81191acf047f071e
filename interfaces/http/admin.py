"""The administrators' dashboard over HTTP."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from interfaces.http.deps import Admin, StateDep
from interfaces.http.fields import about
from interfaces.http.routing import StrictRoute

router = APIRouter(tags=["admin"], route_class=StrictRoute, strict_content_type=False)


class CountsOut(BaseModel):
    """Totals by kind."""

    model_config = ConfigDict(from_attributes=True)

    users: Annotated[int, about("The number of accounts.", 12)]
    posts: Annotated[int, about("The number of posts.", 30)]
    votes: Annotated[int, about("The number of votes.", 90)]


class TopPostOut(BaseModel):
    """A post in the ranking."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, about("The post's id.", 1)]
    title: Annotated[str, about("One line.", "Budget 2026")]
    votes: Annotated[int, about("Upvotes minus downvotes.", 2)]


class DashboardOut(CountsOut):
    """Totals, those of the last 24 hours, and the top posts."""

    last_24h: Annotated[CountsOut, Field(description="What was added in the last 24 hours.")]
    top_posts: Annotated[list[TopPostOut], Field(description="The posts with the most votes, in order.")]


@router.get("/admin-dashboard")
async def see_dashboard(actor: Admin, state: StateDep) -> DashboardOut:
    """Show the dashboard to administrators."""
    dashboard = await state.run(state.app.queries.get_dashboard, actor)
    return DashboardOut(
        **asdict(dashboard.total),
        last_24h=CountsOut.model_validate(dashboard.last_24h),
        top_posts=[TopPostOut.model_validate(post) for post in dashboard.top_posts],
    )
