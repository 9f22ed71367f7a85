"""Epochs on a host: what overrides what, and when nothing is done at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from cirra.agent.v1.desired_pb2 import DESIRED_POWER_OFF, DESIRED_POWER_ON, DesiredObject, DomainSpec, PortSpec
from core.agent.generations import GenerationStore
from core.agent.specs import spec_digest


def wish(epoch: int, generation: int, *, absent: bool = False) -> DesiredObject:
    return DesiredObject(kind="domain", object_id="a", epoch=epoch, generation=generation, absent=absent)


async def done(store: GenerationStore, desired: DesiredObject) -> bool:
    if not store.accepts(desired):
        return False
    await store.record(desired)
    store.settle(desired)
    return True


@pytest.fixture
async def store(tmp_path: Path) -> GenerationStore:
    """Of a host that has done something in epoch 1."""
    store = GenerationStore(tmp_path)
    await store.hear(1, 1)
    assert await done(store, wish(1, 7))
    return store


async def test_a_lower_number_of_a_later_epoch_overrides(store: GenerationStore) -> None:
    await store.hear(2, 2)
    assert await done(store, wish(2, 3))
    assert store.find("domain", "a").wish == (2, 3)  # type: ignore[union-attr]
    assert not await done(store, wish(2, 2))
    assert await done(store, wish(2, 4))


async def test_what_was_sent_in_an_earlier_epoch_is_refused(store: GenerationStore) -> None:
    await store.hear(2, 2)
    assert not await done(store, wish(1, 8))
    assert not await done(store, wish(1, 1000, absent=True))


async def test_between_the_raise_and_the_acceptance_nothing_is_done(store: GenerationStore, tmp_path: Path) -> None:
    await store.hear(2, 1)
    for again in (store, GenerationStore(tmp_path)):
        assert again.is_observing
        assert not again.may_tidy
        assert (again.epoch, again.told_epoch) == (1, 2)
        assert not again.accepts(wish(1, 8))
        assert not again.accepts(wish(2, 8))
    await store.hear(2, 2)
    assert not GenerationStore(tmp_path).is_observing
    assert await done(store, wish(2, 1))


async def test_a_log_of_before_an_epoch_that_was_acted_in_is_not_obeyed(store: GenerationStore) -> None:
    """The backup is older than the last restore: an epoch has to begin above that one."""
    await store.hear(3, 3)
    await store.hear(2, 2)
    assert store.is_observing
    assert store.epoch == 3
    await store.hear(3, 1)
    assert store.is_observing, "the same number again is another epoch"
    await store.hear(4, 4)
    assert not store.is_observing


async def test_nothing_is_tidied_on_the_word_of_the_last_process(store: GenerationStore, tmp_path: Path) -> None:
    assert store.may_tidy
    restarted = GenerationStore(tmp_path)
    assert not restarted.may_tidy
    await restarted.hear(1, 1)
    assert restarted.may_tidy


async def test_the_cloud_knows_what_it_has_named_in_this_epoch(store: GenerationStore) -> None:
    assert store.knows("domain", "a")
    await store.hear(2, 2)
    assert not store.knows("domain", "a"), "an orphan, unless the cloud names it again"
    assert await done(store, wish(2, 1))
    assert store.knows("domain", "a")


async def test_that_a_thing_is_missing_which_was_removed_in_the_lost_history_is_news(store: GenerationStore) -> None:
    assert await done(store, wish(1, 8, absent=True))
    assert not store.is_established("domain", "a")
    await store.hear(2, 2)
    await store.record(wish(2, 7))
    assert store.is_established("domain", "a")


async def test_a_file_of_before_there_were_epochs_is_read(tmp_path: Path) -> None:
    (tmp_path / "generations.json").write_text(
        '{"format": 1, "boot_id": "b", "objects": {"domain/a": {"generation": 4, "tombstone": false,'
        ' "established": true, "since": 1.0}}}'
    )
    store = GenerationStore(tmp_path)
    assert (store.epoch, store.is_observing) == (0, False)
    await store.hear(1, 1)
    assert await done(store, wish(1, 4))


def test_the_digest_of_a_spec_is_that_of_what_it_is_made_after() -> None:
    def domain(power: int, vcpus: int = 1) -> DesiredObject:
        return DesiredObject(generation=power, domain=DomainSpec(vcpus=vcpus, power=power))  # type: ignore[arg-type]

    assert spec_digest(domain(DESIRED_POWER_ON)) == spec_digest(domain(DESIRED_POWER_OFF))
    assert spec_digest(domain(DESIRED_POWER_ON)) != spec_digest(domain(DESIRED_POWER_ON, vcpus=2))
    assert spec_digest(DesiredObject(port=PortSpec())) != spec_digest(DesiredObject(domain=DomainSpec()))
    assert spec_digest(DesiredObject(absent=True)) == ""
