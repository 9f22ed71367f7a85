"""When the server has dealt with what a client sent. A flush of nats-py alone does not tell."""

from __future__ import annotations

from nats.aio.client import Client


async def dealt_with(client: Client) -> None:
    """Returns once the server has dealt with every subscription and message that the client has sent until now.

    A flush sends its PING ahead of what is still pending, and nats-py 2.16 answers when that comes back. But with the
    first one all that was pending goes out, so what comes back for the second one tells.
    """
    await client.flush()
    await client.flush()
