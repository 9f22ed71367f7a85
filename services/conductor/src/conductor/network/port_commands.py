"""Making ports: an address and a MAC are chosen at random and claimed by the append; who loses chooses again.

    async def once(hints: AddressHints) -> Saved:
        port = await new_port(repository, WantedPort(...), hints)
        return await repository.save(instance, port, *hints.default_groups.values())

    saved = await with_free_addresses(repository, rng, once)

The log's unique rows decide, not what was read before: any number of requests at once get different addresses.
"""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TypeVar
from uuid import UUID

from cirra.network.v1 import network_pb2 as public
from conductor.fields import Fields
from conductor.network.addresses import Address, choose_address, host_addresses, parse_address
from conductor.network.bandwidth import check_bandwidth
from conductor.network.network import Network, address_scope
from conductor.network.port import Port, mac_scope
from conductor.network.port_security import IN_NO_GROUP, PortSecurity, default_group
from conductor.network.security_group import DEFAULT, DEFAULTS, SecurityGroup
from conductor.network.slaac import slaac_address
from conductor.network.subnet import Subnet
from core.errors import Conflict, FailedPrecondition, NotFound, ResourceExhausted
from core.eventlog.errors import UniqueViolation
from core.ids import last_segment, uuid7
from core.repository import Repository

R = TypeVar("R")

# OpenStack's prefix: locally administered, unicast (IEEE 802, section 8.2).
MAC_PREFIX = "fa:16:3e"
MAX_FIXED_IPS = 8
# After so many lost races in a subnet, what is taken is read as a whole.
SCAN_AFTER = 3
MAX_TRIES = 200

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedPort:
    """`fixed_ips`: a subnet, an address, both, or none at all for an address of each family that the network has.

    Addresses of subnets with SLAAC are the port's in any case: its guest will make them.
    """

    project_id: str
    network_id: str
    port_id: UUID = field(default_factory=uuid7)
    fixed_ips: Sequence[public.FixedIp] = ()
    mac_address: str = ""
    display_name: str = ""
    device_id: str = ""
    owned_by_device: bool = False
    security: PortSecurity = IN_NO_GROUP
    qos: public.BandwidthLimits | None = None


@dataclass(slots=True)
class AddressHints:
    """What the tries so far have found taken. One per request."""

    rng: random.Random
    # The request has read the networks of its ports itself, when the log had reached this position; None: it has not.
    since: int | None = None
    # (scope, key) that this try has chosen itself: losing them is no refusal.
    chosen: set[tuple[str, str]] = field(default_factory=set)
    taken: dict[str, set[Address]] = field(default_factory=dict)
    lost_races: dict[str, int] = field(default_factory=dict)
    # By project: default groups that this try has made, to be saved with its ports.
    default_groups: dict[str, SecurityGroup] = field(default_factory=dict)

    async def default_group(self, repository: Repository, project_id: str) -> str:
        """The id of the project's default group, which is made if there is none."""
        if project_id in self.default_groups:
            return str(self.default_groups[project_id].id)
        group_id, made = await default_group(repository, project_id)
        if made is not None:
            self.chosen.add((DEFAULTS, project_id))
            self.default_groups[project_id] = made
        return group_id

    async def learn(self, repository: Repository, violation: UniqueViolation) -> bool:
        """Takes in a lost race; False if it was about what the request itself had asked for."""
        if (violation.scope, violation.key) not in self.chosen:
            return False
        kind, _, subnet_id = violation.scope.partition("/")
        if kind == "address":
            lost = self.lost_races[subnet_id] = self.lost_races.get(subnet_id, 0) + 1
            if lost >= SCAN_AFTER:
                await self.scan(repository, subnet_id)
            self.taken.setdefault(subnet_id, set()).add(ip_address(violation.key))
        return True

    async def scan(self, repository: Repository, subnet_id: str) -> None:
        """Reads every address in use of a subnet; forgets what was found before."""
        keys = await repository.log.unique_keys(address_scope(subnet_id))
        self.taken[subnet_id] = {ip_address(key) for key in keys}


async def with_free_addresses(
    repository: Repository,
    rng: random.Random,
    once: Callable[[AddressHints], Awaitable[R]],
    *,
    since: int | None = None,
) -> R:
    """Runs `once`, which makes ports by `new_port` and saves them, until nobody else was faster. `since`: see
    `AddressHints`.

    Raises what `once` raises: UniqueViolation only for an address or MAC that was asked for.
    """
    hints = AddressHints(rng, since)
    for _ in range(MAX_TRIES):
        hints.chosen.clear()
        hints.default_groups.clear()
        try:
            return await once(hints)
        except UniqueViolation as violation:
            if not await hints.learn(repository, violation):
                raise
            last = violation
    raise Conflict(f"others took every address chosen, {MAX_TRIES} times in a row; try again") from last


