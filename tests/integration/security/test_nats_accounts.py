"""The wall between the accounts of hosts and of the control plane, and whom a signature makes what.

nats-server checks what a client publishes, not where it lets the answer go. These tests show the weapon that this
is within one account, and that it is blunt across two.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats
import nats.errors
import pytest

from core.natsauth.keys import NatsKeys, Nkey, NkeyKind, UserSigner
from core.natsauth.permissions import Permissions, host_permissions, service_permissions
from core.natsauth.tokens import format_credentials, user_token
from core.pki.identity import Identity
from core.testing.servers import Cell
from tests.integration.security.hosts_world import ALICE, BOB, PATIENCE_S, World, connect, drain, next_request

EVERYTHING = Permissions(publish=(">",), subscribe=(">",))


@pytest.fixture
async def world(cell: Cell) -> World:
    return await World.create(cell)


def own_pull(world: World) -> str:
    return f"$JS.API.CONSUMER.MSG.NEXT.{world.names.commands_stream}.alice--compute"


def own_report(world: World) -> str:
    return world.names.reports("alice", "compute", "DomainObserved", "one")


# Where the answer goes.

TARGETS = [
    "$JS.API.STREAM.PURGE.{cell}-COMMANDS",
    "$JS.API.STREAM.DELETE.{cell}-EVENTS",
    "$JS.API.CONSUMER.DELETE.{cell}-COMMANDS.bob--compute",
    "{cell}.commands.bob.compute.EnsureDomain.one",
    "{cell}.reports.bob.compute.DomainObserved.one",
    "{cell}.events.instance.one.InstanceCreated",
    "{cell}.heartbeats.bob.compute",
    "{cell}.service-heartbeats.placement.one",
    "_INBOX_service_conductor.test",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_a_host_can_not_aim_an_answer_at_the_control_plane(world: World, target: str) -> None:
    target = target.format(cell=world.cell.name)
    await world.command(BOB, "one")
    consumers = await world.consumers()
    heard = await world.conductor.subscribe(target)
    # An empty answer (no message), a JSON one (the stream's acknowledgement), and a message.
    await world.alice.publish(own_pull(world), next_request(), reply=target)
    await world.alice.publish(own_report(world), b"report", reply=target)
    await world.command(ALICE, "one")
    await world.alice.publish(own_pull(world), next_request(), reply=target)
    names = world.names
    async with asyncio.timeout(PATIENCE_S):
        while not (await world.state_of(names.reports_stream)).last_seq:  # noqa: ASYNC110 - stored in its own time
            await asyncio.sleep(0.01)
    assert await drain(heard) == []
    assert await world.consumers() == consumers
    streams = (names.commands_stream, names.events_stream, names.reports_stream)
    assert [(await world.state_of(stream)).last_seq for stream in streams] == [2, 0, 1]
    assert (await world.state_of(names.commands_stream)).messages == 2


async def test_in_one_account_an_answer_would_purge_a_stream(world: World) -> None:
    """Why hosts have an account of their own. Should this fail one day, the server has learned to check."""
    await world.command(BOB, "one")
    permissions = host_permissions(world.cell.name, "alice")
    alice = await connect(world.cell, ALICE, permissions, account=world.cell.keys.cirra)
    target = f"$JS.API.STREAM.PURGE.{world.names.commands_stream}"
    await alice.publish(target)
    assert await alice.was_refused(target)
    assert (await world.state_of(world.names.commands_stream)).messages == 1
    await alice.publish(own_pull(world), next_request(), reply=target)
    async with asyncio.timeout(PATIENCE_S):
        while (await world.state_of(world.names.commands_stream)).messages:  # noqa: ASYNC110 - purged in its own time
            await asyncio.sleep(0.01)


async def test_a_host_can_not_aim_an_answer_at_anothers_acknowledgement(world: World) -> None:
    await world.command(BOB, "one")
    [message] = await world.bob.pull(world.cell.name, "compute")
    await world.alice.publish(own_pull(world), next_request(), reply=message.reply)
    assert await world.alice.was_refused(message.reply)
    assert await world.undelivered(BOB) == (0, 1)


async def test_a_host_can_not_send_a_trace_where_it_may_not_publish(world: World) -> None:
    target = world.names.commands("bob", "compute", "EnsureDomain", "one")
    await world.alice.publish(own_report(world), b"report", **{"Nats-Trace-Dest": target})
    assert await world.alice.was_refused(target)
    assert (await world.state_of(world.names.commands_stream)).last_seq == 0


async def test_a_loose_permission_to_acknowledge_would_hand_over_anothers_commands(world: World) -> None:
    """Why the domain is spelled out, and the tokens are counted, in a host's permission to acknowledge."""
    stream = world.names.commands_stream
    proper = host_permissions(world.cell.name, "alice")
    loose = Permissions((*proper.publish, f"$JS.ACK.*.*.{stream}.alice--compute.>"), proper.subscribe)
    await world.command(BOB, "one", b"secret")
    # Nine tokens: for the server an acknowledgement of Bob's consumer, in the form without a domain.
    crossed = f"$JS.ACK.{stream}.bob--compute.{stream}.alice--compute.1.2.3"
    assert await world.alice.attempt(crossed, b"+NXT") == []
    alice = await connect(world.cell, ALICE, loose, account=world.cell.keys.hosts)
    assert await alice.ask(crossed, b"+NXT") == b"secret"


