"""Commands and reports that come late, twice, in another order, or whose answer is lost.

    async with Shuffler(bus, bus.subjects.reports_stream, Shuffle(twice=0.5, overtaken=0.3), random=Random(7)) as it:
        …
    assert it.done["twice"]

A `Shuffler` stands between those who publish and the stream, as a bad network would: it takes what is published on
the stream's subjects and passes it on to where the stream then listens, which stores it under the old subject. The
acknowledgement still comes from JetStream, so nobody need know: a message that is lost on its way is sent again by
its publisher, under the same id, and one that came through although its acknowledgement did not is stored once.
A copy has an id of its own, as from a publisher that says again, later, what it once meant to say: a replica that was
paused before it published. It may come after what replaced it, so handlers must look at generations.

`redelivered` is the other half: a handler whose acknowledgements get lost, to whom JetStream brings the same again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any

from nats.aio.msg import Msg
from nats.js.api import Header, StreamConfig, SubjectTransform

from core.bus import Bus, Received
from core.bus.connection import BusSubscription
from core.ids import uuid7

_ANY = ""
_MESSAGE_ID = Header.MSG_ID.value
_OVERTAKEN_WITHIN_S = 1.0
_OUTDATED_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffle:
    """What may happen to each message, with which probability (0 to 1). The faults don't exclude one another.

    `twice`: a copy is stored as well, up to `late_s` seconds later. `outdated`: a copy is stored as well, right after
    the next message about the same object (the subject's last token), or after ten seconds. `late`: it is held for up
    to `late_s` seconds.
    `overtaken`: it is held until the next one has passed, or for a second. `lost`: its first attempt doesn't arrive.
    `unanswered`: its first attempt arrives, and the acknowledgement does not.
    `concerns`: whether any of it happens to messages of a subject.
    """

    twice: float = 0.0
    outdated: float = 0.0
    late: float = 0.0
    late_s: float = 0.5
    overtaken: float = 0.0
    lost: float = 0.0
    unanswered: float = 0.0
    concerns: Callable[[str], bool] = lambda _: True


class Shuffler:
    """An async context manager for one stream: COMMANDS or REPORTS. `done`: how often each fault was done.

    At its end whatever is held passes at once, and the stream listens again where it did.
    """

    def __init__(self, bus: Bus, stream: str, shuffle: Shuffle, *, random: Random) -> None:
        self._bus = bus
        self._stream = stream
        self._shuffle = shuffle
        self._random = random
        self._subscription: BusSubscription | None = None
        self._subject = ""
        self._seen: set[str] = set()
        self._awaited: dict[str, asyncio.Event] = {}
        self._hurry = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        self.done: Counter[str] = Counter()

    async def __aenter__(self) -> Shuffler:
        config = (await self._bus.js.stream_info(self._stream)).config
        [self._subject] = config.subjects or []
        self._subscription = await self._bus.subscribe(self._subject, self._on_published)
        await self._listen_on(config, _behind(self._subject), SubjectTransform(_behind(self._subject), self._subject))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._subscription is not None
        self._hurry.set()
        while self._under_way:
            await asyncio.wait(self._under_way)
            await asyncio.sleep(0)  # lets the done callbacks take them off
        await self._listen_on((await self._bus.js.stream_info(self._stream)).config, self._subject, None)
        await self._subscription.unsubscribe()

    async def _listen_on(self, config: StreamConfig, subject: str, transform: SubjectTransform | None) -> None:
        config.subjects, config.subject_transform = [subject], transform
        await self._bus.js.update_stream(config)

    async def _on_published(self, message: Msg) -> None:
        headers = dict(message.headers or {})
        self._start(self._carry(message, headers))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _carry(self, message: Msg, headers: dict[str, str]) -> None:
        if not self._shuffle.concerns(message.subject):
            return await self._pass(message, headers, reply=message.reply)
        first_attempt = headers.get(_MESSAGE_ID, "") not in self._seen
        self._seen.add(headers.get(_MESSAGE_ID, ""))
        if first_attempt and self._chosen("twice", self._shuffle.twice):
            self._start(self._copy(message, headers, self._wait(self._shuffle.late_s)))
        outdated = first_attempt and self._chosen("outdated", self._shuffle.outdated)
        if first_attempt and self._chosen("lost", self._shuffle.lost):
            return
        if self._chosen("late", self._shuffle.late):
            await self._wait(self._shuffle.late_s)
        if self._chosen("overtaken", self._shuffle.overtaken):
            await self._wait_for_another(_ANY, _OVERTAKEN_WITHIN_S)
        answered = not (first_attempt and self._chosen("unanswered", self._shuffle.unanswered))
        await self._pass(message, headers, reply=message.reply if answered else "")
        for key in (_ANY, _object(message)):
            if (waited_for := self._awaited.pop(key, None)) is not None:
                waited_for.set()
        if outdated:
            self._start(self._copy(message, headers, self._wait_for_another(_object(message), _OUTDATED_WITHIN_S)))

    async def _copy(self, message: Msg, headers: dict[str, str], when: Awaitable[None]) -> None:
        await when
        await self._pass(message, {**headers, _MESSAGE_ID: f"copy-{uuid7()}"}, reply="")

    async def _pass(self, message: Msg, headers: dict[str, str], *, reply: str) -> None:
        """To where the stream listens now; it answers whoever is named by `reply`."""
        subject = self._subject.removesuffix(">")
        assert message.subject.startswith(subject), message.subject
        target = _behind(subject) + message.subject.removeprefix(subject)
        await self._bus.nc.publish(target, message.data, reply=reply, headers=headers or None)

    async def _wait(self, up_to_s: float) -> None:
        await self._unless_hurried(self._hurry.wait(), self._random.uniform(up_to_s / 2, up_to_s))

    async def _wait_for_another(self, key: str, up_to_s: float) -> None:
        await self._unless_hurried(self._awaited.setdefault(key, asyncio.Event()).wait(), up_to_s)

    async def _unless_hurried(self, news: Awaitable[bool], up_to_s: float) -> None:
        waiting = {asyncio.ensure_future(news), asyncio.ensure_future(self._hurry.wait())}
        await asyncio.wait(waiting, timeout=up_to_s, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()

    def _chosen(self, fault: str, probability: float) -> bool:
        chosen = self._random.random() < probability
        self.done[fault] += chosen
        return chosen


def _object(message: Msg) -> str:
    """What the message is about."""
    return message.subject.rpartition(".")[2]


def _behind(subject: str) -> str:
    """Where the stream listens while the shuffler stands before it: `<cell>.shuffled.<kind>.…`."""
    cell, _, rest = subject.partition(".")
    return f"{cell}.shuffled.{rest}"


class AckWithheld(Exception):
    """The message was handled, and its acknowledgement got lost."""


def redelivered(
    handler: Callable[[Received], Awaitable[None]], times: int = 1
) -> Callable[[Received], Awaitable[None]]:
    """The handler, each of whose messages JetStream delivers so many times more after it was handled."""

    async def handle(received: Received) -> None:
        await handler(received)
        if received.delivered <= times:
            raise AckWithheld(f"{received.subject}, delivery {received.delivered}")

    return handle
