"""Keys of aggregates: made once, wrapped at rest, and gone when they are destroyed."""

from __future__ import annotations

import asyncio
import os

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from cirra.compute.v1.events_pb2 import InstanceCreated
from core.eventlog import Append, EventLog
from core.ids import uuid7
from core.sealing import Keyring, SealBroken
from core.sealing.keyring import CACHE_TTL_S
from tests.integration.eventlog.events import new_event

SECRET = b"#cloud-config password: hunter2"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def master_key() -> bytes:
    return os.urandom(32)


@pytest.fixture
def keyring(log: EventLog, master_key: bytes) -> Keyring:
    return Keyring(log.pool, log.schema, master_key)


async def test_sealed_and_unsealed(keyring: Keyring) -> None:
    instance_id, message = uuid7(), InstanceCreated(user_data=SECRET)
    sealed = await keyring.seal(instance_id, message)
    assert message.user_data == SECRET
    assert SECRET not in sealed.SerializeToString()
    assert await keyring.unseal(instance_id, sealed) == message
    assert sealed != await keyring.seal(instance_id, message), "a nonce must never be used twice"


async def test_what_has_no_secret_costs_nothing(keyring: Keyring, log: EventLog) -> None:
    for message in (Timestamp(seconds=1), InstanceCreated()):
        assert await keyring.seal(uuid7(), message) is message
        assert await keyring.unseal(uuid7(), message) is message
    assert await log.pool.fetchval(f'SELECT count(*) FROM "{log.schema}".sealing_keys') == 0


async def test_no_secret_lies_in_the_log_in_the_clear(keyring: Keyring, log: EventLog) -> None:
    instance_id = uuid7()
    sealed = await keyring.seal(instance_id, InstanceCreated(user_data=SECRET))
    await log.append(Append((new_event(instance_id, 1, data=sealed.SerializeToString()),)))
    [stored] = await log.read(after=0)
    assert len(stored.data) > len(SECRET)
    assert SECRET not in stored.data


async def test_after_destruction_the_fields_are_empty_and_it_is_told(
    keyring: Keyring, log: EventLog, master_key: bytes
) -> None:
    instance_id, other_id = uuid7(), uuid7()
    sealed = await keyring.seal(instance_id, InstanceCreated(user_data=SECRET))
    other = await keyring.seal(other_id, InstanceCreated(user_data=SECRET))
    await keyring.destroy(instance_id)
    for reader in (keyring, Keyring(log.pool, log.schema, master_key)):
        opened = await reader.open(instance_id, sealed)
        assert opened.destroyed
        assert opened.message.user_data == b""
        assert await reader.unseal(instance_id, sealed) == InstanceCreated()
        assert (await reader.unseal(other_id, other)).user_data == SECRET


async def test_a_new_key_does_not_open_what_the_destroyed_one_sealed(keyring: Keyring) -> None:
    instance_id = uuid7()
    old = await keyring.seal(instance_id, InstanceCreated(user_data=SECRET))
    await keyring.destroy(instance_id)
    new = await keyring.seal(instance_id, InstanceCreated(user_data=b"new"))
    assert (await keyring.open(instance_id, old)).destroyed
    assert (await keyring.unseal(instance_id, new)).user_data == b"new"


async def test_replicas_agree_on_one_key(log: EventLog, master_key: bytes) -> None:
    instance_id = uuid7()
    replicas = [Keyring(log.pool, log.schema, master_key) for _ in range(5)]
    sealed = await asyncio.gather(*(r.seal(instance_id, InstanceCreated(user_data=SECRET)) for r in replicas))
    for replica, message in zip(replicas, reversed(sealed), strict=True):
        assert (await replica.unseal(instance_id, message)).user_data == SECRET


async def test_a_replica_notices_the_destruction_when_its_cache_is_old(log: EventLog, master_key: bytes) -> None:
    clock = Clock()
    here, there = (Keyring(log.pool, log.schema, master_key, clock=clock) for _ in range(2))
    instance_id = uuid7()
    sealed = await here.seal(instance_id, InstanceCreated(user_data=SECRET))
    await there.destroy(instance_id)
    clock.now = CACHE_TTL_S + 1
    assert (await here.open(instance_id, sealed)).destroyed


async def test_moved_or_under_another_master_key_it_does_not_open(log: EventLog, keyring: Keyring) -> None:
    one, other = uuid7(), uuid7()
    sealed = await keyring.seal(one, InstanceCreated(user_data=SECRET))
    await keyring.seal(other, InstanceCreated(user_data=SECRET))
    assert (await keyring.open(other, sealed)).destroyed
    altered = InstanceCreated(user_data=sealed.user_data[:-1] + bytes([sealed.user_data[-1] ^ 1]))
    with pytest.raises(SealBroken):
        await keyring.unseal(one, altered)
    with pytest.raises(SealBroken):
        await keyring.unseal(one, InstanceCreated(user_data=SECRET))
    with pytest.raises(SealBroken):
        await Keyring(log.pool, log.schema, os.urandom(32)).unseal(one, sealed)


async def test_keys_of_many_are_read_at_once(log: EventLog, keyring: Keyring, master_key: bytes) -> None:
    """One that can't be unwrapped is its own aggregate's trouble."""
    ids = [uuid7() for _ in range(3)]
    sealed = [await keyring.seal(each, InstanceCreated(user_data=SECRET)) for each in ids]
    other = Keyring(log.pool, log.schema, master_key)
    broken, foreign = uuid7(), Keyring(log.pool, log.schema, os.urandom(32))
    unreadable = await foreign.seal(broken, InstanceCreated(user_data=SECRET))
    await other.prepare([*ids, broken, uuid7()])
    await log.pool.execute(f'DELETE FROM "{log.schema}".sealing_keys WHERE aggregate_id = ANY($1::uuid[])', ids)
    assert [(await other.unseal(each, message)).user_data for each, message in zip(ids, sealed, strict=True)] == (
        [SECRET] * 3
    ), "without reading again"
    with pytest.raises(SealBroken):
        await other.unseal(broken, unreadable)
