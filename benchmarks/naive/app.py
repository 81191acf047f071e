"""The naive application: what Agora is measured against.

Honest and idiomatic: synchronous routes, entities with relationships, the account looked up on every request, votes
counted by an outer join, keys and indexes where they belong. Settings: DATABASE_URL and SECRET_KEY.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import jwt
from fastapi import Depends, FastAPI, HTTPException, Query, status
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row, Select, create_engine, func, or_, select
from sqlalchemy.orm import Session, selectinload, sessionmaker

from benchmarks.naive.models import Post, User, Vote

SECRET_KEY = os.environ["SECRET_KEY"]
ALGORITHM = "HS256"

engine = create_engine(os.environ["DATABASE_URL"], pool_pre_ping=True)
open_session = sessionmaker(engine)
oauth2_scheme = OAuth2PasswordBearer(tokenUrl="login")
app = FastAPI()


class PostIn(BaseModel):
    """A new post."""

    title: Annotated[str, Field(min_length=1, max_length=300)]
    content: Annotated[str, Field(min_length=1, max_length=65_536)]
    published: bool = True


class VoteIn(BaseModel):
    """A vote up or down."""

    dir: Literal[1, -1]


class OwnerOut(BaseModel):
    """Who wrote a post."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    username: str | None
    created_at: datetime


class PostOut(BaseModel):
    """A post with its votes."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    content: str
    published: bool
    created_at: datetime
    updated_at: datetime
    version: int
    owner_id: int
    owner: OwnerOut
    votes: int = 0
    upvotes: int = 0
    downvotes: int = 0
    my_vote: int = 0


class VoteOut(BaseModel):
    """What voting did."""

    message: str
    post_id: int
    dir: int
    votes: int
    upvotes: int
    downvotes: int


def get_db() -> Iterator[Session]:
    """Yield a session for one request."""
    with open_session() as session:
        yield session


Db = Annotated[Session, Depends(get_db)]


def get_current_user(token: Annotated[str, Depends(oauth2_scheme)], db: Db) -> User:
    """Look up the account that a token names."""
    refusal = HTTPException(status.HTTP_401_UNAUTHORIZED, "Invalid token", {"WWW-Authenticate": "Bearer"})
    try:
        user_id = int(jwt.decode(token, SECRET_KEY, algorithms=[ALGORITHM])["sub"])
    except (jwt.InvalidTokenError, KeyError, ValueError):
        raise refusal from None
    user = db.get(User, user_id)
    if user is None or not user.is_active:
        raise refusal
    return user


CurrentUser = Annotated[User, Depends(get_current_user)]

UPVOTES = func.count().filter(Vote.dir == 1).label("upvotes")
DOWNVOTES = func.count().filter(Vote.dir == -1).label("downvotes")


def posts_with_votes(user: User) -> Select[*tuple[Any, ...]]:
    """Select posts that a user may see, each with its votes counted."""
    return (
        select(
            Post,
            func.coalesce(func.sum(Vote.dir), 0).label("votes"),
            UPVOTES,
            DOWNVOTES,
            func.coalesce(func.max(Vote.dir).filter(Vote.user_id == user.id), 0).label("my_vote"),
        )
        .outerjoin(Vote, Vote.post_id == Post.id)
        .options(selectinload(Post.owner))
        .where(or_(Post.published, Post.owner_id == user.id))
        .group_by(Post.id)
    )


def post_out(row: Row[*tuple[Any, ...]]) -> PostOut:
    """Show a post with its votes."""
    shown = PostOut.model_validate(row.Post)
    shown.votes, shown.upvotes, shown.downvotes, shown.my_vote = row.votes, row.upvotes, row.downvotes, row.my_vote
    return shown


@app.get("/posts")
def list_posts(
    db: Db,
    user: CurrentUser,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
    skip: Annotated[int, Query(ge=0)] = 0,
    search: str = "",
) -> list[PostOut]:
    """List posts, newest first."""
    statement = posts_with_votes(user).order_by(Post.id.desc()).limit(limit).offset(skip)
    if search:
        statement = statement.where(Post.title.icontains(search, autoescape=True))
    return [post_out(row) for row in db.execute(statement)]


@app.get("/posts/{post_id}")
def read_post(post_id: int, db: Db, user: CurrentUser) -> PostOut:
    """Read one post."""
    row = db.execute(posts_with_votes(user).where(Post.id == post_id)).first()
    if row is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"post with id: {post_id} not found")
    return post_out(row)


@app.post("/posts", status_code=status.HTTP_201_CREATED)
def create_post(body: PostIn, db: Db, user: CurrentUser) -> PostOut:
    """Write a post."""
    now = datetime.now(UTC)
    post = Post(**body.model_dump(), owner=user, created_at=now, updated_at=now, version=1)
    db.add(post)
    db.commit()
    db.refresh(post)
    return PostOut.model_validate(post)


@app.put("/posts/{post_id}/vote")
def vote(post_id: int, body: VoteIn, db: Db, user: CurrentUser) -> VoteOut:
    """Vote on a post."""
    post = db.get(Post, post_id)
    if post is None or not (post.published or post.owner_id == user.id):
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"post with id: {post_id} not found")
    found = db.get(Vote, (post_id, user.id))
    if found is None:
        message = "successfully added vote"
        db.add(Vote(post_id=post_id, user_id=user.id, dir=body.dir, created_at=datetime.now(UTC)))
    else:
        message = "vote unchanged" if found.dir == body.dir else "successfully changed vote"
        found.dir = body.dir
    db.commit()
    up, down = db.execute(select(UPVOTES, DOWNVOTES).where(Vote.post_id == post_id)).one()
    return VoteOut(message=message, post_id=post_id, dir=body.dir, votes=up - down, upvotes=up, downvotes=down)
