"""EC2's tree: `/<version>/meta-data/…` with one value per path, and `/<version>/user-data`. Pure.

Sources: the EC2 user guide, "Instance metadata categories", and Nova's API of that name, which knows the versions up to
2009-04-04. Of the later ones there are those that change something here, and those that cloud-init looks for.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from functools import partial

from metadata.guest import Guest, Nic
from metadata.tree import Directory, Entry, Secret

LATEST = "latest"
VERSIONS = (
    "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
    "2009-04-04", "2011-01-01", "2016-09-02", "2018-09-24", "2021-03-23",
)  # fmt: skip

# The compute agent attaches the root disk as the first virtio disk.
_ROOT_DEVICE = "vda"
# Of a tag's key in a path: EC2's letters without "=", which stands for something else in a listing.
_TAG_LETTERS = frozenset(string.ascii_letters + string.digits + "+-.,_:@")


def tree(guest: Guest) -> Directory:
    """All versions."""
    names = (*VERSIONS, LATEST)
    return Directory({name: partial(_version, guest, name) for name in names}, listing=names)


def instance_id(guest: Guest) -> str:
    """`i-` and eight hexadecimal digits, the last of the uuid."""
    return _short_id("i", str(guest.instance_id))


def _version(guest: Guest, version: str) -> Directory:
    entries: dict[str, Entry] = {"meta-data": lambda: _meta_data(guest, version)}
    if guest.has_user_data:
        entries["user-data"] = Secret.USER_DATA
    return Directory(entries)


def _meta_data(guest: Guest, version: str) -> Directory:
    entries: dict[str, Entry] = {}
    for since, part in _SINCE:
        if version == LATEST or since <= version:
            entries.update(part(guest))
    return Directory(entries)


def _identity(guest: Guest) -> Mapping[str, Entry]:
    created = guest.created
    entries: dict[str, Entry] = {
        "ami-id": _short_id("ami", created.image_id),
        "ami-launch-index": str(created.launch_index),
        "ami-manifest-path": "N/A",
        "hostname": guest.fqdn,
        "instance-id": instance_id(guest),
        "local-ipv4": guest.fixed_ip,
        "reservation-id": created.reservation_id,
        "security-groups": "\n".join(guest.group_names),
    }
    if created.public_key:
        key = Directory({"openssh-key": guest.public_key})
        # The one listing that tells more than names: "0=" and the name of the key pair, without a slash.
        entries["public-keys"] = Directory({"0": key}, listing=[f"0={created.key_pair_name}"])
    return entries


def _names(guest: Guest) -> Mapping[str, Entry]:
    return {"local-hostname": guest.fqdn, "public-hostname": guest.fqdn, "public-ipv4": guest.floating_ip}


def _instance_type(guest: Guest) -> Mapping[str, Entry]:
    return {"instance-type": guest.created.flavor.display_name}


def _block_devices(guest: Guest) -> Mapping[str, Entry]:
    return {"block-device-mapping": Directory({"ami": _ROOT_DEVICE, "root": f"/dev/{_ROOT_DEVICE}"})}


def _placement(guest: Guest) -> Mapping[str, Entry]:
    return {"placement": Directory({"availability-zone": guest.zone})}


def _action(guest: Guest) -> Mapping[str, Entry]:
    return {"instance-action": "none"}


def _interfaces(guest: Guest) -> Mapping[str, Entry]:
    """What cloud-init makes the guest's network configuration of."""
    if not guest.nics:
        return {}
    macs = Directory({nic.mac_address: _interface(guest, number, nic) for number, nic in enumerate(guest.nics)})
    return {
        "mac": guest.nics[0].mac_address,
        "network": Directory({"interfaces": Directory({"macs": macs})}),
    }


def _interface(guest: Guest, number: int, nic: Nic) -> Directory:
    entries: dict[str, Entry] = {
        "device-number": str(number),
        "interface-id": _short_id("eni", nic.port_id),
        "local-hostname": guest.fqdn,
        "mac": nic.mac_address,
        "owner-id": guest.created.project_id,
        "security-groups": "\n".join(group.name for group in nic.security_groups),
    }
    if nic.floating_ips:
        entries |= {
            "ipv4-associations": Directory({each.address: each.fixed_address for each in nic.floating_ips}),
            "public-ipv4s": "\n".join(each.address for each in nic.floating_ips),
        }
    four = [fixed for fixed in nic.fixed_ips if not fixed.is_ipv6]
    six = [fixed for fixed in nic.fixed_ips if fixed.is_ipv6]
    if six:
        entries |= {
            "ipv6s": "\n".join(fixed.address for fixed in six),
            "subnet-ipv6-cidr-blocks": "\n".join(dict.fromkeys(fixed.subnet.cidr for fixed in six)),
        }
    if four:
        first = four[0].subnet
        entries |= {
            "local-ipv4s": "\n".join(fixed.address for fixed in four if fixed.subnet == first),
            "subnet-id": _short_id("subnet", first.subnet_id),
            "subnet-ipv4-cidr-block": first.cidr,
        }
    return Directory(entries)


def _tags(guest: Guest) -> Mapping[str, Entry]:
    """Keys with values, which are called properties here. Only those whose key can be a part of a path."""
    properties = {
        key: value
        for key, value in guest.created.metadata.items()
        if _TAG_LETTERS.issuperset(key) and key not in (".", "..")
    }
    return {"tags": Directory({"instance": Directory(properties)})} if properties else {}


_SINCE: tuple[tuple[str, Callable[[Guest], Mapping[str, Entry]]], ...] = (
    ("1.0", _identity),
    ("2007-01-19", _names),
    ("2007-08-29", _instance_type),
    ("2007-12-15", _block_devices),
    ("2008-02-01", _placement),
    ("2008-09-01", _action),
    ("2011-01-01", _interfaces),
    ("2021-03-23", _tags),
)


def _short_id(prefix: str, uuid: str) -> str:
    return f"{prefix}-{uuid.replace('-', '')[-8:]}"
