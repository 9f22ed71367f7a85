"""Guests for the tests of trees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from cirra.compute.v1.compute_pb2 import FlavorSummary
from cirra.compute.v1.events_pb2 import InstanceCreated
from metadata.guest import FixedIp, FloatingIp, Guest, Nic, SecurityGroup, Subnet
from metadata.openstack import Cloud

INSTANCE = UUID("0197a000-0000-7000-8000-0000000000ff")
KEY = "ssh-ed25519 AAAAC3Nza demo@cloud"
VENDOR_DATA = {"cloud-init": "#cloud-config\ntimezone: UTC\n", "site": "north"}
CLOUD = Cloud(random_bytes=lambda count: b"\x07" * count, vendor_data=VENDOR_DATA)

LAN = Subnet(
    subnet_id="0197a000-0000-7000-8000-00000000cc01",
    cidr="192.168.1.0/24",
    gateway="192.168.1.1",
    dhcp=True,
    nameservers=("192.168.1.2", "9.9.9.9"),
)
STORAGE = Subnet(
    subnet_id="0197a000-0000-7000-8000-00000000cc02",
    cidr="10.20.0.0/20",
    gateway="10.20.0.1",
    dhcp=False,
    nameservers=("9.9.9.9",),
)
WEB = SecurityGroup("0197a000-0000-7000-8000-00000000dd01", "web")
DEFAULT = SecurityGroup("0197a000-0000-7000-8000-00000000dd02", "default")
FIRST = Nic(
    port_id="0197a000-0000-7000-8000-00000000aa01",
    network_id="0197a000-0000-7000-8000-00000000bb01",
    mac_address="fa:16:3e:00:00:01",
    mtu=1450,
    fixed_ips=(FixedIp("192.168.1.101", LAN), FixedIp("192.168.1.102", LAN)),
    security_groups=(DEFAULT, WEB),
    floating_ips=(FloatingIp("203.0.113.7", "192.168.1.101"), FloatingIp("203.0.113.5", "192.168.1.102")),
)
SECOND = Nic(
    port_id="0197a000-0000-7000-8000-00000000aa02",
    network_id="0197a000-0000-7000-8000-00000000bb02",
    mac_address="fa:16:3e:00:00:02",
    mtu=9000,
    fixed_ips=(FixedIp("10.20.0.7", STORAGE),),
    security_groups=(DEFAULT,),
)


def created(**changes: Any) -> InstanceCreated:
    """As most guests; *changes*: fields of the event."""
    usual: dict[str, Any] = dict(
        project_id="0197a000-0000-7000-8000-0000000000dd",
        display_name="Demo",
        hostname="demo",
        flavor=FlavorSummary(display_name="m1.small"),
        image_id="0197a000-0000-7000-8000-0000000000ab",
        key_pair_name="mine",
        public_key=KEY,
        metadata={"role": "web", "a/b": "not for a path"},
        tags=["blue", "green"],
        reservation_id="r-1",
    )
    return InstanceCreated(**usual | changes)


GUEST = Guest(instance_id=INSTANCE, created=created(), host_zone="north-1", has_user_data=True, nics=(FIRST, SECOND))
# As little as a guest can have.
BARE = replace(
    GUEST,
    created=InstanceCreated(project_id="p", display_name="bare", hostname="bare", reservation_id="r-2"),
    host_zone="",
    has_user_data=False,
    nics=(),
)
