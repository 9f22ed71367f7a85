"""A real host, as a guest on it finds it: DHCP, DNS, metadata, and what it may not send."""

from __future__ import annotations

import asyncio
import hmac
import http.client
import json
import socket
import struct
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from core.ids import dhcp_namespace
from net_agent.drivers.linux import dns_probe
from net_agent.drivers.linux.dhcp_link import inner_device
from net_agent.drivers.linux.files import read_text
from net_agent.drivers.linux.links import write_sysctl
from net_agent.metadata_proxy.guest import READ_OCTETS
from net_agent.metadata_proxy.requests import MAX_BODY_OCTETS, MAX_HEAD_OCTETS
from tests.contract.network.guest import Guest
from tests.contract.network.hosts import METADATA_KEY, LinuxHost, make_network, make_port
from tests.contract.network.metadata_service import MetadataService, make_identities
from tests.contract.network.waiting import PATIENCE_S, until
from tests.contract.network.wire import Capture

pytestmark = pytest.mark.root

SERVICE_PORT = 8775


def get(
    path: str, headers: dict[str, str] | None = None, method: str = "GET", body: bytes | None = None
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("169.254.169.254", timeout=PATIENCE_S)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read(), {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()


# ---- DHCP


async def test_dhcp_tells_a_guest_all_it_needs(linux: LinuxHost) -> None:
    port = make_port(make_network(), 11, hostname="Demo")
    await linux.driver.plug(port)
    guest = await linux.guest(port)
    told = await guest.dhcp()
    assert told is not None
    assert (told["ip"], told["mask"], told["router"]) == ("10.77.0.11", "24", "10.77.0.1")
    assert (told["mtu"], told["dns"], told["hostname"], told["domain"]) == ("1450", "10.77.0.2", "demo", "novalocal")
    assert told["staticroutes"] == "169.254.169.254/32 10.77.0.2 0.0.0.0/0 10.77.0.1"
    assert told["msstaticroutes"] == told["staticroutes"]
    routes = (await guest.run("ip", "route")).stdout
    assert "default via 10.77.0.1" in routes and "169.254.169.254 via 10.77.0.2" in routes


async def test_without_a_gateway_nobody_is_named_as_one(linux: LinuxHost) -> None:
    network = make_network()
    network = replace(network, subnets=(replace(network.subnets[0], gateway_ip=None),))
    port = make_port(network, 11)
    await linux.driver.plug(port)
    told = await (await linux.guest(port)).dhcp()
    assert told is not None and told.get("router") is None
    assert told["staticroutes"] == "169.254.169.254/32 10.77.0.2"


async def test_an_inactive_port_gets_no_answer_until_it_is_active(linux: LinuxHost) -> None:
    network = make_network()
    port = make_port(network, 11, active=False)
    await linux.driver.plug(make_port(network, 12))
    await linux.driver.plug(port)
    guest = await linux.guest(port)
    assert await guest.hears_no_dhcp()
    await linux.driver.plug(replace(port, active=True))
    assert await guest.dhcp() is not None
    await linux.driver.plug(port)
    assert await linux.driver.leases() == []


async def test_a_stranger_gets_no_answer_and_no_address(linux: LinuxHost) -> None:
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    namespace = dhcp_namespace(port.network.network_id)
    await linux.command("nft", "flush", "chain", "bridge", "cirra", port.device)
    guest = await linux.guest(port, mac_address="52:54:00:66:66:66")
    assert await guest.hears_no_dhcp()
    assert "52:54" not in await linux.command(
        "cat", str(linux.folder / "networks" / port.network.network_id / "leases"), namespace=namespace
    )


@pytest.mark.parametrize("hostname", ["ignore", "infinite", "45m", "7"])
async def test_a_guest_may_bear_a_name_that_means_something_to_dnsmasq(linux: LinuxHost, hostname: str) -> None:
    port = make_port(make_network(), 11, hostname=hostname)
    await linux.driver.plug(port)
    told = await (await linux.guest(port)).dhcp()
    assert told is not None and told["ip"] == "10.77.0.11"


async def test_a_lease_outlives_dnsmasq(linux: LinuxHost) -> None:
    """After its restart it knows the lease still, and renews it rather than refusing it."""
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    guest = await linux.guest(port)
    assert await guest.dhcp() is not None
    await linux.kill(port.network, "dnsmasq")
    assert (await linux.driver.observe(port.port_id)).lacking == ("DHCP does not answer",)
    await linux.driver.plug(port)
    assert [lease.ip_address for lease in await linux.driver.leases()] == ["10.77.0.11"]
    assert await guest.dhcp() is not None


async def test_a_changed_network_reaches_the_next_guest_and_older_news_does_not(linux: LinuxHost) -> None:
    old = make_network()
    new = replace(old, generation=2, mtu=1400)
    first, second, third = make_port(old, 11), make_port(new, 12), make_port(old, 13)
    for port in (first, second, third):
        await linux.driver.plug(port)
    told = await (await linux.guest(third)).dhcp()
    assert told is not None and told["mtu"] == "1400"
    await linux.driver.unplug(second.port_id)
    await linux.restart()
    await linux.driver.plug(third)
    assert "mtu 1400" in await linux.command("ip", "link", "show", old.bridge)


async def test_an_offer_alone_is_no_proof_that_the_guest_uses_the_address(linux: LinuxHost) -> None:
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    guest = await linux.guest(port)
    silent = linux.folder / "silent.sh"
    silent.write_text("#!/bin/sh\n")
    silent.chmod(0o755)
    namespace, device = dhcp_namespace(port.network.network_id), inner_device(port.network.network_id)
    # The kernel's three probes, a fifth of a second apart, and none before they are asked for.
    for name, value in (("retrans_time_ms", "200"), ("delay_first_probe_time", "600")):
        path = f"net/ipv4/neigh/{device}/{name}"
        await linux.namespaces.inside(namespace, partial(write_sysctl, path, value))
    asked = await guest.run("busybox", "udhcpc", "-f", "-q", "-n", "-i", "eth0", "-s", str(silent))
    assert asked.returncode == 0

    async def given_up() -> bool:
        assert await linux.driver.neighbours() == []
        table = await linux.command("ip", "neigh", "show", "dev", device, namespace=namespace)
        return "FAILED" in table or port.mac_address not in table

    # dnsmasq has entered what it offered: as a neighbour that nobody confirmed.
    table = await linux.command("ip", "neigh", "show", "dev", device, namespace=namespace)
    assert port.mac_address in table and table.split()[-1] in ("STALE", "DELAY")
    probe = ("lladdr", port.mac_address, "nud", "probe")
    await linux.command("ip", "neigh", "change", "10.77.0.11", *probe, "dev", device, namespace=namespace)
    await until(given_up)
    assert [lease.ip_address for lease in await linux.driver.leases()] == ["10.77.0.11"]


# ---- DNS


async def test_guests_of_a_network_find_each_other_by_name(linux: LinuxHost) -> None:
    network = make_network()
    first, second = make_port(network, 11), make_port(network, 12)
    await linux.driver.plug(first)
    guest = await linux.guest(first)
    await guest.address("10.77.0.11/24")
    server = IPv4Address("10.77.0.2")
    assert not await guest.inside(lambda: dns_probe.resolves("guest-12.novalocal", server, 0.0))
    await linux.driver.plug(second)
    assert await guest.inside(lambda: dns_probe.resolves("guest-12.novalocal", server, PATIENCE_S))
    assert await guest.inside(lambda: dns_probe.resolves("guest-12", server, PATIENCE_S))
    await linux.driver.unplug(second.port_id)
    assert not await guest.inside(lambda: dns_probe.resolves("guest-12.novalocal", server, 0.0))


async def test_outside_names_are_asked_of_the_subnets_nameservers(linux: LinuxHost) -> None:
    """Another guest plays the nameserver, so that what arrives there is seen."""
    network = make_network()
    network = replace(network, subnets=(replace(network.subnets[0], dns_nameservers=(IPv4Address("10.77.0.12"),)),))
    asking, answering = make_port(network, 11), make_port(network, 12)
    for port in (asking, answering):
        await linux.driver.plug(port)
    guest, nameserver = await linux.guest(asking), await linux.guest(answering)
    await guest.address("10.77.0.11/24")
    await nameserver.address("10.77.0.12/24")

    def listen() -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("10.77.0.12", 53))
        listener.settimeout(PATIENCE_S)
        return listener

    with await nameserver.inside(listen) as listener:
        heard = asyncio.create_task(asyncio.to_thread(listener.recvfrom, 512))
        while not heard.done():
            await guest.inside(lambda: dns_probe.resolves("example.org", IPv4Address("10.77.0.2"), 0.0))
        question, source = await heard
    assert b"\x07example\x03org" in question and source[0] == "10.77.0.2"


# ---- metadata


@asynccontextmanager
async def metadata_host(folder: Path) -> AsyncIterator[tuple[LinuxHost, MetadataService]]:
    """A host with a metadata service that is reached by TLS at its loopback."""
    linux, service = LinuxHost(folder), MetadataService()
    url = f"https://127.0.0.1:{SERVICE_PORT}"
    context, linux.identity = make_identities(folder, "host-1", url, linux.identity.signing_key)
    await linux.start()
    try:
        listener = await linux.namespaces.on_host(lambda: socket.create_server(("127.0.0.1", SERVICE_PORT)))
        server = await asyncio.start_server(service.serve, sock=listener, ssl=context)
        async with server:
            yield linux, service
    finally:
        await linux.stop()


async def booted(linux: LinuxHost, number: int = 11) -> Guest:
    port = make_port(make_network(f"10.{number}.0.0/24"), number)
    await linux.driver.plug(port)
    guest = await linux.guest(port)
    assert await guest.dhcp() is not None
    return guest


async def test_metadata_is_asked_in_the_guests_name_whatever_it_claims(tmp_path: Path) -> None:
    async with metadata_host(tmp_path) as (linux, service):
        guest = await booted(linux)
        forged = {
            "X-Cirra-Address": "10.11.0.99",
            "x_cirra_network": "another",
            "X-Forwarded-For": "10.11.0.99",
            "X-aws-ec2-metadata-token": "t",
            "Connection": "keep-alive, X-Cirra-Host",
        }
        status, body, headers = await guest.inside(lambda: get("/latest/meta-data/instance-id?x=1", forged))
        assert (status, body, headers["x-metadata"]) == (200, b"i-00000001", "yes")
        network_id = (await linux.driver.active_ports())[0].network.network_id
        asked = service.asked[0]
        assert asked.target == "/latest/meta-data/instance-id?x=1"
        assert asked.headers["x-aws-ec2-metadata-token"] == "t"
        assert "x-forwarded-for" not in asked.headers and "x_cirra_network" not in asked.headers
        assert asked.headers["x-cirra-host"] == "host-1"
        assert asked.headers["x-cirra-network"] == network_id
        assert asked.headers["x-cirra-address"] == "10.11.0.11"
        text = f"v1\nhost-1\n{network_id}\n10.11.0.11\nGET\n/latest/meta-data/instance-id"
        assert asked.headers["x-cirra-signature"] == hmac.new(METADATA_KEY, text.encode(), "sha256").hexdigest()


async def test_metadata_bodies_pass_both_ways(tmp_path: Path) -> None:
    async with metadata_host(tmp_path) as (linux, service):
        service.answer = b"#cloud-config\n" * 40_000
        guest = await booted(linux)
        put = await guest.inside(
            lambda: get("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
        )
        assert put[0] == 200 and put[1] == service.answer
        post = await guest.inside(lambda: get("/openstack/latest/password", method="POST", body=b"secret"))
        assert post[0] == 200 and service.asked[1].body == b"secret"
        head = await guest.inside(lambda: get("/latest", method="HEAD"))
        assert head[0] == 200 and head[1] == b""
        assert [asked.method for asked in service.asked] == ["PUT", "POST", "GET"]
        # Three connections of the guest; the proxy needed one, and another for what may take long.
        assert service.connections == 2


async def test_metadata_limits(tmp_path: Path) -> None:
    async with metadata_host(tmp_path) as (linux, service):
        guest = await booted(linux)
        # Hardly more than the proxy has to read: it closes what it refused, and whoever still sends may not hear why.
        too_long, too_much = "a" * (MAX_HEAD_OCTETS + READ_OCTETS), b"a" * (MAX_BODY_OCTETS + 1)
        assert (await guest.inside(lambda: get("/latest", {"X-Long": too_long})))[0] == 431
        assert (await guest.inside(lambda: get("/latest", method="POST", body=too_much)))[0] == 413
        assert (await guest.inside(lambda: get("http://10.0.0.1/")))[0] == 400
        assert service.asked == []


async def test_metadata_away_is_said_at_once(linux: LinuxHost) -> None:
    guest = await booted(linux)
    status, _, headers = await guest.inside(lambda: get("/latest/meta-data"))
    assert status == 503 and int(headers["retry-after"]) > 0


async def test_a_host_that_the_service_does_not_trust_gets_nothing(tmp_path: Path) -> None:
    async with metadata_host(tmp_path) as (linux, service):
        other = tmp_path / "other"
        other.mkdir()
        _, linux.identity = make_identities(other, "host-1", linux.identity.metadata_url, linux.identity.signing_key)
        await linux.restart()
        guest = await booted(linux)
        assert (await guest.inside(lambda: get("/latest")))[0] == 503
        assert service.asked == []


async def test_the_proxy_is_small_and_unprivileged(linux: LinuxHost) -> None:
    await booted(linux)
    pid = linux.pids((await linux.driver.active_ports())[0].network)["metadata-proxy"]
    status = dict(line.split(":", 1) for line in read_text(Path(f"/proc/{pid}/status")).splitlines())
    assert status["Uid"].split()[0] != "0" and int(status["CapEff"], 16) == 0
    assert int(status["VmRSS"].split()[0]) < 40_000
    log = (linux.folder / "networks").glob("*/metadata-proxy.log")
    assert json.loads(read_text(next(log)).splitlines()[0])["event"] == "listening"


# ---- spoofing


async def test_guests_talk_and_lies_are_dropped(linux: LinuxHost) -> None:
    network = make_network()
    honest, liar = make_port(network, 11), make_port(network, 12)
    for port in (honest, liar):
        await linux.driver.plug(port)
    first, second = await linux.guest(honest), await linux.guest(liar)
    assert await first.dhcp() is not None and await second.dhcp() is not None
    assert await second.reaches("10.77.0.11")
    # Another's address.
    await second.address("10.77.0.13/24")
    assert await second.is_cut_off_from("10.77.0.11")
    # Another's MAC address.
    await second.address("10.77.0.12/24")
    await second.run("ip", "link", "set", "eth0", "address", "fa:16:3e:00:00:99")
    assert await second.is_cut_off_from("10.77.0.11")
    await second.run("ip", "link", "set", "eth0", "address", liar.mac_address)
    assert await second.reaches("10.77.0.11")


@pytest.mark.parametrize("tag", ["", "81000008", "88a80008"], ids=["none", "802.1Q", "802.1ad"])
async def test_a_guest_sends_no_tags(linux: LinuxHost, tag: str) -> None:
    """With its own addresses: on the uplink of a VLAN the tag would be the inner one of two."""
    network = make_network()
    ports = [make_port(network, number) for number in (11, 12)]
    for port in ports:
        await linux.driver.plug(port)
    receiver, sender = [await linux.guest(port) for port in ports]
    to, by = (bytes.fromhex(port.mac_address.replace(":", "")) for port in ports)
    addresses = by, IPv4Address("10.77.0.12").packed, to, IPv4Address("10.77.0.11").packed
    probe = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, *addresses)  # an ARP request, RFC 826

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("eth0", 0))
            wire.send(to + by + bytes.fromhex(tag) + b"\x08\x06" + probe)
            wire.send(to + by + b"\x08\x06" + probe + b"the last one")

    capture = await receiver.inside(lambda: Capture("eth0"))
    seen: list[bytes] = []
    try:
        await sender.inside(send)
        async with asyncio.timeout(PATIENCE_S):
            while not any(content.endswith(b"the last one") for content in seen):
                await asyncio.sleep(0.01)
                seen += [frame.content for frame in capture.frames() if frame.content[6:12] == by]
    finally:
        capture.close()
    assert sum(probe in content for content in seen) == (1 if tag else 2)


