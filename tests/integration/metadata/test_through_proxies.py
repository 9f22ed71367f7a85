"""Guests, the real proxy of their network, and two replicas behind it. Addresses are what guests are told apart by."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from metadata.proof import host_key
from net_agent.drivers.linux.proxy import ProxyIdentity
from tests.harness.metadata_guests import GuestNetwork, guest_network
from tests.integration.metadata.conftest import USER_DATA, GuestOf, World

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="module")]

TTL, TOKEN = "X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token"
ME, MY_USER_DATA = "/latest/meta-data/instance-id", "/openstack/latest/user_data"
NEIGHBOUR = "10.0.0.1"  # the gateway's: no guest is ever given it


@pytest_asyncio.fixture(loop_scope="module")
async def network(world: World, guest: GuestOf, tmp_path: Path) -> AsyncIterator[GuestNetwork]:
    """The guest's network on its host, and an address there that no guest has."""
    async with guest_network(
        tmp_path / "network", identity(world, tmp_path, guest), guest.network, [guest.address, NEIGHBOUR]
    ) as network:
        yield network


def identity(world: World, folder: Path, guest: GuestOf) -> ProxyIdentity:
    key = folder / "metadata.key"
    key.write_bytes(host_key(world.plane.metadata_key, guest.host))
    urls = ",".join(f"http://{address}" for address in world.replicas)
    return ProxyIdentity(guest.host, urls, Path(), Path(), Path(), key)


async def test_a_guest_gets_what_is_its_own(guest: GuestOf, network: GuestNetwork) -> None:
    assert (await network.ask(guest.address, ME)).text == f"i-{guest.uid[-8:]}"
    assert (await network.ask(guest.address, MY_USER_DATA)).body == USER_DATA
    assert (await network.ask(NEIGHBOUR, ME)).status == 404


async def test_no_header_of_a_guest_makes_it_another(guest: GuestOf, network: GuestNetwork) -> None:
    forged = {"X-Cirra-Address": guest.address, "X_Cirra_Network": guest.network, "X-Forwarded-For": guest.address}
    assert (await network.ask(NEIGHBOUR, ME, headers=forged)).status == 404
    forged = {"X-Cirra-Address": NEIGHBOUR, "X-Cirra-Signature": "00" * 32}
    assert (await network.ask(guest.address, ME, headers=forged)).status == 200


async def test_session_tokens_are_for_the_guest_itself(guest: GuestOf, network: GuestNetwork) -> None:
    async def token(**headers: str) -> int:
        wanted = {TTL: "60"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return (await network.ask(guest.address, "/latest/api/token", method="PUT", headers=wanted)).status

    assert await token() == 200
    assert await token(X_Forwarded_For="192.0.2.1") == 403


async def test_a_password_goes_through(world: World, guest: GuestOf, network: GuestNetwork) -> None:
    path = "/openstack/latest/password"
    posted = await network.ask(guest.address, path, method="POST", body=b"c2VjcmV0")
    assert (posted.status, (await network.ask(guest.address, path)).text) == (200, "c2VjcmV0")
    assert (await network.ask(guest.address, path, method="POST", body=b"other")).status == 409


@pytest.mark.parametrize(
    "user_data",
    [os.urandom(65_536), gzip.compress(b"#cloud-config\n{}\n"), b"\x00", b"\xff\xfe#\x00!\x00"],
    ids=["as much as there can be", "gzip", "a zero", "UTF-16"],
)
async def test_user_data_arrive_as_they_were_given(world: World, tmp_path: Path, user_data: bytes) -> None:
    guest = await world.boot("fed", user_data=user_data)
    async with guest_network(
        tmp_path / "network", identity(world, tmp_path, guest), guest.network, [guest.address]
    ) as network:
        for path in (MY_USER_DATA, "/2009-04-04/user-data"):
            answer = await network.ask(guest.address, path)
            assert answer.body == user_data
            assert answer.headers["content-length"] == str(len(user_data))


async def test_many_guests_at_once(world: World, tmp_path: Path) -> None:
    """Each gets its own, over the few connections that the proxy has."""
    guests = await asyncio.gather(*(world.boot(f"guest-{number}") for number in range(8)))
    there = [guest for guest in guests if guest.host == guests[0].host]
    async with guest_network(
        tmp_path / "network", identity(world, tmp_path, there[0]), there[0].network, [each.address for each in there]
    ) as network:
        asked = [guest for guest in there for _ in range(50 // len(there))]
        answers = await asyncio.gather(
            *(network.ask(guest.address, "/openstack/latest/meta_data.json") for guest in asked)
        )
    for guest, answer in zip(asked, answers, strict=True):
        assert f'"uuid": "{guest.uid}"' in answer.text


async def test_a_replica_may_go_and_its_tokens_stay(world: World, guest: GuestOf, network: GuestNetwork) -> None:
    """The last one here: it ends a replica."""
    await asyncio.to_thread(network.proxy.ensure, "", f"{guest.address} {guest.uid}\n")
    granted = await network.ask(guest.address, "/latest/api/token", method="PUT", headers={TTL: "60"})
    await world.plane.metadatas[0].close()
    for _ in range(6):
        answer = await network.ask(guest.address, ME, headers={TOKEN: granted.text})
        assert (answer.status, answer.text) == (200, f"i-{guest.uid[-8:]}")
    await world.plane.metadatas[1].close()
    remembered = await network.ask(guest.address, ME, headers={TOKEN: granted.text})
    assert (remembered.status, remembered.text) == (200, f"i-{guest.uid[-8:]}")
    assert not any("cirra" in name.lower() for name in remembered.headers)
    away = await network.ask(guest.address, MY_USER_DATA)
    assert (away.status, away.headers["retry-after"]) == (503, "5")
    # For those who look at what is left: somebody keeps the documents up to date.
    await world.plane.start_metadata()