# What the account alone keeps out, if the permissions of a user were too wide.


async def test_with_every_permission_a_host_still_sees_nothing_of_the_control_plane(world: World) -> None:
    alice = await connect(world.cell, ALICE, EVERYTHING, account=world.cell.keys.hosts)
    overheard = await alice.subscribe(f"{world.cell.name}.>")
    await world.command(BOB, "one", b"secret")
    await world.conductor.publish(world.names.service_heartbeats("placement", "one"), b"beat")
    assert await drain(overheard) == []
    stream = world.names.commands_stream
    calls = {
        f"STREAM.MSG.GET.{stream}": b'{"seq": 1}',
        f"CONSUMER.INFO.{stream}.bob--compute": b"",
        f"STREAM.PURGE.{stream}": b"",
    }
    for call, body in calls.items():
        answer = await alice.ask(f"$JS.API.{call}", body)
        assert json.loads(answer)["error"]["description"] == "JetStream not enabled for account"
    assert (await world.state_of(stream)).messages == 1


# Who signed it.


async def is_admitted(world: World, **credentials: Path) -> bool:
    """Whether the server lets somebody with these credentials connect."""
    try:
        client = await nats.connect(world.cell.nats_url, allow_reconnect=False, connect_timeout=30, **credentials)
    except nats.errors.Error as error:
        assert "authorization violation" in str(error).lower()
        return False
    await client.close()
    return True


def credentials_by(world: World, folder: Path, signer: UserSigner, **lifetime: datetime) -> Path:
    """A token of *signer* that allows everything."""
    user = Nkey.generate(NkeyKind.USER)
    rights = service_permissions(world.cell.name)
    token = user_token(signer, "intruder", user.public, rights, datetime.now(UTC), **lifetime)
    path = folder / f"{user.public}.creds"
    path.write_text(format_credentials(token, user.seed))
    return path


async def test_only_a_signing_key_of_an_account_makes_users(world: World, tmp_path: Path) -> None:
    keys = world.cell.keys
    stranger = NatsKeys.create(tmp_path / "stranger")
    forged = UserSigner(account_public=keys.cirra.identity.public, signing_key=stranger.cirra.signing_key)
    signers = (keys.cirra.signer, stranger.cirra.signer, forged)
    found = [credentials_by(world, tmp_path, signer) for signer in signers]
    assert [await is_admitted(world, user_credentials=path) for path in found] == [True, False, False]


async def test_who_may_sign_hosts_can_not_make_itself_a_service(world: World, tmp_path: Path) -> None:
    keys = world.cell.keys
    upstart = UserSigner(account_public=keys.cirra.identity.public, signing_key=keys.hosts.signing_key)
    assert not await is_admitted(world, user_credentials=credentials_by(world, tmp_path, upstart))


async def test_an_expired_token_is_refused(world: World, tmp_path: Path) -> None:
    now, minute = datetime.now(UTC), timedelta(minutes=1)
    signer = world.cell.keys.cirra.signer
    for expires_at, admitted in ((now + minute, True), (now - minute, False)):
        path = credentials_by(world, tmp_path, signer, expires_at=expires_at)
        assert await is_admitted(world, user_credentials=path) is admitted


async def test_a_connection_ends_when_its_token_expires(world: World, tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def on_close() -> None:
        ended.set()

    for life_s in (2, 8, 32):  # one that a busy machine has let expire opens nothing
        soon = datetime.now(UTC) + timedelta(seconds=life_s)
        path = credentials_by(world, tmp_path, world.cell.keys.hosts.signer, expires_at=soon)
        with suppress(nats.errors.Error):
            await nats.connect(world.cell.nats_url, user_credentials=path, allow_reconnect=False, closed_cb=on_close)
            break
    else:
        raise AssertionError("no token was good")
    async with asyncio.timeout(2 * life_s + PATIENCE_S):
        await ended.wait()


async def test_nobody_connects_without_a_token(world: World) -> None:
    assert not await is_admitted(world)


async def test_a_token_without_permissions_may_do_nothing(world: World) -> None:
    nothing = Permissions(publish=(), subscribe=())
    nobody = await connect(world.cell, Identity.service("nobody"), nothing, account=world.cell.keys.cirra)
    subject = world.names.heartbeats("alice", "compute")
    await nobody.publish(subject)
    assert await nobody.was_refused(subject)
    await nobody.subscribe(world.names.all_heartbeats)
    assert await nobody.was_refused(world.names.all_heartbeats)


# The metadata service.


async def test_metadata_reads_events_and_sends_no_command(world: World) -> None:
    metadata = await connect(world.cell, Identity.service("metadata"))
    event = world.names.events("instance", "one", "InstanceCreated")
    await world.jetstream.publish(event, b"event")
    subscription = await metadata.client.jetstream().pull_subscribe(
        world.names.all_events, durable="metadata", stream=world.names.events_stream
    )
    [message] = await subscription.fetch(1, timeout=PATIENCE_S)
    await message.ack_sync(timeout=PATIENCE_S)
    assert message.data == b"event"
    fetched = world.names.reports("alice", "metadata", "MetadataFetched", "one")
    assert (await metadata.client.jetstream().publish(fetched, b"report")).seq == 1
    command = world.names.commands("alice", "compute", "EnsureDomain", "one")
    await metadata.publish(command, b"forged")
    assert await metadata.was_refused(command)
    assert (await world.state_of(world.names.commands_stream)).last_seq == 0
