"""A guest's connection: requests one after the other, as long as it keeps it open. Everything has a limit in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol, cast

from net_agent.metadata_proxy import signing
from net_agent.metadata_proxy.connection import Answer
from net_agent.metadata_proxy.requests import Refused, Request, RequestParser

REQUEST_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 10.0
# The limit of a head is looked at after each read: the smaller, the closer it is kept.
READ_OCTETS = 8_192

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class Door(Protocol):
    """Who may come in, and what is answered."""

    def enter(self, address: str) -> bool:
        """Whether this guest may have a connection more; `leave` follows if so."""

    def leave(self, address: str) -> None: ...

    async def answer(self, request: Request, address: str) -> Answer:
        """Raises Refused."""


class GuestConnection(asyncio.BufferedProtocol):
    """`buffer`: of READ_OCTETS, the same for all connections: what is in it is parsed before the next one reads."""

    def __init__(self, door: Door, buffer: memoryview) -> None:
        self._door = door
        self._buffer = buffer
        self._parser = RequestParser()
        self._refused: Refused | None = None
        self._guest_ended = False
        self._entered = False
        self._lingers = False
        self._blocked = False
        self._reads = True
        self._serving: asyncio.Task[None] | None = None
        self._clock: _Deadline | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not uvloop's by inheritance.
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if peer is None:  # it has gone already
            self._transport.abort()
            return
        # Without the zone of an address that is good on one link.
        self._address = str(peer[0]).partition("%")[0]
        self._entered = self._door.enter(self._address)
        if not self._entered:
            self._transport.close()
            return
        self._clock = _Deadline(self._transport.abort)
        self._clock.within(REQUEST_TIMEOUT_S)

    def connection_lost(self, error: Exception | None) -> None:
        if self._clock is not None:
            self._clock.cancel()
        if self._serving is not None:
            self._serving.cancel()
        if self._entered:
            self._door.leave(self._address)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        if not self._entered or self._refused is not None:
            return
        try:
            self._parser.feed(self._buffer[:count])
        except Refused as refused:
            self._refused = refused
        self._proceed()

    def eof_received(self) -> bool:
        """It may still read what it asked for."""
        self._guest_ended = True
        if self._entered:
            self._proceed()
        return self._entered

    def pause_writing(self) -> None:
        self._blocked = True
        if self._clock is not None:
            self._clock.within(WRITE_TIMEOUT_S)

    def resume_writing(self) -> None:
        self._blocked = False
        if self._clock is not None and not self._transport.is_closing():
            self._clock.within(REQUEST_TIMEOUT_S)
            self._proceed()

    def _proceed(self) -> None:
        """With what is next, if its turn has come: requests are answered in their order."""
        if self._transport.is_closing():
            return
        if self._lingers:
            if self._guest_ended:
                self._transport.close()
        elif self._serving is not None or self._blocked:
            self._read(self._refused is None and not self._parser.requests)
        elif self._parser.requests:
            assert self._clock is not None
            self._clock.stop()
            self._serving = asyncio.get_running_loop().create_task(self._serve(self._parser.requests.popleft()))
        elif self._refused is not None:
            self._send_refusal(self._refused, keeps_alive=False)
            self._linger()
        elif self._guest_ended:
            self._close()
        else:
            if self._parser.continues():
                self._transport.write(b"HTTP/1.1 100 \r\n\r\n")
            self._read(True)

    def _read(self, wanted: bool) -> None:
        """A guest that sends more than is answered waits."""
        if wanted != self._reads and not self._guest_ended:
            self._reads = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    async def _serve(self, request: Request) -> None:
        assert self._clock is not None
        try:
            try:
                answer = await self._door.answer(request, self._address)
            except Refused as refused:
                self._send_refusal(refused, request.keeps_alive, bare=request.method == b"HEAD")
            else:
                self._send(answer, request)
        except Exception:
            self._transport.abort()
            raise  # to the loop's log
        self._serving = None
        if not request.keeps_alive:
            self._close()
        elif not self._blocked:
            self._clock.within(REQUEST_TIMEOUT_S)
            self._proceed()

    def _send(self, answer: Answer, request: Request) -> None:
        headers = signing.without_forgeries(signing.end_to_end(answer.headers))
        if answer.status not in _WITHOUT_BODY and not any(name.lower() == b"content-length" for name, _ in headers):
            headers.append((b"Content-Length", b"%d" % len(answer.body)))
        body = b"" if request.method == b"HEAD" else answer.body
        self._write(answer.status, answer.reason, headers, body, request.keeps_alive)

    def _send_refusal(self, refused: Refused, keeps_alive: bool, *, bare: bool = False) -> None:
        text = f"{refused.text}\n".encode()
        headers = [(b"Content-Type", b"text/plain"), (b"Content-Length", b"%d" % len(text))]
        if refused.retry_after_s is not None:
            headers.append((b"Retry-After", b"%d" % refused.retry_after_s))
        self._write(refused.status, _PHRASES[refused.status], headers, b"" if bare else text, keeps_alive)

    def _write(self, status: int, reason: bytes, headers: signing.Headers, body: bytes, keeps_alive: bool) -> None:
        """In one piece."""
        if not keeps_alive:
            headers.append((b"Connection", b"close"))
        lines = [b"HTTP/1.1 %d %s" % (status, reason), *(b"%s: %s" % header for header in headers), b"", body]
        self._transport.write(b"\r\n".join(lines))

    def _linger(self) -> None:
        """What the guest still sends is read: to close while it does would take the answer from it (RFC 9112, 9.6)."""
        assert self._clock is not None
        self._clock.within(WRITE_TIMEOUT_S)
        self._lingers = True
        if self._guest_ended:
            self._transport.close()
        else:
            self._transport.write_eof()
            self._read(True)

    def _close(self) -> None:
        """Once what was written has gone; a guest that doesn't take it is left in the end."""
        assert self._clock is not None
        self._clock.within(WRITE_TIMEOUT_S)
        self._transport.close()


class _Deadline:
    """Calls once when a time is over. To set another is cheap: it is one timer, which looks when it rings."""

    def __init__(self, over: Callable[[], None]) -> None:
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> None:
        self._at = self._loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._at, self._ring)

    def stop(self) -> None:
        """Until the next `within`."""
        self._at = None

    def cancel(self) -> None:
        self._at = None
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        if self._at is None:
            return
        if self._loop.time() < self._at:
            self._timer = self._loop.call_at(self._at, self._ring)
        else:
            self._over()
