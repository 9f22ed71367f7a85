"""nats-py's client, which also takes headers that are encoded already, pours messages where they are many, and whose
requests keep a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from secrets import token_hex
from typing import Any

import nats.errors
import structlog
from nats.aio.client import DEFAULT_BUFFER_SIZE, NO_RESPONDERS_STATUS, Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.js.api import Header
from nats.protocol.command import hpub_cmd, pub_cmd

from core.bus.parser import PouringParser

log = structlog.get_logger(__name__)

Sink = Callable[[bytes, bytes], None]
"""Takes subject and data of a message. It must neither block nor raise: it runs within the reading."""
Receive = Callable[[Msg], None]
"""Takes a message. It must not block: it runs within the reading."""

# Octets, of which a stream's buffer holds 128 KiB.
_MUCH = 64 * 1024
_VERSION_LINE = "NATS/1.0\r\n"
_LATER_S = 0.02


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """The header block of a message. ValueError when it would not be one: line ends, or beyond ASCII."""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    block = "".join((_VERSION_LINE, *lines, "\r\n"))
    if block.count("\n") != len(lines) + 2 or block.count("\r") != len(lines) + 2:
        raise ValueError("a header holds a line end")
    return block.encode("ascii")


def encode_any_headers(headers: Mapping[str, str]) -> bytes:
    """As `encode_headers`, for others' texts too: a line end becomes a space, what ASCII lacks its code."""
    try:
        return encode_headers(headers)
    except ValueError:
        return encode_headers({_clean(name): _clean(value) for name, value in headers.items()})


def _clean(text: str) -> str:
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode()


