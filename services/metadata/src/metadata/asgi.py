"""As much of HTTP as guests need, over ASGI: a framework would cost more than what it is asked for here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Request:
    """`path`: decoded; `raw_path`: as on the request line, without the query. Names of `headers` are in lower case."""

    method: str
    path: str
    raw_path: str
    headers: Mapping[str, str]
    body: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Answer]]


def application(handle: Handler) -> Callable[[dict[str, Any], Receive, Send], Awaitable[None]]:
    """An ASGI application that answers requests, and nothing but HTTP."""

    async def serve(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", scope["type"]
        answer = await handle(
            Request(
                method=scope["method"],
                path=scope["path"],
                raw_path=scope["raw_path"].decode("latin-1"),
                headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
                body=lambda: _body(receive),
            )
        )
        headers = {"content-length": str(len(answer.body)), "content-type": answer.content_type, **answer.headers}
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
            }
        )
        await send({"type": "http.response.body", "body": answer.body})

    return serve


async def _body(receive: Receive) -> bytes:
    """Whole; the hosts' proxies bound it."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)
