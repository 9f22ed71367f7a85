"""`cirra login`, `cirra logout` and `cirra token`."""

from __future__ import annotations

from typing import Annotated

import typer

from cirra_sdk.cli import options
from cirra_sdk.cli.command import Session, command, group
from cirra_sdk.errors import ConfigurationError, Unauthenticated

tokens = group("token", "Access tokens, for other programs.")


async def login(session: Session) -> None:
    """Ask for the password, and keep an access token (not the password) for the commands that follow."""
    from cirra_sdk.cli.plain import time_text
    from cirra_sdk.login import received

    user = session.profile.user
    if not user:
        raise ConfigurationError("who logs in is not told", remedy="cirra --user NAME login, or set CIRRA_USER")
    password = options.secret(f"Password of {user}")
    token = await session.client.tokens.create(user, password, session.profile.project)
    session.memory.token = received(token)
    session.output.note(f"logged in as {user} until {time_text(token.expire_time)}")


async def logout(session: Session) -> None:
    """End the access token that is kept, and forget it."""
    if session.memory.token is None:
        session.output.note("not logged in")
        return
    try:
        await session.client.tokens.revoke(session.memory.token.value)
    except Unauthenticated:
        session.output.note("the token had ended already")
    session.memory.token = None


@command(tokens, "issue")
async def issue(session: Session) -> None:
    """Print an access token; `-o name` prints nothing but the token."""
    from cirra.identity.v1.identity_pb2 import Token

    profile = session.profile
    if profile.user and profile.password:
        token = await session.client.tokens.create(profile.user, profile.password, profile.project)
    else:
        token = Token(access_token=await session.client.access_token())
    session.output.resource(token)


@command(tokens, "revoke")
async def revoke(session: Session, *, token: Annotated[str, typer.Argument(help="As it was issued.")]) -> None:
    """End a token before its time."""
    await session.client.tokens.revoke(token)
