from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import FailedPrecondition
from net_agent.model import key_of
from net_agent.specs.specifications import Specifications
from net_agent.specs.wanted import Scope
from tests.unit.net_agent.samples import DERIVED, NETWORK, NETWORK_ID, PEER, make_port

PORT = make_port(11)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Specifications]:
    specs = Specifications(folder)
    try:
        yield specs
    finally:
        await specs.close()


async def test_all_kinds_outlive_the_process(tmp_path: Path) -> None:
    models = [PORT, make_port(12), *DERIVED]
    async with opened(tmp_path) as specs:
        for model in models:
            assert key_of(model) in await specs.keep(model)
    async with opened(tmp_path) as specs:
        for model in models:
            assert specs.wanted.get(key_of(model)) == model
        assert {port.port_id for port in specs.wanted.ports_on(NETWORK_ID)} == {PORT.port_id, make_port(12).port_id}
        assert specs.wanted.peers_on(NETWORK_ID) == [PEER]
        assert await specs.keep(PORT) == frozenset()


async def test_the_newest_description_of_a_network_holds_whoever_brought_it(tmp_path: Path) -> None:
    newer = replace(NETWORK, generation=2, mtu=1400)
    async with opened(tmp_path) as specs:
        assert await specs.keep(PORT) == {("port", PORT.port_id), ("network", NETWORK_ID)}
        news = await specs.keep(make_port(12, network=newer))
        assert news == {("port", make_port(12).port_id), ("network", NETWORK_ID)}
        assert specs.wanted.network(NETWORK_ID) == newer
        assert await specs.keep(make_port(13)) == {("port", make_port(13).port_id)}
        assert specs.wanted.network(NETWORK_ID) == newer
        # It outlives the port that brought it, and the process.
        specs.leave(("port", make_port(12).port_id))
        await specs.forget(("port", make_port(12).port_id))
        assert specs.wanted.network(NETWORK_ID) == newer
    async with opened(tmp_path) as specs:
        assert specs.wanted.network(NETWORK_ID) == newer


async def test_an_object_of_its_own_and_a_ports_description_are_one_network(tmp_path: Path) -> None:
    async with opened(tmp_path) as specs:
        await specs.keep(replace(NETWORK, generation=5, mtu=1400))
        await specs.keep(PORT)
        assert specs.wanted.network(NETWORK_ID) == replace(NETWORK, generation=5, mtu=1400)
        await specs.keep(make_port(12, network=replace(NETWORK, generation=6, mtu=1300)))
        assert specs.wanted.network(NETWORK_ID) == replace(NETWORK, generation=6, mtu=1300)
        specs.leave(("port", PORT.port_id))
        specs.leave(("port", make_port(12).port_id))
        assert specs.wanted.stands(NETWORK_ID)
        specs.leave(("network", NETWORK_ID))
        assert not specs.wanted.stands(NETWORK_ID) and specs.wanted.network(NETWORK_ID) is None


async def test_of_two_descriptions_of_one_generation_the_later_holds(tmp_path: Path) -> None:
    later = replace(NETWORK, mtu=1400)
    async with opened(tmp_path) as specs:
        await specs.keep(PORT)
        await specs.keep(make_port(12, network=later))
        assert specs.wanted.network(NETWORK_ID) == later
    async with opened(tmp_path) as specs:
        assert specs.wanted.network(NETWORK_ID) == later


async def test_what_leaves_is_on_disk_until_it_is_forgotten(tmp_path: Path) -> None:
    key = ("port", PORT.port_id)
    async with opened(tmp_path) as specs:
        await specs.keep(PORT)
        assert specs.leave(key) == PORT and specs.leave(key) == PORT
        assert specs.wanted.ports == {} and specs.leaving == {key: PORT}
    async with opened(tmp_path) as specs:
        assert specs.wanted.ports == {PORT.port_id: PORT}
        specs.leave(key)
        await specs.forget(key)
        await specs.forget(key)
        assert specs.leaving == {}
        await specs.forget_network(NETWORK_ID)
    async with opened(tmp_path) as specs:
        assert specs.wanted.ports == {} and specs.wanted.port_networks == {}


