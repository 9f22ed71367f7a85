"""The metadata service as hosts' proxies reach it: real events, real documents, signed requests."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from core.saga.state import SagaStatus
from core.service import Lifetime
from core.testing.servers import Cell
from metadata.bootstrap import bootstrap
from metadata.proof import host_key
from metadata.settings import MetadataSettings
from net_agent.metadata_proxy.signing import signature
from tests.harness.control_plane import PATIENCE_S, ControlPlane, Prepared, control_plane
from tests.harness.fake_host import FakeHost

USER_DATA = b"#!/bin/sh\n\x00\xff\x1f\x8b binary \xc3\xa9\n"


class Proxy:
    """A host's metadata proxy."""

    def __init__(self, url: str, master: bytes, host: str, client: httpx.AsyncClient) -> None:
        self._url, self._key, self._host, self._client = url, host_key(master, host), host, client

    async def ask(
        self, path: str, network: str, address: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        proof = {
            "X-Cirra-Host": self._host,
            "X-Cirra-Network": network,
            "X-Cirra-Address": address,
            "X-Cirra-Signature": signature(self._key, self._host, network, address, method, path),
        }
        return await self._client.request(method, self._url + path, headers=proof | (headers or {}))


class World:
    """One running guest, and the proxies of its host and of another."""

    def __init__(self, plane: ControlPlane, guest_host: str, network: str, address: str, uid: str) -> None:
        self.plane, self.guest_host, self.network, self.address, self.uid = plane, guest_host, network, address, uid
        self.proxy: Proxy
        self.foreign: Proxy

    async def get(self, path: str) -> httpx.Response:
        return await self.proxy.ask(path, self.network, self.address)


@pytest.fixture
async def world(cell: Cell, tmp_path: Path) -> AsyncIterator[World]:
    async with control_plane(cell, tmp_path) as plane:
        hosts = [FakeHost(name, cell) for name in ("host-1", "host-2")]
        for host in hosts:
            await host.start(plane.register_host)
        await plane.hosts_are_up("host-1", "host-2")
        world = await _guest(plane, await plane.prepare())
        lifetime = Lifetime(tmp_path / "metadata.ready")
        await bootstrap(lifetime, _settings(plane, cell, tmp_path))
        address = json.loads((tmp_path / "metadata.ready").read_text())["https"]
        master = base64.b64decode((tmp_path / "metadata").read_text())
        async with httpx.AsyncClient(timeout=10) as client:
            names = sorted(("host-1", "host-2"), key=lambda name: name != world.guest_host)
            world.proxy, world.foreign = (Proxy(f"http://{address}", master, name, client) for name in names)
            yield world
        await lifetime.close()
        for host in hosts:
            await host.stop()


async def _guest(plane: ControlPlane, prepared: Prepared) -> World:
    accepted = await prepared.create("Demo", user_data=USER_DATA)
    run = await plane.ended(accepted.operation_id)
    assert run.status is SagaStatus.COMPLETED, run.failures
    instance = await plane.instance(accepted.uid)
    return World(plane, instance.host, prepared.network_id, instance.nics[0].fixed_ip, accepted.uid)


def _settings(plane: ControlPlane, cell: Cell, folder: Path) -> MetadataSettings:
    return MetadataSettings(
        cell=cell.name,
        replica="metadata-1",
        postgres_dsn=cell.dsn,
        nats_urls=(cell.nats_url,),
        nats_credentials=cell.credentials,
        master_key_file=folder / "master",
        metadata_key_file=folder / "metadata",
        ready_file=folder / "metadata.ready",
    )


async def test_a_guest_reads_who_it_is(world: World) -> None:
    answer = await world.get("/openstack/latest/meta_data.json")
    assert answer.status_code == 200
    assert answer.json()["uuid"] == world.uid
    assert answer.json()["hostname"] == "demo.novalocal"
    assert (await world.get("/latest/meta-data/local-ipv4")).text == world.address


async def test_user_data_is_binary_safe_and_sealed_in_the_log(world: World) -> None:
    for path in ("/openstack/latest/user_data", "/latest/user-data"):
        assert (await world.get(path)).content == USER_DATA
    recorded = await world.plane.repository.log.read(after=0)
    assert not [event for event in recorded if b"#!/bin/sh" in event.data]


async def test_only_the_guests_own_host_may_ask_for_it(world: World) -> None:
    answer = await world.foreign.ask("/latest/meta-data/", world.network, world.address)
    assert answer.status_code == 404


async def test_nobody_asks_without_a_proof(world: World) -> None:
    async with httpx.AsyncClient() as client:
        bare = await client.get(world.proxy._url + "/latest/meta-data/")
        forged = await client.get(
            world.proxy._url + "/latest/meta-data/",
            headers={
                "X-Cirra-Host": world.guest_host,
                "X-Cirra-Network": world.network,
                "X-Cirra-Address": world.address,
                "X-Cirra-Signature": "00" * 32,
            },
        )
    assert (bare.status_code, forged.status_code) == (403, 403)


async def test_another_address_or_network_is_nobody(world: World) -> None:
    assert (await world.proxy.ask("/latest/meta-data/", world.network, "10.0.0.250")).status_code == 404
    assert (await world.proxy.ask("/latest/meta-data/", world.uid, world.address)).status_code == 404


async def test_imds_v2(world: World) -> None:
    token = await world.proxy.ask(
        "/latest/api/token",
        world.network,
        world.address,
        "PUT",
        {"X-aws-ec2-metadata-token-ttl-seconds": "60"},
    )
    assert token.status_code == 200

    async def read(value: str) -> int:
        headers = {"X-aws-ec2-metadata-token": value}
        answer = await world.proxy.ask("/latest/meta-data/", world.network, world.address, headers=headers)
        return answer.status_code

    assert await read(token.text) == 200
    assert await read("AAAA") == 401
    refused = await world.proxy.ask("/latest/api/token", world.network, world.address, "PUT")
    assert refused.status_code == 400


async def test_the_first_fetch_becomes_an_event_and_only_the_first(world: World) -> None:
    for _ in range(3):
        await world.get("/openstack/latest/meta_data.json")
    async with asyncio.timeout(PATIENCE_S):
        while not (await world.plane.instance(world.uid)).metadata_fetched:  # noqa: ASYNC110 - a report on its way
            await asyncio.sleep(0.05)
    await world.get("/latest/meta-data/instance-id")
    events = await world.plane.repository.log.read(after=0)
    assert [event.type for event in events].count("cirra.compute.v1.InstanceMetadataFetched") == 1


async def test_a_deleted_guest_is_nobody_and_its_secrets_cant_be_opened(world: World) -> None:
    before = await world.plane.instance(world.uid)
    assert not before.deleted
    prepared = Prepared(world.plane, image_id="", flavor_id="", network_id="")
    run = await world.plane.ended((await prepared.delete(world.uid)).operation_id)
    assert run.status is SagaStatus.COMPLETED
    assert (await world.get("/latest/meta-data/")).status_code == 404