async def test_a_guest_is_no_dhcp_server(linux: LinuxHost) -> None:
    network = make_network()
    victim, rogue = make_port(network, 11), make_port(network, 12)
    for port in (victim, rogue):
        await linux.driver.plug(port)
    first, second = await linux.guest(victim), await linux.guest(rogue)
    await first.address("10.77.0.11/24")
    await second.address("10.77.0.12/24")

    def listener() -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind(("10.77.0.11", 68))
        opened.settimeout(PATIENCE_S)
        return opened

    def send(content: bytes, source_port: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("10.77.0.12", source_port))
            sender.sendto(content, ("10.77.0.11", 68))

    assert await second.reaches("10.77.0.11")
    with await first.inside(listener) as opened:
        await second.inside(lambda: send(b"an offer", 67))
        await second.inside(lambda: send(b"no server's", 6767))
        assert await asyncio.to_thread(opened.recv, 100) == b"no server's", "and what came before it did not come"


async def test_a_bridge_is_no_way_into_the_host(linux: LinuxHost) -> None:
    """Linux answers ARP for any of its addresses on any interface, so the host would be reached without the rule."""
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    guest = await linux.guest(port)
    await guest.address("10.77.0.11/24")
    await linux.command("ip", "addr", "add", "10.77.0.200/32", "dev", "lo")
    await linux.command("ip", "route", "add", "10.77.0.0/24", "dev", port.network.bridge)
    assert await guest.is_cut_off_from("10.77.0.200")
    await linux.command("nft", "flush", "chain", "bridge", "cirra", "input")
    assert await guest.reaches("10.77.0.200")


async def test_the_namespace_is_nobodys_router(linux: LinuxHost) -> None:
    port = make_port(make_network(), 11)
    await linux.driver.plug(port)
    namespace = dhcp_namespace(port.network.network_id)
    assert (await linux.command("cat", "/proc/sys/net/ipv4/ip_forward", namespace=namespace)).strip() == "0"
    assert await linux.command("ip", "-6", "addr", namespace=namespace) == ""
    with pytest.raises(subprocess.CalledProcessError):
        await linux.command("sh", "-c", f"ip -6 addr show dev {port.network.bridge} | grep inet6")