async def test_what_comes_back_does_not_leave(tmp_path: Path) -> None:
    async with opened(tmp_path) as specs:
        await specs.keep(PORT)
        specs.leave(("port", PORT.port_id))
        await specs.keep(PORT)
        assert specs.leaving == {} and specs.wanted.ports_on(NETWORK_ID) == [PORT]


async def test_a_folder_that_is_not_mounted_is_left_empty_and_read_when_it_is_there(tmp_path: Path) -> None:
    async with opened(tmp_path / "mounted") as specs:
        await specs.keep(PORT)
    async with opened(tmp_path / "networks") as specs:
        assert specs.wanted.ports == {}
        specs.leave(("port", PORT.port_id))
        await specs.forget(("port", PORT.port_id))
        assert not (tmp_path / "networks").exists()
        (tmp_path / "mounted").rename(tmp_path / "networks")
        assert specs.wanted.ports == {PORT.port_id: PORT}


async def test_damaged_records_are_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "specs.db").write_bytes(b"nonsense" * 1000)
    async with opened(tmp_path) as specs:
        with pytest.raises(FailedPrecondition, match="damaged"):
            assert specs.wanted


async def test_a_record_that_is_refused_hides_no_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as specs:
        await specs.keep(replace(PORT, device="eth0"))
        await specs.keep(make_port(12))
    async with opened(tmp_path) as specs:
        assert specs.wanted.keys("port") == {make_port(12).port_id}


async def test_a_scope_has_what_is_concerned(tmp_path: Path) -> None:
    async with opened(tmp_path) as specs:
        for model in (PORT, make_port(12), PEER):
            await specs.keep(model)
        one = Scope.of(specs.wanted, {("port", PORT.port_id)})
        assert one.ports == (PORT,) and one.networks == (NETWORK,)
        whole = Scope.of(specs.wanted, {("network", NETWORK_ID)})
        assert {port.port_id for port in whole.ports} == specs.wanted.keys("port")
        peer = Scope.of(specs.wanted, {key_of(PEER)})
        assert peer.ports == () and peer.networks == (NETWORK,) and peer.of_kind("peer") == [PEER.port_id]
        left = whole.without({("port", PORT.port_id)})
        assert [port.port_id for port in left.ports] == [make_port(12).port_id]
        assert whole.without(whole.all_keys()).is_empty


async def test_a_number_tells_that_something_of_a_kind_has_changed(tmp_path: Path) -> None:
    kinds = ("port", "network", "peer", "security-group")

    async with opened(tmp_path) as specs:

        def changed(before: dict[str, int]) -> set[str]:
            return {kind for kind in kinds if specs.changes(kind) != before[kind]}

        def now() -> dict[str, int]:
            return {kind: specs.changes(kind) for kind in kinds}

        before = now()
        await specs.keep(PORT)
        assert changed(before) == {"port", "network"}, "the port brought its network"
        before = now()
        await specs.keep(PORT)
        assert changed(before) == set() and specs.changes(*kinds) == sum(before.values())
        await specs.keep(PEER)
        assert changed(before) == {"peer"}
        before = now()
        specs.leave(key_of(PORT))
        assert changed(before) == {"port"}
        before = now()
        await specs.forget(key_of(PORT))
        assert changed(before) == {"port"}
        before = now()
        await specs.forget_network(NETWORK_ID)
        assert changed(before) == {"network"}
        before = now()
        await specs.forget_all()
        assert changed(before) == set(kinds)
    async with opened(tmp_path) as specs:
        await specs.keep(PORT)
    async with opened(tmp_path) as specs:
        assert specs.changes("port") > 0, "what is on disk is read first"
