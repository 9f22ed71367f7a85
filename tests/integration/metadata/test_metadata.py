"""The metadata service as hosts' proxies reach it: real events, real documents, signed requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from uuid import UUID

import httpx
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1.compute_pb2 import GetInstancePasswordRequest
from cirra.compute.v1.events_pb2 import InstancePasswordPosted
from cirra.identity.v1.identity_pb2 import ROLE_MEMBER, Principal
from cirra.network.v1 import network_pb2 as networks
from conductor.network.port import Port
from core.errors import InvalidArgument, NotFound
from core.rpc.context import acting_as
from core.saga.state import SagaStatus
from tests.harness.control_plane import ADMIN, PATIENCE_S
from tests.harness.metadata_proxy import Proxy
from tests.integration.metadata.conftest import USER_DATA, GuestOf, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

TTL, TOKEN = "X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token"
PASSWORD = "/openstack/2013-04-04/password"
SECRET = b"QmFzZTY0IG9mIGEgcGFzc3dvcmQsIGVuY3J5cHRlZA=="


ProxyAt = Callable[..., Proxy]


async def test_a_guest_reads_who_it_is(guest: GuestOf, proxy: Proxy) -> None:
    answer = await proxy.ask("/openstack/latest/meta_data.json", guest)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert (document["uuid"], document["hostname"]) == (guest.uid, "demo.novalocal")
    assert (document["meta"], document["tags"]) == ({"role": "web"}, ["blue"])
    assert document["availability_zone"] == "nova"
    address = await proxy.ask("/latest/meta-data/local-ipv4", guest)
    assert (address.text, address.headers["content-type"]) == (guest.address, "text/plain; charset=utf-8")
    vendor_data = await proxy.ask("/openstack/latest/vendor_data2.json", guest)
    assert vendor_data.json() == {"static": {"cloud-init": "#cloud-config\n{}"}}


async def test_labels_that_change_are_read_anew(world: World, guest: GuestOf, proxy: Proxy) -> None:
    wanted = compute.Instance(name=guest.uid, display_name="renamed", metadata={"tier": "2"}, tags=["red", "new"])
    mask = FieldMask(paths=["display_name", "metadata.tier", "tags"])
    with acting_as(ADMIN):
        await world.plane.compute.UpdateInstance(compute.UpdateInstanceRequest(instance=wanted, update_mask=mask))
    async with asyncio.timeout(PATIENCE_S):
        while True:
            document = (await proxy.ask("/openstack/latest/meta_data.json", guest)).json()
            if document["name"] == "renamed":
                break
    assert (document["meta"], document["tags"]) == ({"role": "web", "tier": "2"}, ["red", "new"])
    assert document["hostname"] == "demo.novalocal"


async def test_what_is_not_there_or_not_meant_is_refused(guest: GuestOf, proxy: Proxy) -> None:
    assert (await proxy.ask("/latest/meta-data/secret", guest)).status_code == 404
    assert (await proxy.ask("/latest/meta-data/", guest, "POST")).status_code == 405
    assert (await proxy.ask("/openstack/latest/user_data", guest, "POST")).status_code == 405
    head = await proxy.ask("/latest/meta-data/instance-id", guest, "HEAD")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "10")


async def test_network_data_tells_of_the_nics_that_the_instance_has(world: World, guest: GuestOf, proxy: Proxy) -> None:
    document = (await proxy.ask("/openstack/latest/network_data.json", guest)).json()
    instance = await world.plane.instance(guest.uid)
    [link], [network] = document["links"], document["networks"]
    assert (link["vif_id"], link["ethernet_mac_address"]) == (instance.nics[0].port, instance.nics[0].mac_address)
    assert (network["type"], network["network_id"], network["link"]) == ("ipv4_dhcp", guest.network, link["id"])


async def test_a_port_with_another_address_is_known_by_it(world: World, guest: GuestOf, proxy: Proxy) -> None:
    instance = await world.plane.instance(guest.uid)
    bound = await world.plane.repository.load(Port, UUID(instance.nics[0].port))
    taken = await world.plane.repository.log.unique_keys(f"address/{bound.fixed_ips[0].subnet}")
    free = next(str(each) for each in ip_network("10.0.0.0/24").hosts() if str(each) not in taken)
    port, moved = networks.Port(name=str(bound.id)), replace(guest, address=free)
    port.fixed_ips.add(ip_address=free)
    assert (await proxy.ask("/latest/meta-data/local-ipv4", guest)).text == guest.address
    with acting_as(ADMIN):
        mask = FieldMask(paths=["fixed_ips"])
        await world.plane.network.UpdatePort(networks.UpdatePortRequest(port=port, update_mask=mask))
    async with asyncio.timeout(PATIENCE_S):
        while (await proxy.ask("/latest/meta-data/local-ipv4", moved)).status_code != 200:
            pass
    assert (await proxy.ask("/latest/meta-data/local-ipv4", moved)).text == moved.address
    assert (await proxy.ask("/latest/meta-data/local-ipv4", guest)).status_code == 404


@pytest.mark.parametrize("path", ["/openstack/latest/user_data", "/latest/user-data", "/2009-04-04/user-data"])
async def test_user_data_is_binary_safe_and_sealed_in_the_log(
    world: World, guest: GuestOf, proxy: Proxy, path: str
) -> None:
    answer = await proxy.ask(path, guest)
    assert (answer.content, answer.headers["content-type"]) == (USER_DATA, "application/octet-stream")
    recorded = await world.events(guest)
    assert recorded and not [event for event in recorded if b"#!/bin/sh" in event.data]
    rows = await world.plane.repository.log.pool.fetch(
        f"SELECT created || coalesce(user_data, '') AS row FROM {world.plane.cell.name}_metadata.instances"
    )
    assert rows and not [row for row in rows if b"#!/bin/sh" in row["row"]]


async def test_only_the_guests_own_host_may_ask_for_it(guest: GuestOf, proxy_at: ProxyAt) -> None:
    foreign = proxy_at(0, guest.foreign_host)
    for path in ("/latest/meta-data/", "/openstack/latest/user_data"):
        assert (await foreign.ask(path, guest)).status_code == 404
    assert (await foreign.ask(PASSWORD, guest, "POST", body=SECRET)).status_code == 404


@pytest.mark.parametrize("signature", [None, "00" * 32, "é"])
async def test_nobody_asks_without_a_proof(guest: GuestOf, proxy: Proxy, signature: str | None) -> None:
    claimed = {
        "X-Cirra-Host": guest.host,
        "X-Cirra-Network": guest.network,
        "X-Cirra-Address": guest.address,
    }
    headers = claimed if signature is None else claimed | {"X-Cirra-Signature": signature}
    async with httpx.AsyncClient(timeout=60) as client:
        for method, path in (("GET", "/latest/meta-data/"), ("PUT", "/latest/api/token"), ("POST", PASSWORD)):
            encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            assert (await client.request(method, proxy.url + path, headers=encoded)).status_code == 403


async def test_another_address_or_network_is_nobody(guest: GuestOf, proxy: Proxy) -> None:
    assert (await proxy.ask("/latest/meta-data/", guest, address="10.9.0.250")).status_code == 404
    assert (await proxy.ask("/latest/meta-data/", guest, network=guest.uid)).status_code == 404


async def test_imds_v2_whichever_replica_answers(world: World, guest: GuestOf, proxy_at: ProxyAt) -> None:
    one, other = proxy_at(0), proxy_at(1)
    token = await one.ask("/latest/api/token", guest, "PUT", {TTL: "3600"})
    assert (token.status_code, token.headers[TTL]) == (200, "3600")
    neighbour = await world.boot("neighbour")

    async def read(proxy: Proxy, guest: GuestOf, value: str) -> int:
        return (await proxy.ask("/latest/meta-data/", guest, headers={TOKEN: value})).status_code

    assert [await read(proxy, guest, token.text) for proxy in (one, other)] == [200, 200]
    assert [await read(one, guest, value) for value in ("AAAA", "", token.text[:-4] + "AAAA")] == [401] * 3
    assert await read(proxy_at(0, neighbour.host), neighbour, token.text) == 401


@pytest.mark.parametrize("ttl", [None, "", "0", "21601", "-1", "+60", "60 s", "sixty", "9" * 5000])
async def test_a_token_needs_a_life(guest: GuestOf, proxy: Proxy, ttl: str | None) -> None:
    headers = {} if ttl is None else {TTL: ttl}
    assert (await proxy.ask("/latest/api/token", guest, "PUT", headers)).status_code == 400


async def test_the_first_fetch_becomes_an_event_and_only_the_first(world: World, guest: GuestOf, proxy: Proxy) -> None:
    await proxy.ask("/openstack", guest)
    for _ in range(3):
        await proxy.ask("/openstack/latest/meta_data.json", guest)
    async with asyncio.timeout(PATIENCE_S):
        while not (await world.plane.instance(guest.uid)).metadata_fetched:  # noqa: ASYNC110 - a report on its way
            await asyncio.sleep(0.05)
    await proxy.ask("/latest/meta-data/instance-id", guest)
    events = await world.events(guest)
    assert [event.type for event in events].count("cirra.compute.v1.InstanceMetadataFetched") == 1


async def test_a_password_is_posted_once_and_its_owner_reads_it(
    world: World, guest: GuestOf, proxy_at: ProxyAt
) -> None:
    one, other = proxy_at(0), proxy_at(1)
    assert (await one.ask(PASSWORD, guest)).content == b""
    assert (await one.ask(PASSWORD, guest, "POST", body=SECRET)).status_code == 200
    assert (await one.ask(PASSWORD, guest)).content == SECRET
    for proxy in (one, other):
        assert (await proxy.ask(PASSWORD, guest, "POST", body=b"another")).status_code == 409
    # It came twice, for instance since the first answer was lost.
    assert (await other.ask(PASSWORD, guest, "POST", body=SECRET)).status_code == 200
    question = GetInstancePasswordRequest(name=guest.uid)
    with acting_as(ADMIN):
        assert (await world.plane.compute.GetInstancePassword(question)).password == SECRET
    stranger = Principal(user_id=ADMIN.user_id, project_id=guest.uid, roles=[ROLE_MEMBER])
    with acting_as(stranger), pytest.raises(NotFound):
        await world.plane.compute.GetInstancePassword(question)
    recorded = await world.events(guest)
    assert [event.type for event in recorded].count("cirra.compute.v1.InstancePasswordPosted") == 1
    assert not [event for event in recorded if SECRET in event.data]


@pytest.mark.parametrize(("length", "status"), [(0, 400), (1020, 200), (1021, 400)])
async def test_a_password_has_a_length(world: World, guest: GuestOf, proxy: Proxy, length: int, status: int) -> None:
    answer = await proxy.ask(PASSWORD, guest, "POST", body=b"x" * length)
    assert answer.status_code == status, answer.text
    with acting_as(ADMIN):
        question = GetInstancePasswordRequest(name=guest.uid)
        if status == 200:
            assert len((await world.plane.compute.GetInstancePassword(question)).password) == length
        else:
            with pytest.raises(NotFound, match="posted no password"):
                await world.plane.compute.GetInstancePassword(question)


async def test_versions_before_passwords_take_none(guest: GuestOf, proxy: Proxy) -> None:
    assert (await proxy.ask("/openstack/2012-08-10/password", guest, "POST", body=SECRET)).status_code == 404


async def test_a_deleted_guest_is_nobody_and_its_secrets_cant_be_opened(
    world: World, guest: GuestOf, proxy: Proxy
) -> None:
    assert (await proxy.ask(PASSWORD, guest, "POST", body=SECRET)).status_code == 200
    run = await world.plane.ended((await world.prepared.delete(guest.uid)).operation_id)
    assert run.status is SagaStatus.COMPLETED
    async with asyncio.timeout(PATIENCE_S):
        while (await proxy.ask("/latest/meta-data/", guest)).status_code != 404:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
    [posted] = [event for event in await world.events(guest) if event.type.endswith("InstancePasswordPosted")]
    opened = await world.plane.new_keyring().open(posted.aggregate_id, InstancePasswordPosted.FromString(posted.data))
    assert (opened.destroyed, opened.message.password) == (True, b"")


async def test_what_is_more_than_a_guest_can_be_given_is_refused(world: World) -> None:
    with pytest.raises(InvalidArgument, match="65537 bytes"):
        await world.prepared.create("fat", user_data=bytes(65_537))
    with pytest.raises(InvalidArgument, match="at most 128"):
        await world.prepared.create("told", metadata={str(number): "x" for number in range(129)})
    with pytest.raises(InvalidArgument, match="tags"):
        await world.prepared.create("tagged", tags=[str(number) for number in range(51)])