@contextmanager
def cancellation_kept() -> Iterator[None]:
    """Raises CancelledError when the task was cancelled within, and something within has swallowed that.

    `asyncio.wait_for`, which nats-py uses, does so until Python 3.12 when the result arrives at the same time
    (https://github.com/python/cpython/issues/86296): the task would run on, and who waits for its end for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    yield
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


class BusClient(Client):
    """nats-py cleans each header of each message, sent and received. Those of this bus are clean by construction.

    `rest_s`: how long nothing is read after all that there was has been. A connection on which very many small messages
    arrive, one by one, then wakes the process for some hundreds of them at a time.
    """

    def __init__(self, *, rest_s: float = 0.0) -> None:
        super().__init__()
        self.sinks: dict[int, Sink] = {}
        self._receivers: dict[int, Receive] = {}
        self._ps = PouringParser(self)
        self._rest_s = rest_s
        self._taken = 0
        self._flush_timer: asyncio.TimerHandle | None = None

    @property
    def server_name(self) -> str:
        """Of the server that it is or was connected to, as its configuration says; empty before."""
        return str(self._server_info.get("server_name", ""))

    async def publish_encoded(self, subject: str, payload: bytes, *, reply: str, headers: bytes) -> None:
        """As `publish`, with the block of `encode_headers`. Subject and reply must be fit for the protocol."""
        if self.is_closed:
            raise nats.errors.ConnectionClosedError
        if not self.is_connected:
            raise nats.errors.OutboundBufferLimitError
        if len(payload) > self._max_payload:
            raise nats.errors.MaxPayloadError
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(payload)
        await self._send_command(hpub_cmd(subject, reply, headers, payload))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def pour(self, subject: str, sink: Sink) -> Subscription:
        """A subscription, for as long as the client lives, whose messages go to the sink as they are read."""
        subscription = await self.subscribe(subject)
        self.sinks[subscription._id] = sink
        return subscription

    async def rest(self, read: int) -> None:
        """After so many octets were read and taken in. The kernel keeps what arrives meanwhile.

        Who has just taken much looks once more instead: one turn of the event loop brings no more than the stream's
        buffer holds, and if each were followed by a rest, what comes faster would come ever later.
        """
        if self._rest_s == 0 or not isinstance(self._transport, TcpTransport):
            return
        self._taken += read
        if read >= DEFAULT_BUFFER_SIZE:
            return
        taken, self._taken = self._taken, 0
        if taken >= _MUCH:
            return
        assert self._transport._io_writer is not None
        # With the reader alone paused, the event loop would wake for each message all the same.
        stream: Any = self._transport._io_writer.transport
        stream.pause_reading()
        try:
            await asyncio.sleep(self._rest_s)
        finally:
            if not stream.is_closing():
                stream.resume_reading()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        receive = self._receivers.get(sid)
        if receive is not None:
            message = self._build_message(sid, subject, reply, data, await self._process_headers(headers))
            try:
                receive(message)
            except Exception:  # whatever it is: those who read on the same connection must not be cut off
                log.exception("bus.receiver_failed", subject=message.subject)
            return
        sink = self.sinks.get(sid)
        if sink is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            sink(subject, data)

    async def subscribe_directly(self, subject: str, receive: Receive) -> Subscription:
        """As `subscribe`, without a queue and a task between the reading and who receives. What it raises is logged,
        and the next message comes."""
        sid = self._sid + 1  # known beforehand: a message may come before `subscribe` returns
        self._receivers[sid] = receive
        try:
            subscription = await self.subscribe(subject)
        except BaseException:
            self._receivers.pop(sid, None)
            raise
        assert subscription._id == sid
        return subscription

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        self._receivers.pop(sid, None)

    async def _init_request_sub(self) -> None:
        """As nats-py's, whose answers go by a queue and a task."""
        prefix = f"{self._inbox_prefix.decode()}.{self._nuid.next().decode()}."
        self._resp_map, self._resp_sub_prefix = {}, bytearray(prefix.encode())
        await self.subscribe_directly(f"{prefix}*", lambda message: self._on_response(message, len(prefix)))

    def _on_response(self, message: Msg, prefix_length: int) -> None:
        answer = self._resp_map.get(message.subject[prefix_length:])
        if answer is not None and not answer.done():
            answer.set_result(message)

    def publish_later(self, subject: str, payload: bytes) -> None:
        """With what is sent next, or soon: for what costs more to send than it says. Lost with the connection.

        Subject and payload as for `publish_encoded`.
        """
        if not self.is_connected:
            return
        command = pub_cmd(subject, "", payload)
        self._pending.append(command)
        self._pending_data_size += len(command)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(payload)
        if self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(_LATER_S, self._flush_now)

    def _flush_now(self) -> None:
        self._flush_timer = None
        if self._pending and self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())

    async def request_encoded(self, subject: str, payload: bytes, *, headers: bytes, timeout_s: float) -> Msg:
        """As `request`, with the block of `encode_headers`; its wait costs a timer and no more."""
        if not self._resp_sub_prefix:
            await self._init_request_sub()
        assert self._resp_sub_prefix
        # As `_request_sub_callback` expects it.
        token = (self._nuid.next() + token_hex(2).encode()).decode()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Msg] = loop.create_future()
        self._resp_map[token] = answer
        timer = loop.call_later(timeout_s, _time_out, answer)
        try:
            inbox = self._resp_sub_prefix.decode() + token
            await self.publish_encoded(subject, payload, reply=inbox, headers=headers)
            message = await answer
        finally:
            timer.cancel()
            self._resp_map.pop(token, None)
        if message.headers and message.headers.get(Header.STATUS.value) == NO_RESPONDERS_STATUS:
            raise nats.errors.NoRespondersError
        return message

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """As nats-py's, without its care for spaces and for non-ASCII in names: each event has twenty headers, and each
        process reads every event."""
        text = raw.decode("utf-8", "replace")
        pairs = (line.partition(":") for line in text.split("\r\n"))
        return {name: value.strip() for name, separator, value in pairs if separator}

    async def request(self, *arguments: Any, **options: Any) -> Msg:
        """As nats-py's, for JetStream's calls too."""
        with cancellation_kept():
            return await super().request(*arguments, **options)


def _time_out(answer: asyncio.Future[Msg]) -> None:
    if not answer.done():
        answer.set_exception(nats.errors.TimeoutError())
