"""What a client does first, through the code that openapi-python-client generates."""

import re

from agora_client import AuthenticatedClient, Client
from agora_client.api.posts import list_posts, patch_post, write_post
from agora_client.api.sessions import refresh, sign_in
from agora_client.api.users import register
from agora_client.api.votes import put_vote
from agora_client.models import PostIn, PostPatchIn, RefreshIn, RegistrationIn, SignInForm, VoteIn, VoteInDir
from agora_client.types import UNSET


def tour(server: str, email: str, password: str) -> list[object]:
    anonymous = Client(server)
    register.sync(client=anonymous, body=RegistrationIn(email=email, password=password))
    tokens = sign_in.sync(client=anonymous, body=SignInForm(username=email, password=password))
    tokens = refresh.sync(client=anonymous, body=RefreshIn(tokens.refresh_token))
    client = AuthenticatedClient(server, tokens.access_token)
    pears = write_post.sync_detailed(client=client, body=PostIn(title="Pears", content="Ripe?"))
    plums = write_post.sync_detailed(client=client, body=PostIn(title="Plums", content="Ripe?"))
    post_id, tag = pears.parsed.id, pears.headers["ETag"]
    edited = patch_post.sync(post_id, client=client, body=PostPatchIn(title="Apples"), if_match=tag)
    stale = patch_post.sync(post_id, client=client, body=PostPatchIn(title="Grapes"), if_match=tag)
    vote = put_vote.sync(plums.parsed.id, client=client, body=VoteIn(VoteInDir.UP))
    titles, cursor = [], UNSET
    while cursor is not None:
        page = list_posts.sync_detailed(client=client, limit=1, cursor=cursor)
        titles += [post.title for post in page.parsed]
        following = re.search(r'cursor=([\w-]+)[^,]*rel="next"', page.headers["Link"])
        cursor = following and following[1]
    invalid = write_post.sync(client=client, body=PostIn(title="", content="Ripe?"))
    return [edited.version, stale.type_, vote.votes, titles, invalid.to_dict()]
