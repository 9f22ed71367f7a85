"""DHCP answers the guest, and the guest has taken its address."""

from __future__ import annotations

import socket
import time
from ipaddress import IPv4Address

from net_agent.diagnosis.finding import Finding, broken, not_applicable, ok, unknown
from net_agent.diagnosis.path import GuestPath
from net_agent.diagnosis.probe import frames
from net_agent.diagnosis.probe.frames import Arp
from net_agent.drivers.linux import dhcp_link, process
from net_agent.drivers.linux.dnsmasq import Dnsmasq
from net_agent.drivers.linux.files import read_text

NO_VOICE = "the tap is missing or down: nothing can be asked in the guest's name"
RECONCILE = "the net-agent puts it back within seconds: cirra service list says whether it runs, its log why not"
_ARP_TRIES, _ARP_WAIT_S = 3, 0.4


async def dhcp(path: GuestPath) -> Finding:
    """A DHCPDISCOVER in the guest's name. Without an answer: why there is none."""
    if not path.network.dhcp_subnets:
        return not_applicable("no subnet of the network has DHCP")
    if not path.port.active:
        return not_applicable("the guest is not on this host yet: it is answered elsewhere")
    if path.voice is None:
        return unknown("NO_TAP", NO_VOICE)
    if (offer := await path.offered()) is None:
        return await _why_no_offer(path)
    if offer.address not in path.port.addresses:
        wanted = ", ".join(str(address) for address in path.port.addresses)
        return broken(
            "DHCP_WRONG_ADDRESS",
            f"{offer.server} offers {offer.address}; the port's is {wanted}",
            f"look for another DHCP server on the network, at {offer.server}",
        )
    return ok(f"{offer.server} offers {offer.address}")


async def _why_no_offer(path: GuestPath) -> Finding:
    if not path.ground.namespaces.exists(path.namespace):
        return broken("DHCP_NAMESPACE_MISSING", f"there is no namespace {path.namespace}", RECONCILE)
    if not await path.on_host(lambda: dhcp_link.outer_stands(path.network)):
        outer = dhcp_link.outer_device(path.network.network_id)
        return broken("DHCP_LINK_BROKEN", f"{outer} is missing, down or off its bridge", RECONCILE)
    if not await path.in_service(lambda: dhcp_link.inner_stands(path.network)):
        inner = dhcp_link.inner_device(path.network.network_id)
        return broken("DHCP_LINK_BROKEN", f"{inner} is missing, down or without its addresses", RECONCILE)
    marker = Dnsmasq.marker(path.paths)
    if await path.on_host(lambda: process.find(marker, path.paths.pid)) is None:
        seen = "no answer to a DHCPDISCOVER: dnsmasq of this network does not run"
        return broken("DHCP_NOT_RUNNING", seen, f"{RECONCILE}; dnsmasq's: {path.paths.log}")
    if path.port.mac_address not in read_text(path.paths.hosts):
        seen = f"no answer to a DHCPDISCOVER: dnsmasq runs, and {path.paths.hosts} lacks {path.port.mac_address}"
        return broken("DHCP_ENTRY_MISSING", seen, RECONCILE)
    seen = f"no answer to a DHCPDISCOVER from {path.port.device}, though dnsmasq runs and knows {path.port.mac_address}"
    remedy = f"see what drops it: cirra network diagnose --capture; restart dnsmasq (kill it); see {path.paths.log}"
    return broken("DHCP_NO_ANSWER", seen, remedy)


async def address(path: GuestPath) -> Finding:
    """Has the guest taken its address, by DHCP or by hand?"""
    if path.own is None:
        return not_applicable("the port has no IPv4 address")
    own = path.own[0]
    leases = Dnsmasq.leases_in(path.paths)
    leased = any((entry.mac_address, entry.ip_address) == (path.port.mac_address, own) for entry in leases)
    lease = f"DHCP has given it {own}" if leased else f"DHCP has given it no lease on {own}"
    try:
        answers = await path.once("guest", lambda: _guest_answers(path, own))
    except FileNotFoundError:
        return unknown("NO_WAY_TO_ASK", f"{lease}; there is no namespace {path.namespace} to ask the guest from")
    if answers:
        return ok(f"{lease}; the guest answers ARP for it")
    if leased:
        return broken(
            "GUEST_SILENT",
            f"{lease}; the guest does not answer ARP for it",
            "look into the guest: cirra server log; it may have shut its interface, hang, or use another address",
        )
    return broken(
        "GUEST_WITHOUT_ADDRESS",
        f"{lease}, and the guest does not answer ARP for it",
        "look into the guest: cirra server log; it has not asked by DHCP, nor set the address by hand",
    )


async def _guest_answers(path: GuestPath, own: IPv4Address) -> bool:
    """ARP from where DHCP answers: no packet of the guest's is involved but its answer."""
    device = dhcp_link.inner_device(path.network.network_id)
    asker = path.network.dhcp_subnets[0].server if path.network.dhcp_subnets else None

    def ask() -> bool:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
            try:
                opened.bind((device, frames.ETH_ARP))
                request = frames.arp_request(path.service_mac, asker or IPv4Address(0), own)
                for _ in range(_ARP_TRIES):
                    opened.send(request)
                    if _hears(opened, path.port.mac_address, own):
                        return True
            except OSError:
                return False
        return False

    return await path.in_service(ask)


def _hears(opened: socket.socket, mac: str, own: IPv4Address) -> bool:
    """Waits a moment for the answer, whatever else comes."""
    deadline = time.monotonic() + _ARP_WAIT_S
    while (remaining := deadline - time.monotonic()) > 0:
        opened.settimeout(remaining)
        try:
            said = frames.parse(opened.recv(2048))
        except TimeoutError:
            return False
        content = said.content if said else None
        if isinstance(content, Arp) and (content.sender_mac, content.sender) == (mac, own):
            return True
    return False
