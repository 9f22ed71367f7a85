"""One connection to a replica of the metadata service: HTTP/1.1, parsed by llhttp (httptools).

Questions follow one another without waiting for answers, which come in the same order (RFC 9112, section 9.3.2). Those
of one turn of the loop go out together: a burst of guests costs few segments and TLS records.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass
from typing import cast

import httptools

from net_agent.metadata_proxy.signing import Headers

# User data have 64 KiB at most.
MAX_ANSWER_OCTETS = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `headers`: without Host, and without those that concern the body."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes

    def to_octets(self, host: bytes) -> bytes:
        """As HTTP/1.1 has it (RFC 9112, section 2.1). Every part comes from a parser that lets no line end through."""
        headers = [(b"Host", host), *self.headers]
        if self.body or self.method in (b"PUT", b"POST"):
            headers.append((b"Content-Length", b"%d" % len(self.body)))
        lines = [b"%s %s HTTP/1.1" % (self.method, self.target), *(b"%s: %s" % header for header in headers)]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


@dataclass(frozen=True, slots=True)
class Answer:
    """Whole: what breaks off half-way is none."""

    status: int
    reason: bytes
    headers: Headers
    body: bytes


class NoAnswer(Exception):
    """The service closed the connection, or what it said was no HTTP."""


class Connection(asyncio.Protocol):
    """`has_answered`: at least once, so that its end may be one that the service is entitled to."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parsing = _Parsing()
        self._waiting: deque[asyncio.Future[Answer]] = deque()
        self._outgoing: list[bytes] = []
        self._rests_since = self._loop.time()
        self._over = False
        self.has_answered = False

    @classmethod
    async def open(cls, host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
        """Raises OSError; ssl.SSLError is one."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port, ssl=tls)
        return connection

    async def ask(self, question: bytes) -> Answer:
        """*question*: as `Question.to_octets` has it; HEAD can't be asked. Raises NoAnswer."""
        if self._over:
            raise NoAnswer("the connection is closed")
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting.append(answer)
        if not self._outgoing:
            self._loop.call_soon(self._send)
        self._outgoing.append(question)
        return await answer

    def rested_for(self) -> float:
        """Seconds without a question; endless when the connection is closed."""
        if self._over:
            return float("inf")
        return 0.0 if self._waiting else self._loop.time() - self._rests_since

    def close(self) -> None:
        """What was asked has no answer."""
        self._end("the connection was given up")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not uvloop's by inheritance.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parsing.feed(data)
        except (NoAnswer, httptools.HttpParserError) as error:
            self._end(str(error))
            return
        finally:
            self._hand_out()
        if self._parsing.is_last:
            self._end("the service closes the connection")

    def connection_lost(self, error: Exception | None) -> None:
        self._end(str(error or "the service closed the connection"))

    def _send(self) -> None:
        if not self._over:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def _hand_out(self) -> None:
        answers = self._parsing.answers
        while answers and self._waiting:
            future = self._waiting.popleft()
            answer = answers.popleft()
            if not future.done():  # else whoever asked has gone
                future.set_result(answer)
            self.has_answered = True
        self._rests_since = self._loop.time()
        if answers:
            self._end("an answer that nobody asked for")

    def _end(self, why: str) -> None:
        if self._over:
            return
        self._over = True
        self._transport.close()
        while self._waiting:
            if not (future := self._waiting.popleft()).done():
                future.set_exception(NoAnswer(why))


class _Parsing:
    """Answers on their way; the `on_…` methods are llhttp's callbacks. `is_last`: no other follows."""

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        self.is_last = False
        self._parser = httptools.HttpResponseParser(self)
        self.on_message_begin()

    def feed(self, data: bytes) -> None:
        """Raises NoAnswer, httptools.HttpParserError."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            raise NoAnswer(f"the answer has more than {MAX_ANSWER_OCTETS} octets") from error
        except httptools.HttpParserUpgrade as error:
            raise NoAnswer("the service wants to speak something else") from error

    def on_message_begin(self) -> None:
        self._reason = b""
        self._headers: Headers = []
        self._body = bytearray()

    def on_status(self, status: bytes) -> None:
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > MAX_ANSWER_OCTETS:
            raise OverflowError(len(self._body))

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # an interim answer (RFC 9110, section 15.2): the one that counts follows
        self.is_last = not self._parser.should_keep_alive()
        self.answers.append(Answer(status, self._reason, self._headers, bytes(self._body)))
