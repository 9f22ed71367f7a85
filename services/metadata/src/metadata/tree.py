"""The two trees that a guest can walk, made of what is known of it: pure.

OpenStack's (`/openstack/<version>/…`, JSON) and EC2's (`/<version>/meta-data/…`, one value per path). Sources: the
OpenStack Nova user guide, "Metadata", and the EC2 user guide, "Instance metadata categories".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from metadata.guest import Guest, Nic

DOMAIN = "novalocal"

OPENSTACK_VERSIONS = (
    "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27",
    "2020-10-14", "latest",
)  # fmt: skip
EC2_VERSIONS = (
    "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
    "2009-04-04", "latest",
)  # fmt: skip

# A directory maps names to directories and values; a value is text or bytes.
Tree = Mapping[str, Any]


class Directory(dict[str, Any]):
    """A level of a tree. `labels`: how an entry is listed when that is not its name."""

    def __init__(self, entries: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> None:
        super().__init__(entries)
        self._labels = dict(labels or {})

    def listing(self) -> str:
        """One entry a line, directories with a slash, as EC2 lists them."""
        return "\n".join(self._labels.get(name, _label(name, entry)) for name, entry in self.items())


def root(guest: Guest) -> Directory:
    """Everything, from `/` down."""
    openstack = _versions(OPENSTACK_VERSIONS, _openstack(guest))
    return _versions((*EC2_VERSIONS, "openstack"), _ec2(guest), openstack=openstack)


def find(tree: Directory, path: str) -> bytes | None:
    """What is at a path ("/latest/meta-data/"): a value, or a directory's listing; None when there is nothing."""
    entry: Any = tree
    for name in path.split("/"):
        if not name:
            continue
        if not isinstance(entry, Directory) or name not in entry:
            return None
        entry = entry[name]
    if isinstance(entry, Directory):
        return entry.listing().encode()
    return entry if isinstance(entry, bytes) else str(entry).encode()


def ec2_instance_id(guest: Guest) -> str:
    return f"i-{guest.instance_id.hex[-8:]}"


def hostname(guest: Guest) -> str:
    return f"{guest.created.hostname}.{DOMAIN}"


def _versions(names: Sequence[str], each: Directory, **others: Directory) -> Directory:
    """One tree under many names, which are listed bare; `others` replaces some."""
    return Directory({name: others.get(name, each) for name in names}, labels={name: name for name in names})


def _label(name: str, entry: Any) -> str:
    return f"{name}/" if isinstance(entry, Directory) else name


def _ec2(guest: Guest) -> Directory:
    entries: dict[str, Any] = {"meta-data": _ec2_meta_data(guest)}
    if guest.created.user_data:
        entries["user-data"] = guest.created.user_data
    return Directory(entries)


def _ec2_meta_data(guest: Guest) -> Directory:
    created = guest.created
    entries: dict[str, Any] = {
        "ami-id": f"ami-{created.image_id.replace('-', '')[-8:]}",
        "ami-launch-index": created.launch_index,
        "ami-manifest-path": "N/A",
        "block-device-mapping": Directory({"ami": "vda", "root": "/dev/vda"}),
        "hostname": hostname(guest),
        "instance-action": "none",
        "instance-id": ec2_instance_id(guest),
        "instance-type": created.flavor.display_name,
        "local-hostname": hostname(guest),
        "local-ipv4": guest.fixed_ip,
        "placement": Directory({"availability-zone": guest.zone}),
        "public-hostname": hostname(guest),
        "public-ipv4": "",
    }
    if created.public_key:
        key = Directory({"openssh-key": _one_line(created.public_key)})
        entries["public-keys"] = Directory({"0": key}, labels={"0": f"0={created.key_pair_name}"})
    entries["reservation-id"] = created.reservation_id
    return Directory(entries)


def _openstack(guest: Guest) -> Directory:
    entries: dict[str, Any] = {
        "meta_data.json": json.dumps(_meta_data(guest)),
        "network_data.json": json.dumps(_network_data(guest)),
        "vendor_data.json": "{}",
        "vendor_data2.json": "{}",
    }
    if guest.created.user_data:
        entries["user_data"] = guest.created.user_data
    return Directory(entries)


def _meta_data(guest: Guest) -> dict[str, Any]:
    created = guest.created
    document: dict[str, Any] = {
        "uuid": str(guest.instance_id),
        "name": created.display_name,
        "hostname": hostname(guest),
        "availability_zone": guest.zone,
        "launch_index": created.launch_index,
        "project_id": created.project_id,
        "devices": [],
        "meta": dict(created.metadata),
    }
    if created.public_key:
        key = _one_line(created.public_key)
        document["public_keys"] = {created.key_pair_name: key}
        document["keys"] = [{"name": created.key_pair_name, "type": "ssh", "data": key}]
    return document


def _network_data(guest: Guest) -> dict[str, Any]:
    """Interfaces that configure themselves by DHCP; the addresses are those that it will give."""
    servers = dict.fromkeys(server for nic in guest.nics for each in nic.nameservers for server in each)
    return {
        "links": [
            {
                "id": f"tap{nic.port_id.replace('-', '')[-11:]}",
                "vif_id": nic.port_id,
                "type": "bridge",
                "mtu": nic.mtu,
                "ethernet_mac_address": nic.mac_address,
            }
            for nic in guest.nics
        ],
        "networks": [each for index, nic in enumerate(guest.nics) for each in _networks(index, nic)],
        "services": [{"type": "dns", "address": server} for server in servers],
    }


def _networks(index: int, nic: Nic) -> list[dict[str, Any]]:
    return [
        {
            "id": f"network{index}" if place == 0 else f"network{index}-{place}",
            "type": "ipv4_dhcp",
            "link": f"tap{nic.port_id.replace('-', '')[-11:]}",
            "network_id": nic.network_id,
            "ip_address": address,
            "netmask": str(ip_network(cidr).netmask),
        }
        for place, (address, cidr) in enumerate(zip(nic.addresses, nic.cidrs, strict=False))
    ]


def _one_line(public_key: str) -> str:
    return f"{public_key.strip()}\n"
