"""The trees that guests walk."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from cirra.compute.v1.compute_pb2 import FlavorSummary
from cirra.compute.v1.events_pb2 import InstanceCreated
from metadata.guest import Guest, Nic
from metadata.tree import OPENSTACK_VERSIONS, find, root

INSTANCE = UUID("0197a000-0000-7000-8000-0000000000ff")
KEY = "ssh-ed25519 AAAAC3Nza demo@cloud"
NIC = Nic(
    port_id="0197a000-0000-7000-8000-00000000aa01",
    network_id="0197a000-0000-7000-8000-00000000bb01",
    mac_address="fa:16:3e:00:00:01",
    mtu=1450,
    addresses=("192.168.1.101",),
    cidrs=("192.168.1.0/24",),
    gateways=("192.168.1.1",),
    nameservers=(("192.168.1.2", "9.9.9.9"),),
)


def guest(**changes: object) -> Guest:
    created = InstanceCreated(
        project_id="p",
        display_name="Demo",
        hostname="demo",
        flavor=FlavorSummary(display_name="m1.small"),
        image_id="0197a000-0000-7000-8000-0000000000ab",
        key_pair_name="mine",
        public_key=KEY,
        user_data=b"\x1f\x8b\x00binary",
        metadata={"role": "web"},
        reservation_id="r-1",
    )
    for name, value in changes.items():
        setattr(created, name, value)
    return Guest(INSTANCE, created, "nova", (NIC,), NIC.port_id)


def read(path: str, of: Guest | None = None) -> bytes | None:
    return find(root(of or guest()), path)


def test_ec2_lists_what_operators_look_for() -> None:
    listing = read("/2009-04-04/meta-data")
    assert listing is not None
    assert listing.decode().splitlines() == [
        "ami-id", "ami-launch-index", "ami-manifest-path", "block-device-mapping/", "hostname", "instance-action",
        "instance-id", "instance-type", "local-hostname", "local-ipv4", "placement/", "public-hostname", "public-ipv4",
        "public-keys/", "reservation-id",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/latest/meta-data/instance-id", b"i-000000ff"),
        ("/latest/meta-data/local-ipv4", b"192.168.1.101"),
        ("/latest/meta-data/hostname", b"demo.novalocal"),
        ("/latest/meta-data/instance-type", b"m1.small"),
        ("/latest/meta-data/placement/availability-zone", b"nova"),
        ("/latest/meta-data/public-keys/", b"0=mine"),
        ("/latest/meta-data/public-keys/0/", b"openssh-key"),
        ("/latest/meta-data/public-keys/0/openssh-key", f"{KEY}\n".encode()),
        ("/2009-04-04/meta-data/public-keys/0/openssh-key", f"{KEY}\n".encode()),
        ("/latest/user-data", b"\x1f\x8b\x00binary"),
        ("/openstack/latest/user_data", b"\x1f\x8b\x00binary"),
        ("/openstack/2012-08-10/vendor_data.json", b"{}"),
        ("/latest", b"meta-data/\nuser-data"),
    ],
)
def test_single_values(path: str, content: bytes) -> None:
    assert read(path) == content


def test_version_lists() -> None:
    assert (read("/openstack") or b"").decode().split() == list(OPENSTACK_VERSIONS)
    assert {"2009-04-04", "latest"} <= set((read("/") or b"").decode().split())


def test_meta_data_json_is_what_cloud_init_expects() -> None:
    document = json.loads(read("/openstack/latest/meta_data.json") or b"")
    assert document["uuid"] == str(INSTANCE)
    assert document["hostname"] == "demo.novalocal"
    assert document["public_keys"] == {"mine": f"{KEY}\n"}
    assert document["meta"] == {"role": "web"}


def test_network_data_json_tells_interfaces_by_mac_and_dns() -> None:
    document = json.loads(read("/openstack/latest/network_data.json") or b"")
    [link], [network] = document["links"], document["networks"]
    assert (link["ethernet_mac_address"], link["mtu"]) == ("fa:16:3e:00:00:01", 1450)
    assert (network["type"], network["link"], network["ip_address"]) == ("ipv4_dhcp", link["id"], "192.168.1.101")
    assert [service["address"] for service in document["services"]] == ["192.168.1.2", "9.9.9.9"]


@pytest.mark.parametrize("path", ["/latest/user-data", "/openstack/latest/user_data"])
def test_no_user_data_is_not_found(path: str) -> None:
    assert read(path, guest(user_data=b"")) is None


@pytest.mark.parametrize("path", ["/latest/meta-data/secret", "/latest/meta-data/hostname/deeper", "/../etc"])
def test_what_is_not_there_is_none(path: str) -> None:
    assert read(path) is None


def test_without_a_key_pair_no_keys_are_listed() -> None:
    keyless = guest(public_key="", key_pair_name="")
    assert b"public-keys" not in (read("/latest/meta-data/", keyless) or b"")
    assert "public_keys" not in json.loads(read("/openstack/latest/meta_data.json", keyless) or b"")
