"""Two processes that remember the same aggregates: what one decides holds only on all that has happened."""

from __future__ import annotations

import asyncio
import os
from uuid import UUID

import pytest
from google.protobuf.wrappers_pb2 import Int64Value

from core.aggregate import Aggregate, applies
from core.errors import FailedPrecondition, NotFound
from core.eventlog import Context, EventLog
from core.ids import uuid7
from core.repository import Repository
from core.sealing import Keyring
from tests.integration.eventlog.conftest import OpenLog


class Purse(Aggregate, kind="purse"):
    """Holds coins; never fewer than none."""

    coins: int = 0

    @applies(Int64Value)
    def _moved(self, event: Int64Value) -> None:
        self.coins += event.value

    def put(self, coins: int) -> None:
        self.record(Int64Value(value=coins))

    def take(self, coins: int) -> None:
        if coins > self.coins:
            raise FailedPrecondition(f"it holds {self.coins}")
        self.record(Int64Value(value=-coins))

    def fill_up_to(self, coins: int) -> None:
        if self.coins < coins:
            self.record(Int64Value(value=coins - self.coins))


def repository_of(log: EventLog) -> Repository:
    return Repository(log, Keyring(log.pool, log.schema, os.urandom(32)), Context)


async def new_purse(repository: Repository, coins: int) -> UUID:
    purse = Purse.new(uuid7())
    purse.put(coins)
    await repository.save(purse)
    return purse.id


@pytest.fixture
async def here(log: EventLog) -> Repository:
    return repository_of(log)


@pytest.fixture
async def elsewhere(open_log: OpenLog) -> Repository:
    return repository_of(await open_log())


async def reads_of(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """The aggregates that are read from the log from now on."""
    read: list[UUID] = []
    original = repository.log.read_aggregate

    async def noting(aggregate_id: UUID, **options: int | None) -> object:
        read.append(aggregate_id)
        return await original(aggregate_id, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(repository.log, "read_aggregate", noting)
    return read


async def test_what_was_saved_here_is_changed_without_reading(
    here: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    purse_id = await new_purse(here, 5)
    read = await reads_of(here, monkeypatch)
    for _ in range(3):
        await here.change(Purse, purse_id, lambda purse: purse.take(1))
    assert read == []
    assert (await here.load(Purse, purse_id)).coins == 2


async def test_a_decision_on_too_little_is_made_again(here: Repository, elsewhere: Repository) -> None:
    purse_id = await new_purse(here, 5)
    await elsewhere.change(Purse, purse_id, lambda purse: purse.take(4))
    with pytest.raises(FailedPrecondition, match="it holds 1"):
        await here.change(Purse, purse_id, lambda purse: purse.take(3))
    await elsewhere.change(Purse, purse_id, lambda purse: purse.put(10))
    await here.change(Purse, purse_id, lambda purse: purse.take(11))
    assert (await elsewhere.load(Purse, purse_id)).coins == 0


async def test_a_refusal_is_never_answered_from_memory(here: Repository, elsewhere: Repository) -> None:
    purse_id = await new_purse(here, 1)
    await elsewhere.change(Purse, purse_id, lambda purse: purse.put(10))
    changed, _ = await here.change(Purse, purse_id, lambda purse: purse.take(11))
    assert changed.coins == 0


async def test_nothing_to_do_is_never_answered_from_memory(here: Repository, elsewhere: Repository) -> None:
    purse_id = await new_purse(here, 10)
    await elsewhere.change(Purse, purse_id, lambda purse: purse.take(9))
    changed, _ = await here.change(Purse, purse_id, lambda purse: purse.fill_up_to(10))
    assert changed.coins == 10
    assert (await elsewhere.load(Purse, purse_id)).coins == 10


async def test_what_is_remembered_is_as_the_log_has_it(here: Repository) -> None:
    purse_id = await new_purse(here, 1)
    saved = await here.change(Purse, purse_id, lambda purse: purse.put(1))
    here.remembered.position = 0  # as if this process followed the log
    recalled = await here.recall(Purse, purse_id)
    loaded = await here.load(Purse, purse_id)
    assert (recalled.coins, recalled.version) == (loaded.coins, loaded.version) == (2, 2)
    assert recalled.modified_on == loaded.modified_on == saved[1].recorded_at


async def test_who_does_not_follow_the_log_recalls_nothing(here: Repository, elsewhere: Repository) -> None:
    purse_id = await new_purse(here, 1)
    await elsewhere.change(Purse, purse_id, lambda purse: purse.put(1))
    assert (await here.recall(Purse, purse_id)).coins == 2


async def test_who_has_not_followed_far_enough_reads(here: Repository, elsewhere: Repository) -> None:
    purse_id = await new_purse(here, 1)
    here.remembered.position = 1
    _, saved = await elsewhere.change(Purse, purse_id, lambda purse: purse.put(1))
    assert (await here.recall(Purse, purse_id)).coins == 1
    assert (await here.recall(Purse, purse_id, at_least=saved.position)).coins == 2


async def test_many_that_change_one_aggregate_lose_nothing(here: Repository, elsewhere: Repository) -> None:
    purse_id = await new_purse(here, 0)
    await asyncio.gather(
        *(repository.change(Purse, purse_id, lambda purse: purse.put(1)) for repository in [here, elsewhere] * 5)
    )
    assert (await here.load(Purse, purse_id)).coins == 10


async def test_several_are_read_by_one_statement(
    here: Repository, elsewhere: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await new_purse(here, 1), await new_purse(here, 2)
    await elsewhere.change(Purse, first, lambda purse: purse.put(10))
    read = await reads_of(here, monkeypatch)
    purses = await here.load_each((Purse, second), (Purse, first), (Purse, second))
    assert [(purse.id, purse.coins) for purse in purses] == [(second, 2), (first, 11), (second, 2)]
    assert purses[0] is not purses[2]
    assert read == []
    changed, _ = await here.change(Purse, first, lambda purse: purse.take(11))
    assert (changed.coins, read) == (0, []), "decided on what was read"
    nowhere = uuid7()
    with pytest.raises(NotFound, match=str(nowhere)):
        await here.load_each((Purse, first), (Purse, nowhere))


async def test_what_was_read_or_appended_here_was_followed_up_to_there(
    here: Repository, elsewhere: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    purse_id = await new_purse(here, 1)
    here.remembered.position = 1
    _, saved = await here.change(Purse, purse_id, lambda purse: purse.put(1))

    async def asked(*_: object, **__: object) -> None:
        raise AssertionError("the log was asked")

    with monkeypatch.context() as patched:
        patched.setattr(here.log, "read_aggregate", asked)
        assert (await here.recall(Purse, purse_id, at_least=saved.position)).coins == 2
        seen = await here.glance(Purse, purse_id, at_least=saved.position)
        assert seen is await here.glance(Purse, purse_id)
    _, saved = await elsewhere.change(Purse, purse_id, lambda purse: purse.put(1))
    assert (await here.glance(Purse, purse_id, at_least=saved.position)).coins == 3
    assert seen.coins == 2
