"""What guests send, parsed by llhttp (httptools) in its strict mode: hostile until it is a whole request."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import httptools

from net_agent.metadata_proxy.signing import Headers

MAX_HEAD_OCTETS = 16_384
MAX_BODY_OCTETS = 65_536


class Refused(Exception):
    """A request that isn't passed on."""

    def __init__(self, status: int, text: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Request:
    """Names of `headers` are in lower case. `keeps_alive`: the guest may ask another over this connection."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes
    keeps_alive: bool


class RequestParser:
    """Of one connection: `requests` are whole, in order. The `on_…` methods are llhttp's callbacks."""

    def __init__(self) -> None:
        self.requests: deque[Request] = deque()
        self._parser = httptools.HttpRequestParser(self)
        self._ended = False
        self._refused: Refused | None = None
        self._head_octets = 0
        self._in_head = True
        self._target = b""
        self._headers: Headers = []
        self._body = bytearray()
        self._waits_for_100 = False

    def feed(self, data: bytes | memoryview) -> None:
        """Raises Refused for what HTTP doesn't know, or what is too much. After the last request nothing counts."""
        if self._ended:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._ended = True  # the request is whole; we stay with HTTP/1.1, as RFC 9110, section 7.8, allows
        except httptools.HttpParserError as error:
            if not self._ended:
                raise self._refused or Refused(400, "not a request that HTTP knows") from error
        if self._in_head:
            # What is kept of a head that isn't whole: a read more than the limit, at most.
            self._head_octets += len(data)
            if self._head_octets > MAX_HEAD_OCTETS:
                raise Refused(431, f"a head of more than {MAX_HEAD_OCTETS} octets")

    def continues(self) -> bool:
        """Whether the guest waits for `100 Continue` before it sends a body; once for each request."""
        waits, self._waits_for_100 = self._waits_for_100, False
        return waits

    def on_message_begin(self) -> None:
        self._in_head, self._head_octets = True, 0
        self._target, self._headers, self._body = b"", [], bytearray()

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer, which nobody asked for
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head, self._head_octets = False, 0
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._refuse(505, "only HTTP/1.1 is spoken here")
        # RFC 9112, section 3.2.
        if version == "1.1" and sum(name == b"host" for name, _ in self._headers) != 1:
            self._refuse(400, "a request names one host")
        self._waits_for_100 = version == "1.1" and any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in self._headers
        )

    def on_body(self, part: bytes) -> None:
        self._waits_for_100 = False
        if len(self._body) + len(part) > MAX_BODY_OCTETS:
            self._refuse(413, f"more than {MAX_BODY_OCTETS} octets")
        self._body += part

    def on_message_complete(self) -> None:
        parser = self._parser
        self._waits_for_100 = False
        keeps_alive = parser.get_http_version() == "1.1" and parser.should_keep_alive() and not parser.should_upgrade()
        self._ended = not keeps_alive
        self.requests.append(Request(parser.get_method(), self._target, self._headers, bytes(self._body), keeps_alive))

    def _refuse(self, status: int, text: str) -> None:
        self._refused = Refused(status, text)
        raise self._refused
