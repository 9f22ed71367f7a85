"""One connection to a replica of the metadata service: HTTP/1.1 with keep-alive, parsed by llhttp (httptools).

What guests send is parsed by h11, which is strict and slow; the service is ours.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

import httptools

from net_agent.metadata_proxy.signing import Headers

# User data have 64 KiB at most.
MAX_ANSWER_OCTETS = 1024 * 1024
_READ_OCTETS = 65_536


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


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._rests_since = 0.0

    @classmethod
    async def open(cls, host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
        """Raises OSError; ssl.SSLError is one."""
        return cls(*await asyncio.open_connection(host, port, ssl=tls))

    async def exchange(self, host: bytes, question: Question) -> tuple[Answer, bool]:
        """The answer, and whether another question can follow. Raises NoAnswer."""
        parsing = _Parsing(question.method)
        try:
            self._writer.write(question.to_octets(host))
            await self._writer.drain()
            while not parsing.complete:
                parsing.feed(await self._reader.read(_READ_OCTETS))
        except (ConnectionError, httptools.HttpParserError) as error:
            raise NoAnswer(str(error) or "the connection broke") from error
        return parsing.answer(), parsing.keep_alive

    def rest(self) -> None:
        """Until the next question."""
        self._rests_since = asyncio.get_running_loop().time()

    def rested_for(self) -> float:
        """Seconds; endless when the service has closed it."""
        if self._reader.at_eof():
            return float("inf")
        return asyncio.get_running_loop().time() - self._rests_since

    def close(self) -> None:
        self._writer.close()


class _Parsing:
    """One answer on its way; its `on_…` methods are llhttp's callbacks."""

    def __init__(self, method: bytes) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._is_head = method == b"HEAD"
        self._reason = bytearray()
        self._headers: Headers = []
        self._body = bytearray()
        self.complete = False
        self.keep_alive = False

    def feed(self, data: bytes) -> None:
        """Raises NoAnswer, httptools.HttpParserError."""
        if not data:
            raise NoAnswer("the service closed the connection without a whole answer")
        self._parser.feed_data(data)
        if len(self._body) > MAX_ANSWER_OCTETS:
            raise NoAnswer(f"the answer has more than {MAX_ANSWER_OCTETS} octets")

    def answer(self) -> Answer:
        return Answer(self._parser.get_status_code(), bytes(self._reason), self._headers, bytes(self._body))

    def on_status(self, status: bytes) -> None:
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        # llhttp does not know the question: to HEAD there is a head, whatever length that tells of.
        if self._is_head and self._parser.get_status_code() >= 200:
            self.complete = True

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            # An interim answer (RFC 9110, section 15.2): the one that counts follows.
            self._reason.clear()
            self._headers.clear()
        elif not self._is_head:
            self.complete, self.keep_alive = True, self._parser.should_keep_alive()
