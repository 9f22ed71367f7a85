"""As much of HTTP/1.1 as hosts' proxies need, parsed by llhttp (httptools).

A proxy sends many guests' questions over one connection, without waiting; the answers go back in the same order (RFC
9112, section 9.3.2). What is known is answered at once, and what came together goes back together: a framework would
cost more than what it is asked for here.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol
from urllib.parse import unquote

import httptools
import structlog

log = structlog.get_logger(__name__)

MAX_HEAD_OCTETS = 65_536
# Proxies let 64 KiB of a guest through.
MAX_BODY_OCTETS = 131_072
MAX_UNANSWERED = 256
# Longer than proxies keep a connection that nobody uses.
IDLE_S = 75.0

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Request:
    """`path`: decoded; `raw_path`: as on the request line, without the query. Names of `headers` are in lower case."""

    method: str
    path: str
    raw_path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


class Handler(Protocol):
    """Whoever answers."""

    def at_once(self, request: Request) -> Answer | None:
        """None: it takes waiting."""

    def __call__(self, request: Request) -> Awaitable[Answer]: ...


class ServerConnection(asyncio.Protocol):
    """One of a proxy; `ended` is called with it in the end. Its `on_…` methods are llhttp's callbacks."""

    def __init__(self, handler: Handler, ended: Callable[[ServerConnection], None]) -> None:
        self._handler = handler
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._answers: deque[bytes | asyncio.Task[bytes]] = deque()
        self._last_asked = False
        self._reads = True
        self._blocked = False
        self._head_octets = 0
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._wait_for_more()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended(self)
        if self._idle is not None:
            self._idle.cancel()
        for answer in self._answers:
            if isinstance(answer, asyncio.Task):
                answer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._last_asked:
            return
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        try:
            self._head_octets += len(data)
            self._parser.feed_data(data)
            if self._head_octets > MAX_HEAD_OCTETS:
                raise httptools.HttpParserError("the head has no end")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._last_asked:
                self._last_asked = True
                self._answers.append(_octets(Answer(400, b"not a request that is known here\n"), "GET", last=True))
        self._flush()

    def pause_writing(self) -> None:
        self._blocked = True
        self._read_as_far_as_answered()

    def resume_writing(self) -> None:
        self._blocked = False
        self._read_as_far_as_answered()

    def end(self) -> None:
        """After what was asked until now."""
        self._last_asked = True
        self._flush()

    def abort(self) -> None:
        self._transport.abort()

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        # Of this message no more is a head; what is counted next belongs to a later one.
        self._head_octets = 0

    def on_body(self, part: bytes) -> None:
        self._head_octets = 0
        self._body += part
        if len(self._body) > MAX_BODY_OCTETS:
            raise OverflowError(len(self._body))

    def on_message_complete(self) -> None:
        if self._last_asked:
            return
        self._head_octets = 0
        raw_path = self._target.decode("latin-1").partition("?")[0]
        path = unquote(raw_path) if "%" in raw_path else raw_path
        method = self._parser.get_method().decode("ascii")
        request = Request(method, path, raw_path, self._headers, bytes(self._body))
        last = self._last_asked = not self._parser.should_keep_alive()
        answer = self._handler.at_once(request)
        if answer is not None:
            self._answers.append(_octets(answer, method, last))
        else:
            task = self._loop.create_task(self._answer(request, last))
            task.add_done_callback(lambda _: self._flush())
            self._answers.append(task)

    async def _answer(self, request: Request, last: bool) -> bytes:
        try:
            answer = await self._handler(request)
        except Exception:
            log.exception("a request failed", method=request.method, path=request.path)
            answer = Answer(500, b"Internal Server Error\n")
        return _octets(answer, request.method, last)

    def _flush(self) -> None:
        """Sends what is ready, up to the first answer that takes its time."""
        if self._transport.is_closing():
            return
        ready = []
        while self._answers:
            answer = self._answers[0]
            if isinstance(answer, asyncio.Task):
                if not answer.done():
                    break
                answer = answer.result()
            ready.append(answer)
            self._answers.popleft()
        if ready:
            self._transport.write(b"".join(ready))
        if self._answers:
            self._read_as_far_as_answered()
        elif self._last_asked:
            self._transport.close()
        else:
            self._wait_for_more()

    def _wait_for_more(self) -> None:
        self._read_as_far_as_answered()
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self._loop.call_later(IDLE_S, self._transport.close)

    def _read_as_far_as_answered(self) -> None:
        wanted = not self._blocked and len(self._answers) < MAX_UNANSWERED
        if wanted != self._reads:
            self._reads = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()


def _octets(answer: Answer, method: str, last: bool) -> bytes:
    head = [
        f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, '')}",
        f"date: {_date(int(time.time()))}",
        f"content-length: {len(answer.body)}",
        f"content-type: {answer.content_type}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
    ]
    if last:
        head.append("connection: close")
    return "\r\n".join((*head, "\r\n")).encode("latin-1") + (b"" if method == "HEAD" else answer.body)


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """As RFC 9110, section 5.6.7, has it."""
    return formatdate(second, usegmt=True)