async def new_port(repository: Repository, wanted: WantedPort, hints: AddressHints) -> Port:
    """A port with its addresses chosen, not yet saved. Call it within `with_free_addresses`.

    Raises NotFound for a network that the project can't use, InvalidArgument, FailedPrecondition for a network
    without subnet, ResourceExhausted (SUBNET_EXHAUSTED).
    """
    network = await _network(repository, UUID(wanted.network_id), hints)
    if network.deleted or not network.usable_by(wanted.project_id):
        raise NotFound(f"no network {wanted.network_id}")
    _check(wanted)
    mac_address = wanted.mac_address or choose_mac(wanted.network_id, hints)
    fixed_ips = await chosen_addresses(repository, wanted, network, mac_address, hints)
    return Port.create(
        wanted.port_id,
        project_id=wanted.project_id,
        network_id=wanted.network_id,
        mac_address=mac_address,
        fixed_ips=fixed_ips,
        display_name=wanted.display_name,
        device_id=wanted.device_id,
        owned_by_device=wanted.owned_by_device,
        security=await _security(repository, wanted, hints),
        qos=wanted.qos,
    )


async def _network(repository: Repository, network_id: UUID, hints: AddressHints) -> Network:
    if hints.since is None:
        return await repository.load(Network, network_id)
    return await repository.glance(Network, network_id, at_least=hints.since)


async def _security(repository: Repository, wanted: WantedPort, hints: AddressHints) -> PortSecurity:
    """With the id of the default group for its name."""
    if DEFAULT not in wanted.security.group_ids:
        return wanted.security
    own = await hints.default_group(repository, wanted.project_id)
    named = (own if group_id == DEFAULT else group_id for group_id in wanted.security.group_ids)
    return replace(wanted.security, group_ids=tuple(dict.fromkeys(named)))


def _check(wanted: WantedPort) -> None:
    fields = Fields("port.")
    fields.title("display_name", wanted.display_name, required=False)
    if wanted.mac_address and not _is_unicast_mac(wanted.mac_address):
        fields.refuse(
            "mac_address", f"{wanted.mac_address!r} is no unicast MAC address: give one like fa:16:3e:0a:1b:2c"
        )
    if wanted.qos is not None:
        check_bandwidth(fields, "qos", wanted.qos)
    fields.check()


def _check_fixed_ips(wanted: WantedPort, network: Network, mac_address: str) -> None:
    fields = Fields("port.")
    asked: set[Address] = set()
    if len(wanted.fixed_ips) > MAX_FIXED_IPS:
        fields.refuse("fixed_ips", f"give at most {MAX_FIXED_IPS}")
    for index, fixed in enumerate(wanted.fixed_ips):
        _check_fixed_ip(fields, f"fixed_ips[{index}]", fixed, network, mac_address)
        address = parse_address(fixed.ip_address)
        if address is not None and address in asked:
            fields.refuse(f"fixed_ips[{index}].ip_address", f"{address} is given twice")
        if address is not None:
            asked.add(address)
    fields.check()


def _check_fixed_ip(fields: Fields, name: str, fixed: public.FixedIp, network: Network, mac_address: str) -> None:
    subnet = network.subnets.get(last_segment(fixed.subnet))
    if fixed.subnet and subnet is None:
        fields.refuse(f"{name}.subnet", f"{fixed.subnet!r} is no subnet of the port's network")
        return
    if not fixed.ip_address:
        if not fixed.subnet:
            fields.refuse(name, "it is empty: give a subnet, an address, or leave it out")
        return
    address = parse_address(fixed.ip_address)
    if address is None:
        fields.refuse(f"{name}.ip_address", f"{fixed.ip_address!r} is no IP address")
        return
    subnet = subnet or _subnet_with(network, address)
    if subnet is None or address not in subnet.cidr:
        fields.refuse(f"{name}.ip_address", f"{address} is in no such subnet of the port's network")
    elif address not in host_addresses(subnet.cidr):
        fields.refuse(f"{name}.ip_address", f"{address} is no host address of {subnet.cidr}")
    elif address in subnet.reserved:
        fields.refuse(f"{name}.ip_address", f"{address} is the gateway's or the DHCP server's: choose another")
    elif subnet.slaac and address != slaac_address(subnet, mac_address):
        fields.refuse(f"{name}.ip_address", "addresses of this subnet follow from the MAC address: leave it out")


