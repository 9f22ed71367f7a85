"""The keys of aggregates, in table `sealing_keys` of the log's schema."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

import asyncpg
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from core.eventlog.schema import check_schema_name, quote_identifier
from core.sealing.cipher import KEY_BYTES, AggregateKey, SealBroken
from core.sealing.fields import has_sensitive_value, replace_sensitive

M = TypeVar("M", bound=Message)

CACHE_ENTRIES = 4096
CACHE_TTL_S = 60.0


@dataclass(frozen=True, slots=True)
class Unsealed(Generic[M]):
    """A message in the clear. `destroyed`: the key of a field is gone, and the field is empty for that reason."""

    message: M
    destroyed: bool


class Keyring:
    """Seals and unseals the sensitive fields of messages.

    A message without a sensitive value costs a look at its descriptor: no key, no query, no copy. Keys are cached:
    what another replica destroys can be unsealed here for CACHE_TTL_S more.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        schema: str,
        master_key: bytes,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`schema`: the event log's. `master_key`: 32 bytes, see `decode_master_key`."""
        if len(master_key) != KEY_BYTES:
            raise ValueError(f"the master key has {len(master_key)} bytes, not {KEY_BYTES}")
        self._pool = pool
        quoted = quote_identifier(check_schema_name(schema))
        self._table = f"{quoted}.sealing_keys"
        self._events = f"{quoted}.events"
        self._master_key = master_key
        self._clock = clock
        self._cache: OrderedDict[UUID, tuple[AggregateKey, float]] = OrderedDict()

    async def seal(self, aggregate_id: UUID, message: M) -> M:
        """A copy with its sensitive fields encrypted; makes the aggregate's key when there is none."""
        if not has_sensitive_value(message):
            return message
        key = await self._key(aggregate_id) or await self._create(aggregate_id)
        return replace_sensitive(message, lambda field, value: key.seal(field.full_name, value))

    async def unseal(self, aggregate_id: UUID, message: M) -> M:
        """A copy with its sensitive fields in the clear, those whose key was destroyed empty. See `open`."""
        return (await self.open(aggregate_id, message)).message

    async def open(self, aggregate_id: UUID, message: M) -> Unsealed[M]:
        """As `unseal`, and tells whether a key was gone. Raises SealBroken for what can't be opened otherwise."""
        if not has_sensitive_value(message):
            return Unsealed(message, destroyed=False)
        key = await self._key(aggregate_id)
        destroyed = False

        def in_the_clear(field: FieldDescriptor, value: bytes) -> bytes:
            nonlocal destroyed
            plain = None if key is None else key.unseal(field.full_name, value)
            destroyed = destroyed or plain is None
            return plain or b""

        plain_message = replace_sensitive(message, in_the_clear)
        return Unsealed(plain_message, destroyed)

    async def prepare(self, aggregate_ids: Iterable[UUID]) -> None:
        """Reads in one go the keys of many that `open` and `unseal` are about to use."""
        now = self._clock()
        missing = [each for each in aggregate_ids if each not in self._cache or self._cache[each][1] <= now]
        if not missing:
            return
        rows = await self._pool.fetch(
            f"SELECT aggregate_id, wrapped FROM {self._table} WHERE aggregate_id = ANY($1::uuid[])", missing
        )
        for row in rows:
            with suppress(SealBroken):  # raised to whoever opens with that one
                self._remember(AggregateKey.unwrap(row["aggregate_id"], row["wrapped"], self._master_key))

    async def destroy(self, aggregate_id: UUID) -> None:
        """Deletes the aggregate's key: nobody can read what was sealed with it, but who has a backup of the keys."""
        self._cache.pop(aggregate_id, None)
        await self._pool.execute(f"DELETE FROM {self._table} WHERE aggregate_id = $1", aggregate_id)
        self._cache.pop(aggregate_id, None)  # read meanwhile

    async def destroy_unused(self, aggregate_id: UUID) -> None:
        """Deletes the key of an aggregate whose first append was refused; one that the log has keeps its key."""
        self._cache.pop(aggregate_id, None)
        await self._pool.execute(
            f"DELETE FROM {self._table} WHERE aggregate_id = $1"
            f" AND NOT EXISTS (SELECT FROM {self._events} WHERE aggregate_id = $1)",
            aggregate_id,
        )

    async def _key(self, aggregate_id: UUID) -> AggregateKey | None:
        cached = self._cache.get(aggregate_id)
        if cached is not None and cached[1] > self._clock():
            self._cache.move_to_end(aggregate_id)
            return cached[0]
        wrapped = await self._pool.fetchval(f"SELECT wrapped FROM {self._table} WHERE aggregate_id = $1", aggregate_id)
        if wrapped is None:
            self._cache.pop(aggregate_id, None)
            return None
        return self._remember(AggregateKey.unwrap(aggregate_id, wrapped, self._master_key))

    async def _create(self, aggregate_id: UUID) -> AggregateKey:
        """A new key, or the one that another replica made at the same time."""
        wrapped = await self._pool.fetchval(
            f"INSERT INTO {self._table} AS k (aggregate_id, wrapped) VALUES ($1, $2)"
            " ON CONFLICT (aggregate_id) DO UPDATE SET wrapped = k.wrapped RETURNING wrapped",
            aggregate_id,
            AggregateKey.generate(aggregate_id).wrap(self._master_key),
        )
        return self._remember(AggregateKey.unwrap(aggregate_id, wrapped, self._master_key))

    def _remember(self, key: AggregateKey) -> AggregateKey:
        self._cache[key.aggregate_id] = (key, self._clock() + CACHE_TTL_S)
        self._cache.move_to_end(key.aggregate_id)
        while len(self._cache) > CACHE_ENTRIES:
            self._cache.popitem(last=False)
        return key
