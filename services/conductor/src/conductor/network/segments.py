"""Segments: how networks are told apart on the wire, and how large their frames may be. Pure.

Numbers of segments are set invariants: a free one is chosen at random, and claimed by the append that makes the
network.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cirra.network.v1 import network_pb2 as public
from conductor.fields import Fields

FLAT, VLAN, VXLAN = public.NETWORK_TYPE_FLAT, public.NETWORK_TYPE_VLAN, public.NETWORK_TYPE_VXLAN
TYPES: Mapping[str, public.NetworkType.ValueType] = {"flat": FLAT, "vlan": VLAN, "vxlan": VXLAN}

# RFC 791 lets a host refuse larger datagrams than 576 octets; beyond 9216 no common switch carries frames.
MIN_MTU, MAX_MTU = 576, 9216
# What VXLAN adds to a frame's payload over IPv4: inner Ethernet, VXLAN, UDP and IP headers (RFC 7348, section 5).
VXLAN_OVERHEAD = 14 + 8 + 8 + 20
# IEEE 802.1Q reserves 0 and 4095; a VNI has 24 bits (RFC 7348, section 5), and 0 is left to devices that have none.
NUMBERS: Mapping[public.NetworkType.ValueType, range] = {VLAN: range(1, 4095), VXLAN: range(1, 2**24)}
_WHAT = {VLAN: "a VLAN", VXLAN: "a VXLAN"}

VXLANS = "vxlan"  # unique scope: VNI → owner: its network
FLAT_SEGMENTS = "physical-network"  # unique scope: label → owner: the flat network on it


def vlan_scope(physical_network: str) -> str:
    """The unique scope whose keys are the VLANs in use on a provider's segment."""
    return f"vlan/{physical_network}"


def scope_of(kind: public.NetworkType.ValueType, physical_network: str) -> str:
    """The unique scope of which a network takes a key."""
    return {VXLAN: VXLANS, VLAN: vlan_scope(physical_network)}.get(kind, FLAT_SEGMENTS)


def key_of(kind: public.NetworkType.ValueType, physical_network: str, segmentation_id: int) -> str:
    """The key that it takes there; empty: none, as a flat one without uplink."""
    return str(segmentation_id) if kind in NUMBERS else physical_network


@dataclass(frozen=True, slots=True)
class Segments:
    """What the provider has for networks. `vlans`: physical network → the VLANs that may be chosen there.

    `tenant_type`: of networks whose type nobody tells. `underlay_mtu`: of the wires between hosts, in octets.
    """

    tenant_type: public.NetworkType.ValueType = FLAT
    underlay_mtu: int = 1500
    vnis: Sequence[range] = (NUMBERS[VXLAN],)
    vlans: Mapping[str, Sequence[range]] = field(default_factory=dict)

    def type_of(self, wanted: public.Network) -> public.NetworkType.ValueType:
        """Of a network whose type nobody tells: on a provider's segment tunnels don't go, so it is flat there."""
        return FLAT if wanted.physical_network and self.tenant_type == VXLAN else self.tenant_type

    def max_mtu(self, kind: public.NetworkType.ValueType) -> int:
        """Nothing is fragmented on the way. A provider's segment may carry more than the wires between hosts."""
        return self.underlay_mtu - VXLAN_OVERHEAD if kind == VXLAN else MAX_MTU

    def default_mtu(self, kind: public.NetworkType.ValueType) -> int:
        return min(self.underlay_mtu, self.max_mtu(kind))

    def check(self, fields: Fields, wanted: public.Network) -> None:
        """Refuses what doesn't fit together. Without a type, as one that is flat."""
        kind = wanted.type or FLAT
        if kind not in TYPES.values():
            fields.refuse("type", f"give one of {', '.join(map(public.NetworkType.Name, TYPES.values()))}")
            kind = FLAT
        if wanted.physical_network:
            fields.label("physical_network", wanted.physical_network)
        if wanted.mtu:
            fields.between("mtu", wanted.mtu, MIN_MTU, self.max_mtu(kind), "octets")
        self._check_number(fields, wanted, kind)

    def _check_number(self, fields: Fields, wanted: public.Network, kind: public.NetworkType.ValueType) -> None:
        number = wanted.segmentation_id
        if kind == FLAT:
            if number:
                fields.refuse("segmentation_id", "a flat network has none: leave it out, or give type VLAN or VXLAN")
            return
        if kind == VXLAN and wanted.physical_network:
            fields.refuse("physical_network", "a VXLAN goes between hosts and is on none: leave it out")
        if number and number not in NUMBERS[kind]:
            valid = NUMBERS[kind]
            fields.refuse("segmentation_id", f"{number} is no number of {_WHAT[kind]}: give {valid[0]} to {valid[-1]}")
        if kind == VLAN and number and not wanted.physical_network:
            fields.refuse("physical_network", f"VLAN {number} of which? Name the provider's segment")

    def choices(self, wanted: public.Network) -> Mapping[str, Sequence[range]]:
        """Where a number may be taken from: physical network (empty for VXLAN) → ranges; nothing when it needs none, or
        it is given."""
        if wanted.type == FLAT or wanted.segmentation_id:
            return {}
        if wanted.type == VXLAN:
            return {"": self.vnis}
        if wanted.physical_network:
            return {wanted.physical_network: self.vlans.get(wanted.physical_network, ())}
        return self.vlans


DEFAULT_SEGMENTS = Segments()


def choose_number(ranges: Iterable[range], taken: Collection[int], rng: random.Random) -> int | None:
    """One of the numbers in the ranges, which don't overlap, that is not taken, each as likely as the others; None if
    there is none. Costs as much as `taken` is long, however many numbers there are."""
    places = list(ranges)
    spoken_for = sorted({place for number in taken if (place := _place(places, number)) is not None})
    free = sum(map(len, places)) - len(spoken_for)
    if free <= 0:
        return None
    chosen = rng.randrange(free)
    # The chosen one of the free is, counted among all, behind those taken before it.
    for place in spoken_for:
        if place > chosen:
            break
        chosen += 1
    for each in places:
        if chosen < len(each):
            return each[chosen]
        chosen -= len(each)
    raise IndexError("beyond the last range")


def _place(ranges: Iterable[range], number: int) -> int | None:
    before = 0
    for each in ranges:
        if number in each:
            return before + each.index(number)
        before += len(each)
    return None


def parse_ranges(text: str, within: range) -> tuple[range, ...]:
    """Ranges as "1:1000" or "100:199,300:399", both ends included. Raises ValueError."""
    found: list[range] = []
    for part in filter(None, map(str.strip, text.split(","))):
        first, colon, last = part.partition(":")
        made = range(int(first), int(last if colon else first) + 1)
        if not made or made[0] not in within or made[-1] not in within:
            raise ValueError(f"{part!r} is no range within {within[0]}:{within[-1]}")
        if any(made[0] <= other[-1] and other[0] <= made[-1] for other in found):
            raise ValueError(f"{part!r} overlaps another range")
        found.append(made)
    return tuple(found)


def parse_vlans(text: str) -> dict[str, tuple[range, ...]]:
    """VLANs by physical network: "physnet1:100:199,physnet1:300:399,physnet2:10:20". Raises ValueError."""
    parts: dict[str, list[str]] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        label, colon, span = part.partition(":")
        if not label or not colon or label.isdigit():
            raise ValueError(f"{part!r}: give <physical network>:<first>:<last>")
        parts.setdefault(label, []).append(span)
    return {label: parse_ranges(",".join(spans), NUMBERS[VLAN]) for label, spans in parts.items()}