async def chosen_addresses(
    repository: Repository, wanted: WantedPort, network: Network, mac_address: str, hints: AddressHints
) -> list[public.FixedIp]:
    """Raises InvalidArgument, FailedPrecondition for a network without subnet, ResourceExhausted."""
    _check_fixed_ips(wanted, network, mac_address)
    if not network.subnets:
        raise FailedPrecondition(
            f"network {network.id} has no subnet to take an address from",
            reason="NETWORK_HAS_NO_SUBNET",
            remedy="create a subnet on it first",
        )
    if wanted.fixed_ips:
        found = await _asked_for(repository, wanted, network, hints)
    else:
        families = _by_family(subnet for subnet in network.subnets.values() if not subnet.slaac)
        found = [await choose_free(repository, subnets, hints, set()) for subnets in families]
    for subnet in network.subnets.values():
        if subnet.slaac:
            found.append(_slaac_fixed_ip(subnet, mac_address, hints, chosen=not wanted.mac_address))
    return found


async def _asked_for(
    repository: Repository, wanted: WantedPort, network: Network, hints: AddressHints
) -> list[public.FixedIp]:
    """What the request says, but for subnets with SLAAC."""
    named_ones = {address for fixed in wanted.fixed_ips if (address := parse_address(fixed.ip_address)) is not None}
    found: list[public.FixedIp] = []
    for fixed in wanted.fixed_ips:
        address = parse_address(fixed.ip_address)
        named = network.subnets.get(last_segment(fixed.subnet)) or (address and _subnet_with(network, address))
        assert isinstance(named, Subnet)
        if named.slaac:
            continue
        if address is None:
            found.append(await choose_free(repository, [named], hints, named_ones))
        else:
            found.append(public.FixedIp(subnet=named.id, ip_address=str(address)))
    return found


def _by_family(subnets: Iterable[Subnet]) -> list[list[Subnet]]:
    """IPv4 first: the first address is the one that a port is known by."""
    families: dict[int, list[Subnet]] = {4: [], 6: []}
    for subnet in subnets:
        families[subnet.cidr.version].append(subnet)
    return [family for family in families.values() if family]


def _slaac_fixed_ip(subnet: Subnet, mac_address: str, hints: AddressHints, *, chosen: bool) -> public.FixedIp:
    """`chosen`: the MAC address was: another one gives another address."""
    address = slaac_address(subnet, mac_address)
    if chosen:
        hints.chosen.add((address_scope(subnet.id), str(address)))
    return public.FixedIp(subnet=subnet.id, ip_address=str(address))


async def choose_free(
    repository: Repository, subnets: Sequence[Subnet], hints: AddressHints, others: set[Address]
) -> public.FixedIp:
    """A free address of the first subnet that has one. `others`: spoken for by the same port."""
    for subnet in subnets:
        address = _free(subnet, hints, others)
        if address is None:
            # What was found taken may be free again: nobody is refused on hearsay.
            await hints.scan(repository, subnet.id)
            address = _free(subnet, hints, others)
        if address is not None:
            hints.chosen.add((address_scope(subnet.id), str(address)))
            return public.FixedIp(subnet=subnet.id, ip_address=str(address))
    tried = ", ".join(str(subnet.cidr) for subnet in subnets)
    raise ResourceExhausted(
        f"no address is free in {tried}: every one of the allocation pools is in use",
        reason="SUBNET_EXHAUSTED",
        remedy="delete ports that are not needed, or use another subnet or network",
        metadata={"subnet": subnets[0].id},
    )


def _free(subnet: Subnet, hints: AddressHints, others: set[Address]) -> Address | None:
    scope = address_scope(subnet.id)
    chosen = {ip_address(key) for chosen_scope, key in hints.chosen if chosen_scope == scope}
    taken = hints.taken.get(subnet.id, set()) | subnet.reserved | chosen | others
    return choose_address(subnet.pools, taken, hints.rng)


def choose_mac(network_id: str, hints: AddressHints) -> str:
    tail = hints.rng.getrandbits(24).to_bytes(3, "big")
    mac = f"{MAC_PREFIX}:{tail.hex(':')}"
    hints.chosen.add((mac_scope(network_id), mac))
    return mac


def _subnet_with(network: Network, address: Address) -> Subnet | None:
    return next((subnet for subnet in network.subnets.values() if address in subnet.cidr), None)


def _is_unicast_mac(text: str) -> bool:
    # The lowest bit of the first octet marks a group (IEEE 802, section 8.2.2).
    return bool(_MAC.fullmatch(text)) and not int(text[:2], 16) & 1 and text != "00:00:00:00:00:00"
