"""Two hosts, alice and bob, a conductor, and the streams between them, on a real nats-server in operator mode."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, StorageType, StreamConfig, StreamState

from core.bus.subjects import Subjects, consumer_name
from core.natsauth.keys import AccountKeys
from core.natsauth.permissions import AGENTS, Permissions, inbox_prefix
from core.pki.identity import Identity
from core.testing.servers import Cell
from tests.harness.barrier import dealt_with

ALICE, BOB = Identity.host("alice"), Identity.host("bob")
# Longer than any test: what comes again does so because it was asked for.
ACK_WAIT_S = 600.0
PATIENCE_S = 30.0


@dataclass(slots=True)
class Peer:
    """A connection, and what the server refused to it."""

    identity: Identity
    client: Client = field(init=False)
    refusals: list[str] = field(default_factory=list)
    refused: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def on_error(self, error: Exception) -> None:
        """Take note of an error that the server reports (nats-py gives its text in lower case)."""
        async with self.refused:
            self.refusals.append(str(error).lower())
            self.refused.notify_all()

    @property
    def inbox(self) -> str:
        return f"{inbox_prefix(self.identity)}.test"

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "", **headers: str) -> None:
        """Publish and wait until the server has dealt with it."""
        await self.client.publish(subject, payload, reply, headers=headers or None)
        await dealt_with(self.client)

    async def subscribe(self, subject: str) -> Subscription:
        subscription = await self.client.subscribe(subject)
        await dealt_with(self.client)
        return subscription

    async def attempt(self, subject: str, payload: bytes = b"") -> list[bytes]:
        """Publish with the own inbox for the answer; whatever came back, refusals left out."""
        answers = await self.subscribe(f"{self.inbox}.>")
        await self.publish(subject, payload, reply=f"{self.inbox}.answer")
        received = await drain(answers)
        await answers.unsubscribe()
        return [message.data for message in received]

    async def ask(self, subject: str, payload: bytes = b"") -> bytes:
        """As `attempt`, where there must be an answer: the first."""
        answers = await self.subscribe(f"{self.inbox}.>")
        await self.publish(subject, payload, reply=f"{self.inbox}.answer")
        answer = await answers.next_msg(timeout=PATIENCE_S)
        await answers.unsubscribe()
        return answer.data

    async def pull(self, cell: str, agent: str, batch: int = 1, timeout_s: float = PATIENCE_S) -> list[Msg]:
        subscription = await self._pull_subscription(cell, agent)
        messages = await subscription.fetch(batch, timeout=timeout_s)
        await subscription.unsubscribe()
        return messages

    async def _pull_subscription(self, cell: str, agent: str) -> JetStreamContext.PullSubscription:
        stream = Subjects(cell).commands_stream
        durable = consumer_name(self.identity.name, agent)
        return await self.client.jetstream().pull_subscribe_bind(durable=durable, stream=stream)

    async def was_refused(self, subject: str) -> bool:
        """Whether the server names *subject* in a permission violation, now or within PATIENCE_S.

        Its error and its answer to a PING come in no certain order, so a flush alone doesn't tell.
        """
        wanted = f'"{subject}"'.lower()
        try:
            async with asyncio.timeout(PATIENCE_S), self.refused:
                await self.refused.wait_for(lambda: any(wanted in text for text in self.refusals))
        except TimeoutError:
            return False
        return True


@dataclass(slots=True)
class World:
    cell: Cell
    names: Subjects
    conductor: Peer
    alice: Peer
    bob: Peer

    @classmethod
    async def create(cls, cell: Cell) -> World:
        """Connect everybody, make the streams and one consumer per host and agent."""
        world = cls(
            cell=cell,
            names=Subjects(cell.name),
            conductor=await connect(cell, Identity.service("conductor")),
            alice=await connect(cell, ALICE),
            bob=await connect(cell, BOB),
        )
        await world._make_streams()
        return world

    @property
    def jetstream(self) -> JetStreamContext:
        return self.conductor.client.jetstream()

    async def command(self, host: Identity, object_id: str, payload: bytes = b"command") -> str:
        """Send a command to the compute agent of *host*; its subject."""
        subject = self.names.commands(host.name, "compute", "EnsureDomain", object_id)
        await self.jetstream.publish(subject, payload)
        return subject

    async def state_of(self, stream: str) -> StreamState:
        return (await self.jetstream.stream_info(stream)).state

    async def consumers(self) -> set[str]:
        found = await self.jetstream.consumers_info(self.names.commands_stream)
        return {info.name for info in found}

    async def undelivered(self, host: Identity) -> tuple[int, int]:
        """(not yet delivered, delivered and not acknowledged) of the host's compute consumer."""
        consumer = consumer_name(host.name, "compute")
        info = await self.jetstream.consumer_info(self.names.commands_stream, consumer)
        return info.num_pending or 0, info.num_ack_pending or 0

    async def _make_streams(self) -> None:
        names = self.names
        streams = (
            (names.events_stream, names.all_events),
            (names.commands_stream, names.all_commands),
            (names.reports_stream, names.all_reports),
            (names.dead_letters_stream, names.all_dead_letters),
        )
        for stream, subject in streams:
            config = StreamConfig(name=stream, subjects=[subject], allow_direct=True, storage=StorageType.MEMORY)
            await self.jetstream.add_stream(config)
        for host in (ALICE, BOB):
            for agent in AGENTS:
                await self._make_consumer(host, agent)

    async def _make_consumer(self, host: Identity, agent: str) -> None:
        config = ConsumerConfig(
            durable_name=consumer_name(host.name, agent),
            filter_subject=self.names.commands_for(host.name, agent),
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            mem_storage=True,
        )
        await self.jetstream.add_consumer(self.names.commands_stream, config)


async def connect(
    cell: Cell,
    identity: Identity,
    permissions: Permissions | None = None,
    account: AccountKeys | None = None,
) -> Peer:
    """A peer with the rights of its identity, or with others in another account."""
    peer = Peer(identity)
    if permissions is None or account is None:
        peer.client = await cell.connect(identity, peer.on_error)
    else:
        peer.client = await cell.connect_with(identity, permissions, account, peer.on_error)
    return peer


async def drain(subscription: Subscription, quiet_s: float = 0.2) -> Sequence[Msg]:
    """All messages until none has come for *quiet_s*: that nothing comes can only be seen by waiting."""
    messages: list[Msg] = []
    while True:
        try:
            messages.append(await subscription.next_msg(timeout=quiet_s))
        except TimeoutError:
            return messages


def next_request(batch: int = 1) -> bytes:
    """The body of a pull that doesn't wait."""
    return json.dumps({"batch": batch, "no_wait": True}).encode()
